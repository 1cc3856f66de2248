import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.after import After
from cssegcore.method.after.weight_fusion import WeightFusion, share_of_new
from cssegcore.models import checkpoint
from cssegcore.runtime.resume import ResumeFile
from cssegcore.training.trainer import Trainer
from tests.helpers.tiny_training import CPU, Follower, Lists, plan, run, state, train_base

SHAPES = {"kernel": (2, 3, 3), "norm.running_mean": (4,), "norm.running_var": (4,), "bias": (5,)}
COUNTER = "norm.num_batches_tracked"


def endpoints(seed, dtype=torch.float64):
    """Returns the tensors of a small model before and after a step that adds a head."""
    rng = np.random.default_rng(seed)

    def drawn(scale, shape):
        return torch.tensor(rng.normal(0, scale, shape), dtype=dtype)

    old = {name: drawn(1, shape) for name, shape in SHAPES.items()}
    new = {name: tensor + drawn(0.3, tensor.shape) for name, tensor in old.items()}
    new["head.bias"] = drawn(1, 2)
    return old | {COUNTER: torch.tensor(7)}, new | {COUNTER: torch.tensor(12)}


def plain_fusion(old, new, num_old, num_new, kept=()):
    """Fuses value by value; the values at `kept`, pairs of name and place, stay new."""
    share = (num_new / (num_new + num_old)) ** 0.5
    fused = {name: tensor.numpy().copy() for name, tensor in new.items()}
    for name, before in old.items():
        if name == COUNTER:
            continue
        for at in np.ndindex(*before.shape):
            if (name, at) not in kept:
                fused[name][at] = (1 - share) * float(before[at]) + share * float(new[name][at])
    return fused


def assert_equal(got, wanted):
    assert got.keys() == wanted.keys()
    for name, tensor in got.items():
        assert np.allclose(tensor.numpy(), wanted[name], rtol=1e-12, atol=0), name


class TestFormula:
    @pytest.mark.parametrize(
        ("num_old", "num_new", "published"),
        [
            *((16 + step, 1, m) for step, m in enumerate((0.243, 0.236, 0.229, 0.224, 0.218))),
            (16, 5, 0.488),
            (20, 1, 0.218),
            (11, 1, 0.289),
            (6, 3, 0.577),
            (101, 50, 0.575),
            (101, 10, 0.300),
            (101, 5, 0.217),
        ],
    )
    def test_the_published_shares(self, num_old, num_new, published):
        assert share_of_new(num_old, num_new) == pytest.approx(published, abs=6e-4)

    def test_the_linear_share_is_its_square(self):
        assert share_of_new(16, 5, "linear") == pytest.approx(share_of_new(16, 5) ** 2)

    @pytest.mark.parametrize("seed", range(3))
    def test_against_plain_loops(self, seed):
        old, new = endpoints(seed)
        assert_equal(WeightFusion()(old, new, 16, 3), plain_fusion(old, new, 16, 3))

    @pytest.mark.parametrize("fraction", [0.01, 0.2, 0.45, 0.9])
    def test_small_changes_stay_new(self, fraction):
        old, new = endpoints(3)
        changes = sorted(
            (float(abs(new[name][at] - old[name][at])), (name, at))
            for name, shape in SHAPES.items()
            for at in np.ndindex(*shape)
        )
        fused = max(1, int(fraction * len(changes)))
        kept = {place for _, place in changes[: len(changes) - fused]}
        got = WeightFusion(threshold=fraction)(old, new, 4, 2)
        assert_equal(got, plain_fusion(old, new, 4, 2, kept))

    def test_running_statistics_may_stay_new(self):
        old, new = endpoints(4)
        wanted = plain_fusion(old, new, 4, 2)
        for name in ("norm.running_mean", "norm.running_var"):
            wanted[name] = new[name].numpy()
        assert_equal(WeightFusion(statistics="new")(old, new, 4, 2), wanted)

    def test_neither_endpoint_is_changed(self):
        old, new = endpoints(5, torch.float32)
        before = [{k: v.clone() for k, v in ends.items()} for ends in (old, new)]
        fused = WeightFusion(threshold=0.45)(old, new, 4, 2)
        for ends, was in zip((old, new), before, strict=True):
            assert all(torch.equal(tensor, was[name]) for name, tensor in ends.items())
        assert all(tensor.dtype == new[name].dtype for name, tensor in fused.items())
        assert fused[COUNTER] == 12

    @pytest.mark.parametrize(
        ("numbers", "message"),
        [
            ({"threshold": 1}, r"`threshold` must lie in \[0, 1\), got 1"),
            ({"threshold": -0.1}, r"`threshold` must lie in \[0, 1\), got -0.1"),
            ({"threshold": math.nan}, r"`threshold` must lie in \[0, 1\), got nan"),
            ({"share": 0.5}, r"`x\.share` must be one of sqrt, linear; got 0\.5"),
            ({"statistics": "old"}, r"`x\.statistics` must be one of fused, new; got 'old'"),
        ],
    )
    def test_wrong_numbers_are_refused(self, numbers, message):
        with pytest.raises(InputError, match=message):
            build_part("cssegcore.method.after", After, {"part": "weight_fusion", **numbers}, "x")


class KilledError(Exception):
    """Stands for a kill."""


