import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from cssegcore.core.files import write_json
from cssegcore.core.normalization import IMAGENET
from cssegcore.data.batches import evaluation_batches
from cssegcore.data.image_store import ImageStore
from cssegcore.inversion import store
from tests.helpers.noise_images import generated
from tests.helpers.tiny_training import CPU, Lists


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


class TestStore:
    def test_every_file_reads_back(self, tmp_path):
        made = generated()
        name, _ = store.write_image(tmp_path, made)
        assert name == made.name
        for kind, values in (
            ("images", made.image),
            ("labels", made.labels),
            ("confidence", made.confidence),
            ("layouts", made.label_map),
        ):
            with Image.open(tmp_path / kind / f"{name}.png") as image:
                assert np.array_equal(np.asarray(image), values)
        again = vars(store.read_image(tmp_path, name))
        assert again.pop("name") == name
        for field, values in again.items():
            assert np.array_equal(values, getattr(made, field))
            assert values.dtype == np.uint8

    def test_the_digest_is_that_of_image_and_labels(self, tmp_path):
        made = generated()

        def written(**changed):
            return store.write_image(tmp_path, dataclasses.replace(made, **changed))[1]

        assert written() == written(name="other")
        image, labels = made.image.copy(), made.labels.copy()
        image[3, 3, 0] ^= 1
        labels[3, 3] = (labels[3, 3] + 1) % 3
        assert len({written(), written(image=image), written(labels=labels)}) == 3

    @pytest.mark.parametrize("step", ["step1", "step2"])
    def test_labels_are_read_unchanged_at_any_later_step(self, tmp_path, lists, step):
        made = [generated(f"m{i}", i) for i in range(3)]
        current, rows = lists.of(step), [store.write_image(tmp_path, one) for one in made]
        store.image_list(current, 3, rows).write(tmp_path / store.LIST)
        steps = [{"step": "a", "images": ["m1"]}, {"step": "b", "images": ["m0", "m2"]}]
        write_json(tmp_path / "manifest.json", {"steps": steps})
        opened = store.open_images(tmp_path)
        assert opened.sources.tolist() == [1, 0, 1]
        assert opened.teachers == [tmp_path / "models" / f"{n}.safetensors" for n in "ab"]
        dataset, chosen = opened.dataset, opened.image_list
        assert chosen.classes == current.classes
        assert chosen.images == rows
        assert dataset.names("train") == ["m0", "m1", "m2"]
        images = ImageStore(dataset, chosen)
        found = list(images.decoded())
        for (name, photograph, labels), one in zip(found, made, strict=True):
            assert name == one.name
            assert np.array_equal(photograph, one.image)
            assert np.array_equal(labels, one.labels)
        ((_, batch),) = evaluation_batches(images, 3, CPU, IMAGENET)
        assert torch.equal(batch.labels, batch.annotated)

    def test_labels_of_classes_that_are_not_known_are_background(self, tmp_path, lists):
        made = dataclasses.replace(generated(), labels=np.full((16, 16), 3, np.uint8))
        store.image_list(lists.of("step2"), 3, [store.write_image(tmp_path, made)]).write(
            tmp_path / store.LIST
        )
        steps = [{"step": "a", "images": [made.name]}]
        write_json(tmp_path / "manifest.json", {"steps": steps})
        opened = store.open_images(tmp_path)
        ((_, _, labels),) = ImageStore(opened.dataset, opened.image_list).decoded()
        assert (labels == 0).all()

    def test_nothing_is_there(self, tmp_path):
        assert store.open_images(tmp_path) is None

    def test_names_of_files(self):
        names = ["a_dining table/été", "a_dog", "a_dining-table/été", "a_dining table-été"]
        stems = ["a_dining-table-été", "a_dog", "a_dining-table-été-2", "a_dining-table-été-3"]
        assert store.file_stems(names) == stems
