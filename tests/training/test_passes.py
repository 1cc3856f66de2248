import copy
import dataclasses
import math

import pytest
import torch

from cssegcore.method.after.weight_fusion import WeightFusion
from cssegcore.method.statistics import Accumulator, Statistic
from cssegcore.models import checkpoint
from cssegcore.runtime.resume import ResumeFile
from tests.helpers.reference_training import batches
from tests.helpers.tiny_training import CPU, Follower, plan, run, state

EPOCHS = 2


class KilledError(Exception):
    """Stands for a kill."""


@dataclasses.dataclass(frozen=True)
class Looking(Statistic):
    """Sums what it is shown in each pass, and remembers in which order it was asked."""

    calls: list = dataclasses.field(default_factory=list)
    die: str = ""

    needs_old_pass = True
    needs_final_pass = True

    def start(self, context):
        return LookingAccumulator(self, context)


class LookingAccumulator(Accumulator):
    def __init__(self, part, context):
        self.part, self.context, self.previous = part, context, context.previous or {}
        self.sums = {"old": torch.zeros(2), "along": torch.zeros(2), "final": torch.zeros(2)}

    def prepare(self, batches):
        self.look("old", batches)

    def update_batch(self, outputs, labels):
        self.part.calls.append("along")
        self.sums["along"] = self.sums["along"] + summed(outputs, labels)

    def conclude(self, batches):
        self.look("final", batches)

    def look(self, name, batches):
        self.part.calls.append(name)
        for outputs, labels in batches:
            assert not outputs.logits.requires_grad
            self.sums[name] = self.sums[name] + summed(outputs, labels)
            if self.part.die == name:
                raise KilledError

    @property
    def state(self):
        return dict(self.sums)

    @state.setter
    def state(self, state):
        self.sums = dict(state)

    def result(self):
        self.part.calls.append("result")
        return dict(self.sums)


def summed(outputs, labels):
    return torch.stack([outputs.logits.sum(), labels.sum().float()]).detach()


def watched(lists, base, *, pieces=1, die="", after=None, step="step1"):
    """The first increment of fine-tuning, looked at; the old model is there for that alone."""
    how = plan("ft", epochs=EPOCHS, optimizer={"batch_size": 2, "accumulate": pieces})
    trainer = lists.prepare(how, step, base if step == "step1" else None)
    part = Looking(die=die)
    method = dataclasses.replace(trainer.method, statistics={"looking": part})
    if after:
        method = dataclasses.replace(method, after=after)
    old = checkpoint.load_model(base, CPU).segmenter.requires_grad_(False)
    weights = old.state_dict() if after else {}
    old = old if step == "step1" else None
    return dataclasses.replace(trainer, method=method, old=old, old_weights=weights), part


@pytest.fixture(scope="module")
def looked(lists, base, tmp_path_factory):
    """A training that was looked at, its statistic, and what it gave."""
    trainer, part = watched(lists, base)
    folder = tmp_path_factory.mktemp("looked")
    return trainer, part, run(trainer, folder / "r")


def in_passes(trainer, network, *epochs):
    """Sums a network's outputs and the labels over the views of these epochs."""
    count = len(trainer.data.images) // 2
    views = list(batches(trainer, max(epochs) + 1))
    views = [b for e in epochs for b in views[e * count : (e + 1) * count]]
    with torch.no_grad():
        return sum(summed(network(b.images), b.annotated) for b in views)


def test_each_pass_has_its_time_and_views_of_its_own(looked):
    trainer, part, trained = looked
    count = EPOCHS * (len(trainer.data.images) // 2)
    assert part.calls == ["old", *["along"] * count, "final", "result"]
    sums, network = trained.statistics["looking"], copy.deepcopy(trainer.segmenter)
    assert torch.allclose(sums["old"], in_passes(trainer, trainer.old, EPOCHS), rtol=1e-4)
    wanted = in_passes(trainer, network.eval(), EPOCHS + 1)
    assert torch.allclose(sums["final"], wanted, rtol=1e-4)
    assert not torch.allclose(wanted, in_passes(trainer, network, EPOCHS), rtol=1e-3)
    assert sums["along"][1] == in_passes(trainer, network, *range(EPOCHS))[1]


def test_looking_changes_nothing(looked, lists, base, tmp_path):
    trainer, _, trained = looked
    plain = lists.prepare(plan("ft", epochs=EPOCHS), "step1", base)
    assert run(plain, tmp_path / "r").rows == trained.rows
    assert state(plain.segmenter) == state(trainer.segmenter)
    assert trainer.segmenter.training


def test_pieces_are_looked_at_one_by_one(looked, lists, base, tmp_path):
    trainer, _ = watched(lists, base, pieces=2)
    sums = run(trainer, tmp_path / "r").statistics["looking"]
    assert torch.allclose(sums["old"], looked[2].statistics["looking"]["old"], rtol=1e-5)


def test_a_base_step_has_no_old_model_to_look_at(lists, base, tmp_path):
    trainer, part = watched(lists, base, step="step0")
    run(trainer, tmp_path / "r")
    assert part.calls[0] == "along"
    assert part.calls[-2:] == ["final", "result"]


def test_the_last_pass_is_of_the_weights_that_are_saved(looked, lists, base, tmp_path):
    trainer, _ = watched(lists, base, after=WeightFusion())
    sums = run(trainer, tmp_path / "r").statistics["looking"]
    plain = looked[2].statistics["looking"]
    assert torch.equal(sums["along"], plain["along"])
    assert not torch.allclose(sums["final"], plain["final"], rtol=1e-2)
    fused = in_passes(trainer, trainer.segmenter.eval(), EPOCHS + 1)
    assert torch.allclose(sums["final"], fused, rtol=1e-4)
    share = math.sqrt(1 / 4)
    name = "extractor.norm.weight"
    old, as_trained = trainer.old_weights[name], looked[0].segmenter.state_dict()[name]
    mixed = (1 - share) * old + share * as_trained
    assert torch.allclose(trainer.segmenter.state_dict()[name], mixed, atol=1e-6)


@pytest.mark.parametrize("died", ["old", "final"])
def test_killed_in_a_pass_it_goes_on_to_the_same_bytes(looked, lists, base, tmp_path, died):
    whole, _, trained = looked
    cut, _ = watched(lists, base, die=died)
    resume = ResumeFile(tmp_path / "r")
    with pytest.raises(KilledError):
        cut.train(resume, Follower().hooks())
    assert resume.path.exists() == (died == "final")
    again, part = watched(lists, base)
    result = again.train(resume, Follower().hooks())
    assert result.rows == trained.rows
    assert part.calls[0] == ("final" if died == "final" else "old")
    assert state(again.segmenter) == state(whole.segmenter)
    told = result.statistics["looking"]
    wanted = trained.statistics["looking"]
    assert {k: v.tolist() for k, v in told.items()} == {k: v.tolist() for k, v in wanted.items()}