@dataclasses.dataclass
class Fused:
    """The first increment of `ewf_mib` beside the same one without fusion."""

    lists: Lists
    base: dict[str, torch.Tensor]
    base_path: Path
    plain: Trainer
    fused: Trainer


def increment(lists, previous, **after):
    how = plan("ewf_mib")
    how.method["after"] = after or how.method["after"]
    return lists.prepare(how, "step1", previous)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fusion")
    lists = Lists.write(folder)
    path = train_base(lists, folder / "step0.safetensors", method="ewf_mib")
    base = checkpoint.load_model(path, CPU).segmenter.state_dict()
    plain, fused = increment(lists, path, part="none"), increment(lists, path)
    run(plain, folder / "plain.resume")
    run(fused, folder / "fused.resume")
    return Fused(lists, base, path, plain, fused)


class TestTraining:
    def test_the_trained_network_is_the_mean_of_both_ends(self, trained):
        old, new = trained.base, trained.plain.segmenter.state_dict()
        got, share = trained.fused.segmenter.state_dict(), math.sqrt(1 / (3 + 1))
        assert got.keys() == new.keys() > old.keys()
        for name, tensor in got.items():
            if name in old and tensor.is_floating_point():
                mixed = (1 - share) * old[name].double() + share * new[name].double()
                assert torch.allclose(tensor.double(), mixed, rtol=1e-5, atol=1e-6), name
            else:
                assert torch.equal(tensor, new[name]), name
        moved = [name for name in old if not torch.allclose(got[name] * 1.0, new[name] * 1.0)]
        assert any("running_var" in name for name in moved)
        assert any("weight" in name for name in moved)

    def test_the_lowered_background_is_fused_with_the_one_before(self, trained):
        """The head is frozen after the background's bias was lowered by ln(N + 1)."""
        name = "heads.0.classifier.bias"
        before = trained.base[name][0].item()
        now = trained.fused.segmenter.state_dict()[name][0].item()
        assert now == pytest.approx(before - 0.5 * math.log(2), abs=1e-5)

    def test_the_base_step_is_as_without_it(self, trained, tmp_path):
        path = train_base(trained.lists, tmp_path / "mib.safetensors", method="mib")
        assert path.read_bytes() == trained.base_path.read_bytes()

    def test_the_next_step_starts_from_the_fused_weights(self, trained, tmp_path):
        path, trainer = tmp_path / "step1.safetensors", trained.fused
        checkpoint.save(path, trainer.segmenter, trainer.model, {})
        following = trained.lists.prepare(plan("ewf_mib"), "step2", path)
        saved = state(trainer.segmenter)
        assert {k: v.numpy().tobytes() for k, v in following.old_weights.items()} == saved
        start = state(following.segmenter)
        same = {name for name, value in saved.items() if start[name] == value}
        # the initialisation lowers the background's bias; the old weights are those before it
        assert saved.keys() - same == {"heads.0.classifier.bias"}

    @pytest.mark.parametrize("killed_in", ["last epoch", "saving"])
    def test_a_kill_after_the_last_epoch_does_not_fuse_twice(self, trained, tmp_path, killed_in):
        resume, hooks = ResumeFile(tmp_path / "resume"), Follower().hooks()
        trainer = increment(trained.lists, trained.base_path)

        def die(row):
            if row["epoch"] == 2 and killed_in == "last epoch":
                raise KilledError

        try:
            trainer.train(resume, dataclasses.replace(hooks, epoch=die))
        except KilledError:
            assert killed_in == "last epoch"
        kept = resume.load(CPU)
        as_trained = state(trained.plain.segmenter)
        assert {k: v.numpy().tobytes() for k, v in kept["model"].items()} == as_trained
        again = increment(trained.lists, trained.base_path)
        assert len(again.train(resume, hooks).rows) == 2
        assert state(again.segmenter) == state(trained.fused.segmenter)

    def test_statistics_of_the_training_are_of_the_weights_as_trained(self, trained, tmp_path):
        path = train_base(trained.lists, tmp_path / "step0.safetensors", method="pi")
        saved = []
        for part in ("none", "weight_fusion"):
            how = plan("pi")
            how.method["after"] = {"part": part}
            trainer = trained.lists.prepare(how, "step1", path)
            result = run(trainer, tmp_path / part)
            saved.append((result.statistics["path"], state(trainer.segmenter)))
        (plain, weights), (beside, fused) = saved
        assert weights != fused
        assert all(torch.equal(value, beside[name]) for name, value in plain.items())

    def test_the_unknown_class_is_no_class(self, trained, tmp_path):
        """SSUL's network has an output more than classes, which the share does not count."""
        seen = []

        @dataclasses.dataclass(frozen=True)
        class Counting(After):
            def __call__(self, old, new, num_old, num_new):
                seen.append((num_old, num_new, len(old)))
                return new

        how = plan("ssul", 1)
        how.method["base"]["unknown_class"] = {"part": "everything"}
        base = trained.lists.prepare(how, "step0")
        run(base, tmp_path / "base")
        path = tmp_path / "step0.safetensors"
        checkpoint.save(path, base.segmenter, base.model, {})
        how.method["pseudo_labels"] = {"part": "none"}
        trainer = trained.lists.prepare(how, "step1", path)
        changed = dataclasses.replace(
            trainer, method=dataclasses.replace(trainer.method, after=Counting())
        )
        run(changed, tmp_path / "step1")
        assert seen == [(3, 1, 0)]
