import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.method.losses.ce import CrossEntropy
from cssegcore.runtime.distributed import World
from cssegcore.training import loss_scaling
from cssegcore.training.loss_scaling import PieceLabels, check_pieces, loss_scales
from tests.helpers.loss_inputs import make_inputs, random_batch


class TestLossScales:
    @pytest.mark.parametrize("average", ["all", "labelled"])
    def test_scaled_pieces_make_the_whole_batch(self, average):
        loss, (logits, _, labels) = CrossEntropy(average=average), random_batch(0, b=5)
        pieces = [slice(0, 1), slice(1, 5)]
        maps = [PieceLabels(labels[piece], labels[piece]) for piece in pieces]
        scales = loss_scales({"ce": loss}, maps)
        parts = [loss(make_inputs(logits[piece], labels[piece])) for piece in pieces]
        got = sum(scale["ce"] * part for scale, part in zip(scales, parts, strict=True))
        assert torch.allclose(got, loss(make_inputs(logits, labels)), rtol=1e-6)

    def test_a_whole_batch_is_scaled_by_one(self):
        losses = {"a": CrossEntropy(weight=3.0), "b": CrossEntropy(average="labelled")}
        labels = torch.zeros(2, 4, 4, dtype=torch.long)
        assert loss_scales(losses, [PieceLabels(labels, labels)]) == [{"a": 1, "b": 1}]

    def test_by_hand_over_two_processes(self, monkeypatch):
        """Of 16 pixels 4 are here, and of 10 labelled ones 1; a mean of two makes up for two."""
        monkeypatch.setattr(loss_scaling, "world", lambda: World(0, 2))
        sums = torch.tensor([16.0, 10.0]).double()
        monkeypatch.setattr(loss_scaling, "all_reduce_sum", lambda _: sums)
        losses = {"all": CrossEntropy(), "labelled": CrossEntropy(average="labelled")}
        labels = torch.tensor([[[0, 255], [255, 255]]])
        (scales,) = loss_scales(losses, [PieceLabels(labels, labels)])
        assert scales["all"].item() == 2 * 4 / 16
        assert scales["labelled"].item() == pytest.approx(2 * 1 / 10)


class TestCheckPieces:
    def test_as_many_images_as_pieces_of_all_processes(self, monkeypatch):
        monkeypatch.setattr(loss_scaling, "world", lambda: World(0, 2))
        check_pieces("step1", 6, 3)
        with pytest.raises(InputError, match=r"a batch of 5 images .* by 2 processes.* 3 pieces"):
            check_pieces("step1", 5, 3)
