import csv
import dataclasses
import json
import shutil
import weakref

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.files import digest
from cssegcore.core.normalization import IMAGENET
from cssegcore.core.registry import build_part
from cssegcore.data.crop_and_resize import normalise
from cssegcore.data.image_list import ImageList
from cssegcore.inversion import contact_sheet, object_shapes, quality, store, synthesis
from cssegcore.method.replay import Replay
from cssegcore.models import checkpoint
from tests.helpers.known_networks import varied
from tests.helpers.noise_images import VOID, picture
from tests.helpers.tiny_training import CPU, QUICK, Lists, plan

pytestmark = pytest.mark.slow

TERMS = ["target", "features", "total_variation_l1", "total_variation_l2", "image_l2"]
TERMS += ["competition"]


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def models(lists, tmp_path_factory):
    """Files of untrained models that see several classes, after step 0 and step 1."""
    folder, previous = tmp_path_factory.mktemp("models"), None
    made = {}
    for step in ("step0", "step1"):
        segmenter = (trainer := lists.prepare(plan("ft"), step, previous)).segmenter
        varied(segmenter)
        previous = made[step] = folder / f"{step}.safetensors"
        checkpoint.save(previous, segmenter, trainer.model, {})
    return made


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setenv("CSSEGCORE_DEVICE", "cpu")


def part(inversion=None, **numbers):
    usual = {"per_class": 2, "agreement": 0, "confidence": 0, "extra": 0}
    recipe = {"part": "deepinversion", **usual, **numbers, "inversion": QUICK | (inversion or {})}
    return build_part("cssegcore.method.replay", Replay, recipe, "method.replay")


