"""Recipes of convolutional networks on class tokens, over two short steps."""

import numpy as np
import pytest
import torch

from cssegcore import api
from cssegcore.models import checkpoint
from tests.helpers.tiny_training import CPU, VIT_MODEL, Lists, plan, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The files of two steps, trained as `ewf_mib` says."""
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("tokens")
    lists, previous, paths = Lists.write(folder / "lists"), None, []
    for step in ("step0", "step1"):
        trainer = lists.prepare(plan("ewf_mib", 1, model=VIT_MODEL, lr=0.01), step, previous)
        trained = run(trainer, folder / f"{step}.resume")
        previous = folder / f"{step}.safetensors"
        checkpoint.save(previous, trainer.segmenter, trainer.model, trained.statistics)
        paths.append(previous)
    return paths


def test_old_tokens_stand_still_and_all_else_moves(models):
    before, after = (checkpoint.load_model(path, CPU).segmenter.state_dict() for path in models)
    assert set(after) - set(before) == {f"heads.1.{n}" for n in ("token", "scale", "shift")}
    for name in ("heads.0.token", "heads.0.scale"):  # fused with themselves, up to rounding
        assert torch.allclose(before[name], after[name], rtol=1e-6, atol=0)
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {name for name in before if name.startswith("extractor.")} <= moved


def test_a_photograph_of_any_size_is_labelled(models):
    model = api.load(models[-1], "cpu")
    photographs = [np.full((h, w, 3), 90, np.uint8) for h, w in ((16, 16), (21, 30))]
    found = api.predict(model, photographs)
    assert [one.labels.shape for one in found] == [(16, 16), (21, 30)]
    assert all((one.labels < 4).all() for one in found)
