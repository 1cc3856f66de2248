import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.files import write_json
from cssegcore.inversion import store
from cssegcore.models import checkpoint
from cssegcore.training.setup import StageInputs
from tests.helpers.tiny_training import CPU, plan, state, train_base

VOID = 255


class TestFreshWeights:
    def test_fresh_weights_depend_on_the_seed_and_the_step(self, lists, base):
        def fresh(method, step, previous, seed):
            return state(lists.prepare(plan(method, seed=seed), step, previous).segmenter)

        for head, *where in (("heads.0", "joint", "step0", None), ("heads.1", "ft", "step1", base)):
            one, again, two = (fresh(*where, seed) for seed in (1, 1, 2))
            assert one == again
            assert one[f"{head}.classifier.weight"] != two[f"{head}.classifier.weight"]
        extractor = "extractor.local.weight"
        assert (
            fresh("joint", "step1", base, 1)[extractor]
            != fresh("joint", "step0", None, 1)[extractor]
        )

    def test_preparing_leaves_the_running_generator_alone(self, lists):
        torch.manual_seed(3)
        expected = torch.rand(3)
        torch.manual_seed(3)
        lists.prepare(plan(), "step0")
        assert torch.equal(torch.rand(3), expected)


class TestPreviousModel:
    def test_penalties_compare_with_the_weights_of_the_file(self, lists, base, tmp_path):
        trainer = lists.prepare(plan("ewc"), "step1", base)
        stored = checkpoint.load_model(base, CPU).segmenter
        assert state(trainer.old) == state(stored)

    def test_a_step_starts_from_the_model_before_and_a_new_head(self, lists, base):
        trainer = lists.prepare(plan("ft"), "step1", base)
        old = checkpoint.load_model(base, CPU).segmenter
        before, start = state(old), state(trainer.segmenter)
        assert {key: start[key] for key in before} == before
        assert set(start) - set(before) == {"heads.1.classifier.weight", "heads.1.classifier.bias"}
        assert trainer.data.num_old == 3
        assert trainer.old is None  # no term of fine-tuning asks for it

    def test_mib_starts_its_head_from_the_background(self, lists, base):
        groups = lists.prepare(plan("mib"), "step1", base).segmenter.groups
        first, new = (head.classifier for head in groups)
        old = checkpoint.load_model(base, CPU).segmenter
        lowered = old.groups[0].classifier.bias[0] - math.log(2)
        assert torch.equal(new.weight[0], first.weight[0])
        assert torch.allclose(torch.stack([first.bias[0], new.bias[0]]), lowered)

    def test_methods_share_the_bytes_of_the_base_model(self, lists, base, tmp_path):
        for method in ("ft", "joint"):
            path = train_base(lists, tmp_path / f"{method}.safetensors", method=method)
            assert path.read_bytes() == base.read_bytes()

    def test_joint_starts_afresh_whatever_came_before(self, lists, base, tmp_path):
        other = train_base(lists, tmp_path / "other.safetensors", seed=9)
        trainers = [lists.prepare(plan("joint"), "step1", previous) for previous in (base, other)]
        assert state(trainers[0].segmenter) == state(trainers[1].segmenter)
        old = checkpoint.load_model(base, CPU).segmenter
        assert trainers[0].old is None
        assert trainers[0].data.num_old == 1
        assert trainers[0].segmenter.outputs == 4
        old_state, fresh = state(old), state(trainers[0].segmenter)
        weights = [k for k in old_state if k.endswith("weight") and k in fresh]
        assert any(old_state[k] != fresh[k] for k in weights)
        assert len(trainers[0].data.images) > len(lists.of("step1").images)

    def test_a_model_that_does_not_fit_the_step(self, lists, base):
        with pytest.raises(InputError) as refused:
            lists.prepare(plan("mib"), "step2", base)
        has, due = [["background", "red", "green"]], [["background", "red", "green"], ["blue"]]
        assert str(refused.value) == (
            f"the model {base} does not fit step2, which starts from it: it has classes {has}, not"
            f" {due}. Run `dvc repro` so that the steps fit each other."
        )

    @pytest.mark.parametrize(
        ("base_slot", "said"),
        [
            ({"unknown_class": {"part": "everything"}}, "unknown None, not softmax"),
            ({"head": {"part": "conv"}}, r"head \{'part': 'linear'\}, not \{'part': 'conv'\}"),
        ],
    )
    def test_a_model_of_another_kind(self, lists, base, base_slot, said):
        how = plan("mib")
        method = {**how.method, "base": how.method["base"] | base_slot}
        with pytest.raises(InputError, match=rf"it has {said}\. Run `dvc repro`"):
            lists.prepare(dataclasses.replace(how, method=method), "step1", base)


@pytest.fixture(scope="module")
def model(lists, tmp_path_factory):
    """The file of an untrained base step of SSUL."""
    folder, how = tmp_path_factory.mktemp("base"), plan("ssul_m")
    trainer = lists.prepare(how, "step0", None, lists.sources(how, "step0", None, folder))
    checkpoint.save(folder / "model.safetensors", trainer.segmenter, trainer.model, {})
    return folder / "model.safetensors"