def files(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


class Living:
    """Counts the bytes of arrays that live, of all that watched functions ever returned.

    Attributes:
        arrays: Weak references; a view that somebody holds keeps its array alive.
        peak: The most bytes after any call.
    """

    def __init__(self):
        self.arrays, self.peak = [], 0

    def watched(self, make):
        def made(*arguments):
            result = make(*arguments)
            values = vars(result).values() if dataclasses.is_dataclass(result) else [*result]
            values = [result] if isinstance(result, np.ndarray) else values
            self.arrays += [weakref.ref(v) for v in values if isinstance(v, np.ndarray)]
            living = [array for reference in self.arrays if (array := reference()) is not None]
            self.peak = max(self.peak, sum(array.nbytes for array in living))
            return result

        return made


class TestSynthesize:
    def made(self, lists, models, folder, step="step1", how=None, **changed):
        """Makes the images for a step; returns their folder, manifest and list."""
        before = {"step1": "step0", "step2": "step1"}[step]
        request = lists.synthesis(plan("ft"), step, models[before], folder)
        out = folder / step / "synthesis"
        (how or part()).synthesize(out, dataclasses.replace(request, **changed))
        manifest = json.loads((out / "manifest.json").read_text())
        return out, manifest, ImageList.read(out / "list.json")

    def test_two_steps(self, lists, models, tmp_path):
        first, early, _ = self.made(lists, models, tmp_path, "step1")
        second, late, listed = self.made(lists, models, tmp_path, "step2")
        own = [f"step0_{name}_{i:04d}" for name in ("red", "green") for i in range(2)]
        assert early["images"] == own
        assert late["images"] == listed.names == [*own, "step1_blue_0000", "step1_blue_0001"]
        assert early["steps"] == late["steps"][:1]
        assert [s["images"] for s in late["steps"]] == [own, listed.names[4:]]
        for step in ("step0", "step1"):
            assert store.teacher_path(second, step).read_bytes() == models[step].read_bytes()
        assert [[row["class"] for row in s["classes"]] for s in late["steps"]] == [
            ["red", "green"],
            ["blue"],
        ]
        assert late["steps"][0]["classes"][0] == {
            "class": "red",
            "wanted": 2,
            "kept": 2,
            "made": 2,
        }
        assert late["steps"][1]["classes"][0]["made"] == 4  # a batch is filled up
        kept = files(first)
        after = files(second)
        changing = {"manifest.json", "list.json"}
        assert {n: after[n] for n in kept if n not in changing} == {
            n: text for n, text in kept.items() if n not in changing
        }
        assert listed.visible == [1, 2, 3]
        assert listed.classes == lists.of("step2").classes
        assert {f"{kind}/{name}.png" for kind in store.KINDS for name in listed.names} == {
            n for n in after if n.split("/")[0] in store.KINDS
        }
        for step in ("step0", "step1"):
            assert picture(second / "sheets" / f"{step}.png").shape[2] == 3
            with (second / "curves" / f"{step}.csv").open() as text:
                rows = list(csv.DictReader(text))
            assert list(rows[0]) == ["batch", "iteration", "lr", *TERMS]
            assert len(rows) == QUICK["phases"][0][1]

    def test_labels_are_what_the_model_sees_in_the_finished_image(self, lists, models, tmp_path):
        how = part(confidence=0.6, per_class=4)
        out, manifest, listed = self.made(lists, models, tmp_path, how=how)
        segmenter = checkpoint.load_model(models["step0"], CPU).segmenter
        segmenter.to(memory_format=torch.channels_last)
        for name, told in listed.images:
            image, labels, sure, layout = (picture(out / k / f"{name}.png") for k in store.KINDS)
            classes, confidence = quality.predict_mirrored(segmenter, image[None])
            assert np.abs(sure.astype(int) - confidence[0]).max() <= 1
            for at in np.ndindex(labels.shape):
                asked = classes[0][at] == 0 or classes[0][at] in layout
                believed = asked and sure[at] >= round(0.6 * 255)
                assert labels[at] == (classes[0][at] if believed else VOID)
            files = [(out / k / f"{name}.png").read_bytes() for k in ("images", "labels")]
            assert told == digest(*files)
            primary = {"red": 1, "green": 2}[name.split("_")[1]]
            assert (layout == primary).any()
        assert len({told for _, told in listed.images}) == 8  # of two batches
        labels = np.stack([picture(out / "labels" / f"{name}.png") for name in listed.names])
        share = manifest["steps"][0]["labelled"]
        assert share == pytest.approx((labels != VOID).mean())
        assert 0 < share < 1

    def test_only_what_agrees_is_kept_and_more_is_made_of_what_lacks(self, lists, models, tmp_path):
        how = {"per_class": 3, "inversion": {"batch_size": 6}}
        out, _, listed = self.made(lists, models, tmp_path / "all", how=part(**how))
        segmenter = checkpoint.load_model(models["step0"], CPU).segmenter
        scores = {}
        for name in listed.names:
            image, layout = (picture(out / k / f"{name}.png") for k in ("images", "layouts"))
            primary = {"red": 1, "green": 2}[name.split("_")[1]]
            found, asked = (
                quality.predict_mirrored(segmenter, image[None])[0][0] == primary,
                layout == primary,
            )
            scores[name] = (found & asked).sum() / (found | asked).sum()
        second, best = sorted(set(scores.values()))[-2:]
        least = float(second + best) / 2
        good = {image[1] for image in listed.images if scores[image[0]] >= least}
        image_list = part(**how, agreement=least)
        out, manifest, listed = self.made(lists, models, tmp_path / "some", how=image_list)
        assert {told for _, told in listed.images} == good
        assert manifest["steps"][0]["batches"] == 1

        told = []
        more = part(**how, agreement=least, extra=2)
        _, manifest, _ = self.made(lists, models, tmp_path / "x", how=more, tell=told.append)
        (numbers,) = manifest["steps"]
        assert 2 <= numbers["batches"] <= 3
        assert len(told) == numbers["batches"]
        assert told[0] == f"step0: batch 1, {len(good)} of 6 images kept"
        assert sum(row["made"] for row in numbers["classes"]) == 6 * numbers["batches"]
        assert all(row["kept"] <= 3 for row in numbers["classes"])
        assert sum(row["kept"] for row in numbers["classes"]) >= len(good)

    def test_nothing_good_enough(self, lists, models, tmp_path):
        with pytest.raises(InputError) as refused:
            self.made(lists, models, tmp_path, how=part(agreement=1, extra=1))
        assert str(refused.value) == (
            "none of 8 images made from step0's model shows what was asked for: give"
            " `method.replay.inversion.phases` more iterations, or lower"
            " `method.replay.agreement`."
        )
        left = files(tmp_path / "step1" / "synthesis")
        assert {name.split("/")[0] for name in left} == {"curves"}

    def test_seed_and_step_decide(self, lists, models, tmp_path):
        found = [
            files(self.made(lists, models, tmp_path / str(i), seed=seed)[0])
            for i, seed in enumerate((1, 1, 2))
        ]
        assert found[0] == found[1]
        images = [{f for n, f in made.items() if n.startswith("images/")} for made in found]
        assert not images[0] & images[2]

    @pytest.mark.parametrize("moment", ["between batches", "in the second batch"])
    def test_killed_and_started_again_it_gives_the_same_bytes(
        self, lists, models, tmp_path, moment, monkeypatch
    ):
        how = part(per_class=6, extra=1)  # three batches
        whole_run, *_ = self.made(lists, models, tmp_path / "whole", how=how)
        cut, calls = tmp_path / "cut", []

        class KilledError(Exception):
            pass

        def tell(line):
            if moment == "between batches" and "batch 2" in line:
                raise KilledError

        def progress(items, _):
            calls.append(1)
            if moment == "in the second batch" and len(calls) == 2:
                raise KilledError
            return items

        with pytest.raises(KilledError):
            self.made(lists, models, cut, how=how, tell=tell, progress=progress)
        finished = sorted(path.name for path in cut.glob("step1-synthesis*"))
        count = 2 if moment == "between batches" else 1
        assert finished == [f"step1-synthesis.batch{at:04d}.pt" for at in range(count)]
        assert not (cut / "step1" / "synthesis" / "manifest.json").exists()

        calls, real = [], synthesis.invert
        monkeypatch.setattr(synthesis, "invert", lambda *a: calls.append(1) or real(*a))
        fixed, *_ = self.made(lists, models, cut, how=how)
        assert len(calls) == (1 if moment == "between batches" else 2)
        assert files(fixed) == files(whole_run)
        shutil.rmtree(fixed)  # as DVC does if it was killed before it had them
        calls.clear()
        fixed, *_ = self.made(lists, models, cut, how=how)
        assert calls == []
        assert files(fixed) == files(whole_run)

    def test_an_image_is_on_disk_once_it_is_kept_and_the_list_comes_last(
        self, lists, models, tmp_path
    ):
        early, *_ = self.made(lists, models, tmp_path, "step1")
        out, seen = tmp_path / "step2" / "synthesis", []

        def tell(line):
            there = files(out)
            seen.append(len([name for name in there if name.startswith("images/step1_")]))
            assert f" {seen[-1]} of 8 images kept" in line
            assert not there.keys() & {"list.json", "manifest.json"}
            kept = {n: text for n, text in files(early).items() if "/" in n}
            assert {name: there[name] for name in kept} == kept

        self.made(lists, models, tmp_path, "step2", part(per_class=8), tell=tell)
        assert seen == [4, 8]

    def test_memory_holds_no_more_images_the_more_are_made(
        self, lists, models, tmp_path, monkeypatch
    ):
        makers = [
            (synthesis, "draw_targets"),
            (synthesis, "invert"),
            (quality, "predict_mirrored"),
            (quality, "reliable_labels"),
            (store, "read_image"),
        ]
        peaks = []
        for per_class in (contact_sheet.COLUMNS, 3 * contact_sheet.COLUMNS):
            living = Living()
            with monkeypatch.context() as patch:
                for module, name in makers:
                    patch.setattr(module, name, living.watched(getattr(module, name)))
                self.made(lists, models, tmp_path / str(per_class), how=part(per_class=per_class))
            assert len(living.arrays) > 2 * 2 * per_class
            peaks.append(living.peak)
        assert peaks[0] == peaks[1] > 0

    def test_statistics(self, lists, models, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(models["step0"].parent))
        torch.manual_seed(5)
        other = checkpoint.load_model(models["step0"], CPU)
        for weight in other.segmenter.parameters():
            weight.data += 0.3 * torch.randn_like(weight)
        path = models["step0"].parent / "other"
        checkpoint.save(path, other.segmenter, other.model, {})
        how = part(verifier="~/other", student="~/other")
        out, manifest, listed = self.made(lists, models, tmp_path, how=how)
        (numbers,) = manifest["steps"]
        assert (numbers["step"], numbers["batches"]) == ("step0", 1)
        assert numbers["verifier"] == digest(path.read_bytes())
        images, layouts = (
            np.stack([picture(out / kind / f"{name}.png") for name in listed.names])
            for kind in ("images", "layouts")
        )
        for who, model in (("inverted", models["step0"]), ("independent", path)):
            segmenter = checkpoint.load_model(model, CPU).segmenter
            classes, _ = quality.predict_mirrored(segmenter, images)
            target = layouts > 0
            share = (classes == layouts)[target].mean()
            assert numbers["agreement"][who]["target_pixels"] == pytest.approx(share, abs=0.01)
        # one batch: the images are all that was made, in another order
        photographs = normalise(torch.from_numpy(images), IMAGENET)
        segmenter = checkpoint.load_model(models["step0"], CPU).segmenter
        away = quality.feature_distance(segmenter, photographs)
        assert numbers["distance"]["made"] == pytest.approx(away, rel=1e-3)
        assert numbers["distance"]["real"] > 0
        without = self.made(lists, models, tmp_path / "2", how=part())[1]["steps"][0]
        assert list(without["agreement"]) == ["inverted"]
        assert without["verifier"] == ""

    @pytest.mark.parametrize("role", ["student", "verifier"])
    def test_a_second_model_of_other_classes_is_refused(self, lists, models, tmp_path, role):
        with pytest.raises(InputError) as refused:
            self.made(lists, models, tmp_path, how=part(**{role: str(models["step1"])}))
        assert str(refused.value) == (
            f"`method.replay.{role}`: the model {models['step1']} tells background, red, green,"
            " blue apart, and the one that is inverted background, red, green: give one of the"
            " same classes."
        )
        with pytest.raises(InputError, match="nowhere does not exist"):
            self.made(lists, models, tmp_path, how=part(**{role: "nowhere"}))

    def test_a_student_competes(self, lists, models, tmp_path):
        weights = {"weights": {"competition": 0.5}}
        how = part(weights, student=str(models["step0"]))
        out, *_ = self.made(lists, models, tmp_path, how=how)
        with (out / "curves" / "step0.csv").open() as text:
            assert all(float(row["competition"]) > 0 for row in csv.DictReader(text))

    def test_presence(self, lists, models, tmp_path):
        all_at_once = {"target": "presence", "batch_size": 8}
        how = part(all_at_once, per_class=4)
        out, manifest, listed = self.made(lists, models, tmp_path, how=how)
        assert len(listed.names) == 8
        for name in listed.names:
            assert (picture(out / "layouts" / f"{name}.png") == VOID).all()
            assert (picture(out / "labels" / f"{name}.png") != VOID).all()
        (numbers,) = manifest["steps"]
        assert numbers["labelled"] == 1
        tall = picture(out / "sheets" / "step0.png").shape[0]
        lines = 2 * (2 * (contact_sheet.TILE_SIDE + contact_sheet.MARGIN) + contact_sheet.TITLE)
        assert tall == contact_sheet.MARGIN + lines

        shares = {
            name: (picture(out / "labels" / f"{name}.png") == 1 + ("green" in name)).mean()
            for name in listed.names
        }
        least = sorted(shares.values())[4]
        some = part(all_at_once, per_class=4, agreement=least)
        _, _, fewer = self.made(lists, models, tmp_path / "2", how=some)
        expected = {told for name, told in listed.images if shares[name] >= least}
        assert {told for _, told in fewer.images} == expected
        assert 0 < len(expected) < 8

    def test_transplanted_layouts_have_the_outlines_of_the_step_s_objects(
        self, lists, models, tmp_path, monkeypatch
    ):
        how = part({"layouts": "transplanted"})
        out, _, listed = self.made(lists, models, tmp_path, how=how)
        for name in listed.names:  # the tiny scenes hold nothing but squares
            y, x = np.nonzero(picture(out / "layouts" / f"{name}.png") == 1 + ("green" in name))
            assert len(y) == (np.ptp(y) + 1) * (np.ptp(x) + 1)
        monkeypatch.setattr(object_shapes, "LEAST_OBJECT", 65)
        with pytest.raises(InputError, match="no object of 65 pixels or more is annotated for ste"):
            self.made(lists, models, tmp_path / "2", how=how)
