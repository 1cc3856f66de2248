import importlib
import pkgutil

import numpy as np
import pytest
import torch

import cssegcore.method.losses
from cssegcore.core.errors import InputError
from cssegcore.method.losses import Loss, LossInputs
from cssegcore.method.losses.ce import CrossEntropy
from cssegcore.models.outputs import Features, Outputs
from cssegcore.runtime.distributed import World
from cssegcore.training import loss_scaling
from cssegcore.training.loss_scaling import check_pieces, loss_scales


def every_loss():
    """Returns the terms of each module over batches, means over labelled pixels as well."""
    found = {}
    for module in pkgutil.iter_modules(
        cssegcore.method.losses.__path__, "cssegcore.method.losses."
    ):
        for kind in vars(importlib.import_module(module.name)).values():
            own = isinstance(kind, type) and kind.__module__ == module.name
            if own and issubclass(kind, Loss) and "._" not in module.name:
                found[kind.__name__] = kind()
                if getattr(kind(), "average", None) in ("all", "labelled"):
                    found |= {f"{kind.__name__} {a}": kind(average=a) for a in ("all", "labelled")}
    return found


class TestLossScales:
    def batch(self, images, c=5, k=3):
        rng = np.random.default_rng(0)

        def maps(n):
            return torch.tensor(rng.normal(0, 2, (5, n, 8, 8)))[images]

        def outputs(n):
            body = maps(6).abs()
            return Outputs(maps(n), maps(n), Features((maps(4),), body, body))

        labels = rng.integers(0, c, (5, 8, 8))
        labels[rng.random(labels.shape) < np.linspace(0.1, 0.9, 5)[:, None, None]] = 255
        teacher_scores = rng.normal(0, 2, (5, k, 8, 8))
        teacher_scores[3:, k - 1] = -np.inf
        labels = torch.tensor(labels)[images]
        means = {"prototypes": {"means": torch.tensor(rng.normal(0, 1, (c, 6)))}}
        annotated = torch.where(labels < k, 0, labels)
        teacher_scores = torch.tensor(teacher_scores)[images]
        return LossInputs(outputs(c), outputs(k), labels, annotated, k, means, teacher_scores)

    @pytest.mark.parametrize("name", every_loss())
    def test_scaled_pieces_make_the_whole_batch(self, name):
        loss = every_loss()[name]
        wanted = loss(self.batch(slice(0, 5)))
        parts = [self.batch(slice(0, 1)), self.batch(slice(1, 5))]
        scales = loss_scales({name: loss}, [part.labels for part in parts])
        got = sum(s[name] * loss(part) for s, part in zip(scales, parts, strict=True))
        assert torch.allclose(got, wanted, rtol=1e-6) != loss.whole_batch

    def test_a_whole_batch_is_scaled_by_one(self):
        losses = {"a": CrossEntropy(weight=3.0), "b": CrossEntropy(average="labelled")}
        assert loss_scales(losses, [torch.zeros(2, 4, 4, dtype=torch.long)]) == [{"a": 1, "b": 1}]

    def test_by_hand_over_two_processes(self, monkeypatch):
        """Of 16 pixels 4 are here, and of 10 labelled ones 1; a mean of two makes up for two."""
        monkeypatch.setattr(loss_scaling, "world", lambda: World(0, 2))
        monkeypatch.setattr(loss_scaling, "total", lambda _: torch.tensor([16.0, 10.0]).double())
        losses = {"all": CrossEntropy(), "labelled": CrossEntropy(average="labelled")}
        (scales,) = loss_scales(losses, [torch.tensor([[[0, 255], [255, 255]]])])
        assert scales["all"].item() == 2 * 4 / 16
        assert scales["labelled"].item() == pytest.approx(2 * 1 / 10)


class TestCheckPieces:
    def test_as_many_images_as_pieces_of_all_processes(self, monkeypatch):
        monkeypatch.setattr(loss_scaling, "world", lambda: World(0, 2))
        check_pieces("step1", 6, 3)
        with pytest.raises(InputError, match=r"a batch of 5 images .* by 2 processes.* 3 pieces"):
            check_pieces("step1", 5, 3)
