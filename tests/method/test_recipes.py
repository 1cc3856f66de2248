import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from cssegcore.core.normalization import IMAGENET
from cssegcore.data.batches import evaluation_batches
from cssegcore.method.losses import LossInputs
from cssegcore.models import checkpoint
from cssegcore.runtime.resume import ResumeFile
from cssegcore.training.setup import StageInputs, TrainingParams
from cssegcore.training.trainer import Trained, Trainer
from tests.helpers.fake_gpu import GPU, iterations, on_gpu
from tests.helpers.sync_detector import Watch
from tests.helpers.tiny_training import (
    AUGMENTATIONS,
    BACKBONE,
    CLASSES,
    CPU,
    METHODS,
    MODEL,
    STEPS,
    Follower,
    Lists,
    model_of,
    plan,
    run,
    state,
)

pytestmark = pytest.mark.slow

LEARNERS = ("ft", "mib", "plop", "sdr_plop", "ssul_m", "deepinversion")
"""Recipes that train until they have learned, one of each kind; the others only run."""
EPOCHS = {"step0": 60, "step1": 25, "step2": 25}
LR = {"step0": 0.1, "step1": 0.01, "step2": 0.01}
CALM = {"clip": 1}  # the weights of the published recipes are for a tenth of these rates
WIDER = MODEL | {"backbone": BACKBONE | {"widths": [16, 16, 16]}, "depth": 16}
WHOLE = AUGMENTATIONS | {"size": 32, "area": [0.7, 1]}


@dataclasses.dataclass
class Learned:
    """A step after its training, and how far it was from its labels before and after."""

    how: TrainingParams
    sources: StageInputs
    trainer: Trainer
    trained: Trained
    path: Path
    before: float
    after: float


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=METHODS)
def learned(request, lists, tmp_path_factory):
    """What a recipe made of three steps, each from the file of the one before."""
    folder, previous = tmp_path_factory.mktemp(request.param), None
    steps = {}
    for step in STEPS:
        how = plan(
            request.param,
            EPOCHS[step] if request.param in LEARNERS else 1,
            lr=LR[step],
            model=model_of(request.param, WIDER),
            augmentation=WHOLE,
            optimizer=CALM,
        )
        if "inversion" in how.method["replay"]:  # rehearsed noise would outweigh all labels
            how.method["replay"]["inversion"]["phases"] = [[1, 40]]
        sources = lists.sources(how, step, previous, folder)
        trainer = lists.prepare(how, step, previous, sources)
        before = distance(trainer)
        trained = run(trainer, folder / f"{step}.resume")
        previous = folder / f"{step}.safetensors"
        checkpoint.save(previous, trainer.segmenter, trainer.model, trained.statistics)
        steps[step] = Learned(how, sources, trainer, trained, previous, before, distance(trainer))
    return steps


@torch.no_grad()
def distance(trainer):
    """Returns what the terms that read labels make of the step's images, all in one batch."""
    network = copy.deepcopy(trainer.segmenter).train()
    ((_, batch),) = evaluation_batches(trainer.data.images, len(trainer.data.images), CPU, IMAGENET)
    seen = LossInputs(
        network(batch.images), None, batch.labels, batch.annotated, trainer.data.num_old
    )
    terms = [t for t in trainer.method.losses.values() if t.is_supervised and not t.needs_old]
    return sum(float(term(seen)) for term in terms)


@pytest.mark.parametrize("step", STEPS)
class TestEveryRecipe:
    def test_runs_with_its_terms_and_learns(self, learned, step):
        rows, epochs = learned[step].trained.rows, learned[step].how.epochs
        assert [row["epoch"] for row in rows] == list(range(1, epochs + 1))
        assert all(math.isfinite(value) for row in rows for value in row.values())
        method = learned[step].trainer.method
        terms = [*method.losses, *method.replayed, *method.penalties]
        assert list(rows[0]) == ["epoch", "lr", "loss", *terms]
        assert epochs == 1 or learned[step].after < 0.99 * learned[step].before

    def test_outputs_are_the_classes_seen(self, learned, step):
        loaded = checkpoint.load_model(learned[step].path, CPU)
        assert state(loaded.segmenter) == state(learned[step].trainer.segmenter)
        assert loaded.segmenter.classes == CLASSES[step]
        seen = ["background", *(name for s in STEPS if s <= step for name in STEPS[s])]
        assert list(loaded.model.classes.names) == seen
        assert loaded.model.step == step

    def test_what_was_gathered_goes_into_the_file(self, learned, step):
        statistics = checkpoint.load_model(learned[step].path, CPU).statistics
        assert set(statistics) == set(learned[step].trainer.method.statistics)
        for name, gathered in learned[step].trained.statistics.items():
            assert set(statistics[name]) == set(gathered)
            for key, value in gathered.items():
                assert value.isfinite().all()
                assert torch.equal(statistics[name][key], value)


