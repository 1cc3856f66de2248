import pytest

from tests.helpers.tiny_training import Lists, train_base


@pytest.fixture(scope="package")
def lists(tmp_path_factory):
    """The tiny scenes."""
    return Lists.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="package")
def base(lists, tmp_path_factory):
    """The model of a base step."""
    return train_base(lists, tmp_path_factory.mktemp("base") / "model.safetensors")
