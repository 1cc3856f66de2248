"""How many images the steps of the papers' scenarios train on, written to bench/counts.json.

    python -m bench.counts --labels voc2012_labels.tar

Pascal VOC's are counted by the rules of `stages.split` from its label images, of which the archive
holds `SegmentationClassAug/NAME.png`; beside it lie the lists `voc2012_train_aug.txt` and
`voc2012_val.txt`. Cityscapes' by domain follow from the number of images of each city. ADE20K's are
those of the lists that DKD's and MiB's programs come with.
"""

import argparse
import io
import itertools
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from bench.sweep import composed
from cssegcore.core.config import parse
from cssegcore.core.types import IGNORE
from cssegcore.data.index import Entry
from cssegcore.data.layouts._base import read_names
from cssegcore.scenario.splits import step_lists
from stages.common.params import Params
from stages.fetch import CITIES

FILE = Path(__file__).with_suffix(".json")
VALIDATION = ("frankfurt", "lindau", "munster")
"""The cities of Cityscapes' official validation part, which come last."""
SETTINGS = {
    "voc": ("overlapped", "disjoint", "sequential"),
    "cityscapes": ("domain",),
}
PUBLISHED = {
    "ade/100-50": {"overlapped": [20210, 9390], "partitioned": [13452, 6744]},
    "ade/100-10": {
        "overlapped": [20192, 1710, 2294, 2747, 4279, 2844],
        "partitioned": [13452, 1130, 1200, 1366, 1550, 1498],
    },
    "ade/100-5": {"overlapped": [20192, 1142, 600, 1234, 1204, 1151, 1874, 1807, 2943, 1238, 1898]},
    "ade/50-50": {"overlapped": [20177, 13186, 9390], "partitioned": [8219, 6384, 5593]},
}
"""Training images of each step of ADE20K, as cvlab-yonsei/DKD (overlapped) and fcdl94/MiB
(partitioned) list them. DKD's files of 100-50 and 100-10 differ by 18 images in the first step."""

Counts = Mapping[str, Mapping[str, Mapping[str, Sequence[int]]]]
"""Images by scenario, setting and list (`train`, `seen`), one number a step."""


def read_counts() -> Counts:
    """Returns what the file holds."""
    return json.loads(FILE.read_text(encoding="utf-8"))["images"]


def voc_entries(archive: Path) -> list[Entry]:
    """Returns what VOC's label images show, in the order of the lists, decoding each once."""
    parts: dict[str, tuple[str, ...]] = {}
    for name, of in (("train_aug", ("train",)), ("val", ("val", "test"))):
        parts |= dict.fromkeys(read_names(archive.with_name(f"voc2012_{name}.txt")), of)
    found = {}
    with tarfile.open(archive) as files:
        for member in files:
            if (content := files.extractfile(member)) is None:  # a folder
                continue
            with Image.open(io.BytesIO(content.read())) as image:
                pixels = image.histogram()
            name = Path(member.name).stem
            found[name] = Entry(name, parts[name], "", 1, 1, pixels[IGNORE], tuple(pixels[:21]))
    return [found[name] for name in parts]


def city_entries() -> Iterator[Entry]:
    """Yields Cityscapes' images in the dataset's order, as if all showed the first class."""
    for official in (False, True):
        for city in sorted(CITIES):
            if (city in VALIDATION) == official:
                parts = ("val", "test") if official else ("train",)
                for at in range(CITIES[city]):
                    yield Entry(f"{city}/{at}", parts, "", 1, 1, 0, (1, *[0] * 18), city)


def counted(name: str, setting: str, entries: Sequence[Entry]) -> dict[str, list[int]]:
    """Returns how many images each step of a scenario has by the project's own rules."""
    params = parse(Params, composed([f"scenario={name}", f"scenario.setting={setting}"]), name)
    table = tuple(params.dataset["classes"])
    lists = step_lists(params.scenario_of(table), entries, table)
    return {kind: [len(lists[s][kind].images) for s in params.steps] for kind in ("train", "seen")}


def published(counts: Mapping[str, Sequence[int]]) -> dict[str, dict[str, list[int]]]:
    """Returns the settings of a scenario of ADE20K.

    In a partition no image comes twice, so those seen are a sum; else their number is not known.
    """
    made = {setting: {"train": list(numbers)} for setting, numbers in counts.items()}
    if "partitioned" in made:
        made["partitioned"]["seen"] = list(itertools.accumulate(made["partitioned"]["train"]))
    return made


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, required=True, help="archive of VOC's label images")
    given = parser.parse_args()
    entries = {"voc": voc_entries(given.labels), "cityscapes": list(city_entries())}
    images: dict[str, Any] = {}
    for dataset, settings in SETTINGS.items():
        for path in sorted(Path("conf/scenario", dataset).glob("*.yaml")):
            name = f"{dataset}/{path.stem}"
            if setting_of(name) in settings:
                images[name] = {s: counted(name, s, entries[dataset]) for s in settings}
    images |= {name: published(counts) for name, counts in PUBLISHED.items()}
    about = "Training images of each step; see bench/counts.py, which wrote this."
    rows = (f"{json.dumps(name)}: {json.dumps(of)}" for name, of in images.items())
    text = ",\n".join(rows)
    FILE.write_text(f'{{"about": {json.dumps(about)}, "images": {{\n{text}\n}}}}\n')
    print(f"{FILE.name}: {len(images)} scenarios")


def setting_of(name: str) -> str:
    """Returns the setting that a scenario has by itself."""
    return composed([f"scenario={name}"])["scenario"]["setting"]


if __name__ == "__main__":
    main()