class TestExemplars:
    def prepared(self, lists, model, tmp_path, **replay):
        how = plan("ssul_m")
        method = json.loads(json.dumps(how.method))
        method["replay"] |= {"size": 3, **replay}
        how = dataclasses.replace(how, method=method)
        given = lists.sources(how, "step1", model, tmp_path)
        return lists.prepare(how, "step1", model, given)

    def test_exemplars_are_replayed_with_all_their_classes(self, lists, model, tmp_path):
        trainer = self.prepared(lists, model, tmp_path, share=0.25)
        replayed = trainer.data.replayed
        kept = json.loads((tmp_path / "step1" / "memory" / "manifest.json").read_text())["images"]
        assert replayed.images.names == kept
        assert len(kept) == 3
        assert replayed.share == 0.25
        seen = {int(c) for _, _, labels in replayed.images.decoded() for c in np.unique(labels)}
        assert {2, 3} <= seen  # the base step's classes, behind unknown and background

    def test_the_old_model_counts_its_outputs(self, lists, model, tmp_path):
        trainer = self.prepared(lists, model, tmp_path)
        assert trainer.data.num_old == 4  # unknown, background and two classes
        assert trainer.segmenter.outputs == 5
        assert trainer.model.unknown == "sigmoid"
        assert trainer.old is None

    def test_what_is_frozen_is_frozen(self, lists, model, tmp_path):
        trainer = self.prepared(lists, model, tmp_path)
        moving = {n for n, p in trainer.segmenter.named_parameters() if p.requires_grad}
        assert moving
        assert not any(name.startswith(("extractor", "heads.2.")) for name in moving)
        assert {name.split(".")[1] for name in moving} == {"0", "1", "3"}
        assert {name for name in trainer.update_factors if trainer.update_factors[name] != 1} == {
            name for name in moving if name.startswith("heads.1.")
        }

    def test_a_model_with_other_heads_is_refused(self, lists, model):
        with pytest.raises(InputError, match=r"head .*conv.*, not .*linear.*Run `dvc repro`") as no:
            lists.prepare(plan("ft"), "step1", model)
        assert "\n" not in str(no.value)

    def test_no_memory_folder_replays_nothing(self, lists, model, tmp_path):
        how = plan("ssul_m")
        given = lists.sources(how, "step1", model, tmp_path)
        without = dataclasses.replace(given, memory=tmp_path / "nothing")
        assert lists.prepare(how, "step1", model, without).data.replayed is None


class TestSynthesizedImages:
    @pytest.fixture
    def base(self, lists, tmp_path):
        """The file of an untrained base step."""
        path = tmp_path / "model.safetensors"
        trainer = lists.prepare(plan("ft"), "step0")
        checkpoint.save(path, trainer.segmenter, trainer.model, {})
        return path

    @pytest.fixture
    def made(self, base, tmp_path):
        """Three made images of red and green, the rest void."""
        images = []
        for at in range(3):
            labels = np.full((16, 16), VOID, np.uint8)
            labels[:4], labels[4:8], labels[8:10] = 0, 1, 2
            image = np.full((16, 16, 3), 50 * at, np.uint8)
            images.append(
                store.write_image(
                    tmp_path, store.GeneratedImage(f"m{at}", image, labels, labels, labels)
                )
            )
        steps = [{"step": "step0", "images": ["m0", "m1", "m2"]}]
        write_json(tmp_path / "manifest.json", {"steps": steps})
        (tmp_path / "models").mkdir()
        shutil.copy(base, store.teacher_path(tmp_path, "step0"))
        return tmp_path, images

    def prepared(self, lists, base, folder, step="step1", **replay):
        how = plan("deepinversion")
        how.method["replay"].update(replay)
        return lists.prepare(how, step, base, StageInputs(synthesis=folder))

    @pytest.mark.parametrize("labels", ["hard", "soft", "logits"])
    def test_they_are_read_with_their_labels(self, lists, base, made, labels):
        folder, images = made
        store.image_list(lists.of("step1"), 3, images).write(folder / "list.json")
        trainer = self.prepared(lists, base, folder, share=0.25, labels=labels)
        replayed = trainer.data.replayed
        assert (replayed.share, replayed.separate_batches) == (0.25, True)
        found = {name: (image, labels) for name, image, labels in replayed.images.decoded()}
        assert list(found) == ["m0", "m1", "m2"]
        for at in range(3):
            image, labels = found[f"m{at}"]
            assert (image == 50 * at).all()
            assert labels[::2, 0].tolist() == [0, 0, 1, 1, 2, *[VOID] * 3]

    @pytest.mark.parametrize(("labels", "asked"), [("hard", 0), ("soft", 1), ("logits", 1)])
    def test_teachers_are_there_for_terms_that_ask_them(self, lists, base, made, labels, asked):
        folder, images = made
        store.image_list(lists.of("step1"), 3, images).write(folder / "list.json")
        how = plan("ft")
        how.method["replay"] = {"part": "deepinversion", "labels": labels}
        trainer = lists.prepare(how, "step1", base, StageInputs(synthesis=folder))
        assert (len(trainer.teachers), trainer.old) == (asked, None)
        assert trainer.data.replayed.sources.tolist() == [0, 0, 0]
        for teacher in trainer.teachers:
            told, stored = torch.rand(2, 3, 16, 16), checkpoint.load_model(base, CPU).segmenter
            assert torch.allclose(teacher(told).logits, stored(told).logits, atol=1e-5)
            assert not any(weight.requires_grad for weight in teacher.parameters())
            assert not teacher.training

    def test_what_is_not_there_is_not_replayed(self, lists, base, made):
        folder, images = made  # images without a list
        for given in (folder, folder / "nothing", None):
            assert self.prepared(lists, base, given).data.replayed is None
        store.image_list(lists.of("step1"), 3, images).write(folder / "list.json")
        assert lists.prepare(plan("deepinversion"), "step0").data.replayed is None
        plain = lists.prepare(plan("ft"), "step1", base, StageInputs(synthesis=folder))
        assert plain.data.replayed is None