@pytest.mark.parametrize(("step", "pieces"), [("step0", 1), ("step1", 2)])
def test_no_iteration_waits_for_the_device(learned, lists, step, pieces, tmp_path):
    previous = learned["step0"].path if step == "step1" else None
    optimizer = {**learned[step].how.optimizer, "accumulate": pieces}
    how = dataclasses.replace(learned[step].how, epochs=1, optimizer=optimizer)
    trainer, watch = lists.prepare(how, step, previous, learned[step].sources), Watch()
    hooks = dataclasses.replace(Follower().hooks(), progress=watch.batches)
    trainer.train(ResumeFile(tmp_path / "resume"), hooks)
    assert watch.operations > 100
    assert watch.seen == []


def test_waiting_is_noticed():
    values = torch.rand(3, requires_grad=True)
    with Watch() as watch:
        values[values > 2].sum().backward()
        values.sum().item()
        values[torch.tensor([0, 2])] * 2
        values.new_tensor(1)
    assert watch.seen == ["index", "index_put", "_local_scalar_dense", "tensor", "new_tensor"]


@pytest.mark.parametrize("step", ["step0", "step1"])
def test_nothing_of_the_host_meets_what_is_on_a_gpu(learned, lists, step):
    previous = learned["step0"].path if step == "step1" else None
    # autocast looks for a real GPU
    optimizer = {**learned[step].how.optimizer, "accumulate": 2, "amp": False}
    how = dataclasses.replace(learned[step].how, optimizer=optimizer)
    with on_gpu(lists.prepare(how, step, previous, learned[step].sources)) as trainer:
        given = iterations(trainer, 2)
    assert {tensor.device for tensor in given} == {GPU}


def test_a_tensor_of_the_host_is_noticed(lists, monkeypatch):
    def forgetful(logits, labels, **_):
        return (logits.sum((2, 3)) * torch.rand(logits.shape[1], device="cpu")).sum()

    monkeypatch.setattr("torch.nn.functional.cross_entropy", forgetful)
    trainer = lists.prepare(plan("ft", optimizer={"amp": False}), "step0")
    with on_gpu(trainer) as moved, pytest.raises(RuntimeError, match="devices"):
        iterations(moved, 1)


def test_in_bfloat16_the_first_loss_is_the_same(learned, lists, tmp_path, monkeypatch):
    """On a CPU for once, much as convolutions run on a GPU."""
    how, previous = dataclasses.replace(learned["step1"].how, epochs=1, lr=1e-6), learned["step0"]

    def trained(resume):
        trainer = lists.prepare(how, "step1", previous.path, learned["step1"].sources)
        return run(trainer, tmp_path / resume)

    plain = trained("plain")
    half = torch.autocast("cpu", torch.bfloat16)
    monkeypatch.setattr("cssegcore.training.objective.Objective.autocast", lambda *_: half)
    halves = trained("halves")
    assert halves.rows != plain.rows
    assert loss_that_keeps_its_digits(halves.rows[0]) == pytest.approx(
        loss_that_keeps_its_digits(plain.rows[0]), rel=0.01
    )
    for name, gathered in halves.statistics.items():
        for key, value in gathered.items():
            assert value.isfinite().all(), (name, key)
            assert value.dtype == plain.statistics[name][key].dtype, (name, key)


def loss_that_keeps_its_digits(row):
    """Returns the loss without STAR's separation, which divides by a tiny difference here."""
    return row["loss"] - row.get("separation", 0.0)


class KilledError(Exception):
    """Stands for a kill."""


def test_a_training_that_is_cut_goes_on_to_the_same_bytes(learned, lists, tmp_path):
    how = dataclasses.replace(learned["step1"].how, epochs=2)

    def trainer():
        return lists.prepare(how, "step1", learned["step0"].path, learned["step1"].sources)

    def cut(batches, _):
        """Kills in the middle of the second epoch."""
        begun.append(batches)
        return batches if len(begun) < 2 else killed(batches)

    def killed(batches):
        yield next(batches)
        raise KilledError

    whole, fixed, begun = trainer(), trainer(), []
    expected = run(whole, tmp_path / "whole")
    resume, hooks = ResumeFile(tmp_path / "cut"), Follower().hooks()
    with pytest.raises(KilledError):
        trainer().train(resume, dataclasses.replace(hooks, progress=cut))
    assert len(resume.load(CPU)["rows"]) == 1
    got = fixed.train(resume, hooks)
    assert got.rows == expected.rows
    assert state(fixed.segmenter) == state(whole.segmenter)
    assert bytes_of(got.statistics) == bytes_of(expected.statistics)


def bytes_of(statistics):
    return {
        (name, key): value.numpy().tobytes()
        for name, gathered in statistics.items()
        for key, value in gathered.items()
    }


def test_there_are_recipes():
    assert {*LEARNERS, "joint"} < set(METHODS)
