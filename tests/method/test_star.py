"""What STAR does over a whole step, beside the formulas of its parts."""

import dataclasses

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from cssegcore.data.batches import iterations
from cssegcore.models import checkpoint
from cssegcore.models.inference import infer
from cssegcore.runtime.resume import ResumeFile
from tests.helpers.reference_training import batches
from tests.helpers.tiny_training import CPU, Follower, Lists, plan, run, state

pytestmark = pytest.mark.slow

STATISTIC = "class_features"


class KilledError(Exception):
    """Stands for a kill."""


@dataclasses.dataclass
class Steps:
    """The base step's file, and the first increment of each setting."""

    lists: Lists
    base: object
    saved: object
    trainer: object
    trained: object


def planned(**changed):
    """Two epochs without weight decay, at a rate at which the large factors do no harm."""
    section = {"weight_decay": 0.0, **changed.pop("optimizer", {})}
    return plan("star", epochs=2, lr=0.01, optimizer=section, **changed)


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("star")
    lists = Lists.write(folder)
    base = lists.prepare(dataclasses.replace(planned(), lr=0.1), "step0")
    trained = run(base, folder / "base.resume")
    path = folder / "step0.safetensors"
    checkpoint.save(path, base.segmenter, base.model, trained.statistics)
    trainer = lists.prepare(planned(), "step1", path)
    return Steps(lists, base, path, trainer, run(trainer, folder / "step1.resume"))


def gathered(path):
    return checkpoint.load_model(path, CPU).statistics[STATISTIC]


def test_the_base_step_saves_what_its_saved_network_makes_of_one_more_epoch(steps):
    """By the definition: directions of summed unit vectors, at the middle of each place."""
    loaded, saved = checkpoint.load_model(steps.saved, CPU), gathered(steps.saved)
    count = iterations(steps.base.data.images, 2)
    views = list(batches(steps.base, 4))[3 * count :]
    sums, counts = torch.zeros(2, 8), torch.zeros(3)
    for batch in views:
        top = infer(loaded.segmenter, batch.images).features.decoder_out
        stride = batch.images.shape[-1] // top.shape[-1]
        middle = batch.annotated[:, stride // 2 :: stride, stride // 2 :: stride]
        for output in range(3):
            counts[output] += (middle == output).sum()
            if output:
                found = top.movedim(1, -1)[middle == output]
                sums[output - 1] += (found / found.norm(dim=1, keepdim=True)).sum(0)
    assert saved["counts"].tolist() == counts.tolist()
    assert counts.min() > 0
    wanted = sums / sums.norm(dim=1, keepdim=True)
    assert torch.allclose(saved["prototypes"], wanted, atol=1e-5)


def test_an_increment_hands_old_rows_on_to_the_bit_and_adds_its_own(steps):
    before, after = gathered(steps.saved), steps.trained.statistics[STATISTIC]
    assert torch.equal(after["prototypes"][:2], before["prototypes"])
    assert torch.equal(after["norms"][:, :2], before["norms"])
    assert torch.equal(after["spread"][:2], before["spread"])
    assert torch.equal(after["counts"][1:3], before["counts"][1:])
    assert after["counts"][3] > 0
    assert {name: tuple(value.shape) for name, value in after.items()} == {
        "prototypes": (3, 8),
        "norms": (2, 3),
        "spread": (3, 8),
        "counts": (4,),
    }


def test_old_heads_and_norms_stand_still_and_the_rest_learns(steps):
    start = state(checkpoint.load_model(steps.saved, CPU).segmenter)
    end = state(steps.trainer.segmenter)
    moved = {name for name in start if start[name] != end[name]}
    modules = steps.trainer.segmenter.named_modules()
    norms = {name for name, module in modules if isinstance(module, _BatchNorm)}
    held = {n for n in start if n.startswith("heads.0.") or n.rpartition(".")[0] in norms}
    assert moved == start.keys() - held
    assert any(name.startswith("extractor.backbone") for name in moved)


def test_weight_decay_alone_moves_old_heads(steps, tmp_path):
    trainer = steps.lists.prepare(planned(optimizer={"weight_decay": 0.1}), "step1", steps.saved)
    before = trainer.segmenter.heads[0].classifier.weight.detach().clone()
    batch = next(batches(trainer, 1))
    trainer.gradients(trainer.begin().objective, batch)
    assert (trainer.segmenter.heads[0].classifier.weight.grad == 0).all()
    assert (trainer.segmenter.heads[1].classifier.weight.grad != 0).any()
    run(trainer, tmp_path / "r")
    shrunk = trainer.segmenter.heads[0].classifier.weight / before
    assert torch.allclose(shrunk, shrunk[0, 0, 0, 0].expand_as(shrunk), atol=1e-5)
    assert 0.9 < shrunk[0, 0, 0, 0] < 1


def test_something_is_replayed(steps):
    running = steps.trainer.begin()
    assert len(running.objective.accumulators[STATISTIC].state["replayed"]) == 0
    kept = ResumeFile(steps.saved.parent / "step1.resume").load(CPU)["statistics"][STATISTIC]
    assert set(kept["replayed"].tolist()) == {0, 1}
    assert kept["extra_background"] > 0


def test_killed_after_an_epoch_it_draws_the_same_vectors_again(steps, tmp_path):
    cut, resume = steps.lists.prepare(planned(), "step1", steps.saved), ResumeFile(tmp_path / "r")

    def die(row):
        raise KilledError

    with pytest.raises(KilledError):
        cut.train(resume, dataclasses.replace(Follower().hooks(), epoch=die))
    again = steps.lists.prepare(planned(), "step1", steps.saved)
    assert again.train(resume, Follower().hooks()).rows == steps.trained.rows
    assert state(again.segmenter) == state(steps.trainer.segmenter)


def test_disjoint_images_have_formulas_of_their_own(steps, tmp_path):
    how = planned()
    how.method["statistics"][STATISTIC]["setting"] = "disjoint"
    trainer = steps.lists.prepare(how, "step1", steps.saved)
    after = run(trainer, tmp_path / "r").statistics[STATISTIC]["counts"]
    overlapped = steps.trained.statistics[STATISTIC]["counts"]
    assert after[0] > overlapped[0]
    assert (after[1:3] >= gathered(steps.saved)["counts"][1:]).all()
    assert after[3] == overlapped[3]


def test_the_next_step_starts_from_all_rows(steps, tmp_path):
    path = tmp_path / "step1.safetensors"
    checkpoint.save(path, steps.trainer.segmenter, steps.trainer.model, steps.trained.statistics)
    trainer = steps.lists.prepare(planned(), "step2", path)
    held = trainer.begin().objective.accumulators[STATISTIC].state
    saved = gathered(path)
    assert all(torch.equal(held[name], saved[name]) for name in saved)
