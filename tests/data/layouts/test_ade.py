import pytest

from cssegcore.data.dataset import open_dataset
from cssegcore.data.index import build_index
from tests.helpers.laid_out_datasets import conf, put


@pytest.mark.parametrize("above", ["", "ADEChallengeData2016"])
def test_ade_may_lie_in_the_folder_of_its_archive(tmp_path, above):
    for folder in ("training", "validation"):
        put(tmp_path / above / "images" / folder / "a.jpg", "RGB")
        put(tmp_path / above / "annotations" / folder / "a.png")
    dataset = open_dataset(conf("ade", tmp_path))
    entries = build_index(dataset, lambda items, _: items)
    assert [(e.name, e.parts) for e in entries] == [
        ("training/a", ("train",)),
        ("validation/a", ("val", "test")),
    ]
