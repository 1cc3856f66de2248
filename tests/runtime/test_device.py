import pytest

from cssegcore.core.errors import InputError
from cssegcore.runtime.device import choose_device
from tests.helpers.tiny_training import CPU


class TestDevice:
    def test_environment_chooses(self, monkeypatch):
        monkeypatch.setenv("CSSEGCORE_DEVICE", "cpu")
        assert choose_device() == CPU

    @pytest.mark.parametrize("wanted", ["gpu", "cuda:99", "meta"])
    def test_a_device_that_is_not_there(self, monkeypatch, wanted):
        monkeypatch.setenv("CSSEGCORE_DEVICE", wanted)
        with pytest.raises(InputError, match=f"CSSEGCORE_DEVICE is '{wanted}'") as refused:
            choose_device()
        assert "\n" not in str(refused.value)
