import json

import numpy as np
import pytest
import torch
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.pseudo_labels import LabelRequest, PseudoLabels
from cssegcore.models import checkpoint
from tests.helpers.confident_labels_by_loop import plain_labels
from tests.helpers.tiny_training import CPU, MODEL, Lists


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


class TestSigmoid:
    @staticmethod
    def save(path, step, unknown):
        """Saves a model that is sure of itself here and there."""
        torch.manual_seed(24)
        known = checkpoint.Model(step.step, MODEL, {"part": "conv"}, unknown, step.classes)
        segmenter = known.segmenter()
        for head in segmenter.groups:
            head.classifier.weight.data *= 40
        checkpoint.save(path, segmenter, known, {})
        return checkpoint.load_model(path, CPU).segmenter

    @staticmethod
    def request(lists, path):
        chosen = {"train": lists.of("step1"), "memory": lists.of("step1", "seen")}
        return LabelRequest(lists.dataset, chosen, path, lambda batches, _: batches)

    @pytest.mark.parametrize("unknown", ["sigmoid", None])
    def test_images_and_counts_are_those_of_a_plain_loop(
        self, tmp_path, lists, unknown, monkeypatch
    ):
        monkeypatch.setenv("CSSEGCORE_DEVICE", "cpu")
        segmenter = self.save(tmp_path / "model", lists.of("step0"), unknown)
        request = self.request(lists, tmp_path / "model")
        part = build_part(
            "cssegcore.method.pseudo_labels",
            PseudoLabels,
            {"part": "sigmoid", "batch_size": 3},
            "x",
        )
        part.write(tmp_path / "out", request)

        shift, counts, background = int(unknown is not None), np.zeros((2, 3), int), 0
        for which, chosen in request.lists.items():
            table = chosen.label_table()
            for name in chosen.names:
                labels = table[lists.dataset.label(name)].astype(int)
                pixels = torch.from_numpy(lists.dataset.photograph(name).copy())[None]
                with torch.inference_mode():
                    logits = segmenter(normalised(pixels)).logits.numpy()
                outputs = np.where(labels == 255, 255, labels + shift)[None]
                sure = plain_labels(logits, outputs, 0.7, 1 + shift, "sigmoid")
                expected = np.where(sure == 255, 255, sure - shift)[0]
                with Image.open(tmp_path / "out" / which / f"{name}.png") as image:
                    assert np.array_equal(np.asarray(image), expected)
                empty = labels == 0
                background += empty.sum()
                for k in range(3):
                    counts[0, k] += (empty & (logits.argmax(1)[0] == k + shift)).sum()
                    counts[1, k] += (empty & (expected == k)).sum() * (k > 0)
        assert counts[1, 1:].all()  # the test says something
        assert (counts[1, 1:] < counts[0, 1:]).any()
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert manifest["images"] == {key: chosen.names for key, chosen in request.lists.items()}
        assert manifest["background"] == background
        names, thresholds = ("background", "red", "green"), (None, 0.7, 0.7)
        assert manifest["classes"] == [
            {"class": n, "threshold": t, "predicted": p, "accepted": a}
            for n, t, p, a in zip(names, thresholds, *counts.tolist(), strict=True)
        ]

    @pytest.mark.parametrize(
        ("key", "number"), [("threshold", -0.1), ("threshold", 1.5), ("batch_size", 0)]
    )
    def test_refusals(self, key, number):
        with pytest.raises(InputError, match=rf"`x`: `{key}`.*got {number}"):
            build_part(
                "cssegcore.method.pseudo_labels",
                PseudoLabels,
                {"part": "sigmoid", key: number},
                "x",
            )


def normalised(photographs):
    """Network input, from bytes (b, h, w, 3)."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((photographs / 255 - mean) / std).permute(0, 3, 1, 2)
