"""The papers' tables: for every published row the command, the expected number, the hours.

    python -m bench.papers --table docs/papers.md [--rate 150]

Runs nothing and needs no dataset: it composes the parameters of each row's runs as `dvc exp run`
does, counts their iterations from bench/counts.json, and multiplies. No GPU has been measured, so
the rate of fine-tuning is an assumption; what a step costs beside it is read off docs/methods.md,
where it was measured on a CPU.
"""

import argparse
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.counts import Counts, read_counts
from bench.sweep import Lengths, Training, composed, trainings
from cssegcore.report.comparison.published import PublishedRow, published_rows
from stages.common.params import FIRST

METHODS = Path("docs/methods.md")
COSTS = "## What a step costs"
RATE = 150.0
DATASETS = {"voc": "Pascal VOC", "ade": "ADE20K", "cityscapes": "Cityscapes, by cities"}
PROGRAMS = {
    "mib": ("model=deeplabv3_r101_iabn", "labels.void=background"),
    "plop": ("model=deeplabv3_r101_iabn",),
    "ssul": (),
    "sdr": ("labels.void=background",),
    "dkd": (),
    "mbs": ("model=segmenter_vit_b16",),
}
"""What makes a run one of that program's, beside the scenario's and the pair's own settings."""
OWN_SETTINGS = ("overlapped", "domain")
"""Settings that scenarios have by themselves."""
OPERATIONS = {"segmenter_vit_b16": 779 / 402}
"""Floating-point operations of a training image of 512² beside those of DeepLabV3-ResNet-101."""
SIDE = 512
"""The side, in pixels, that the assumed rate holds for."""
ALIKE = {
    **{"joint": "ft", "sdr_mib": "sdr", "ssul_m": "ssul", "dkd_m": "dkd", "star_m": "star"},
    **{"ewf_mib": "mib", "nest_mib": "mib", "ewf_plop": "plop", "nest_plop": "plop"},
}
"""Methods whose iterations cost what another's do."""
PRETUNING = 2 / 3
"""An iteration of NeST's pre-tuning beside fine-tuning's: two forward passes, of three in all."""

MARK = "<!-- Below: python -m bench.papers --table docs/papers.md -->\n"
"""What stands above it in the page is written by hand."""


@dataclass(frozen=True)
class Reproduction:
    """What gives a published number here.

    Attributes:
        row: The number.
        method: The recipe.
        overrides: For Hydra; a comma within one makes several runs.
    """

    row: PublishedRow
    method: str
    overrides: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command line."""
        several = any("," in override for override in self.overrides)
        said = (f"'{o}'" if "," in o else o for o in self.overrides)
        start = "dvc exp run --queue" if several else "dvc exp run"
        return " ".join([start, *(f"-S {override}" for override in said)])

    @property
    def runs(self) -> list[tuple[str, ...]]:
        """The overrides of each run."""
        parts = (override.partition("=") for override in self.overrides)
        choices = ([f"{name}={one}" for one in value.split(",")] for name, _, value in parts)
        return list(itertools.product(*choices))

    @property
    def expected(self) -> str:
        """The published numbers."""
        row = self.row
        more = {key: f" ± {value:g}" for key, value in row.deviations.items()}
        return ", ".join(f"{key} {v:g}{more.get(key, '')}" for key, v in row.numbers.items())


@dataclass(frozen=True)
class Cost:
    """What a run costs by arithmetic.

    Attributes:
        iterations: Of all steps.
        batch: Images of each.
        hours: At the assumed rate.
    """

    iterations: int
    batch: int
    hours: float


def reproductions() -> Iterator[Reproduction]:
    """Yields every published row, once for each of our recipes of it, in the order of the file."""
    for row in published_rows():
        for method in row.methods:
            yield Reproduction(row, method, (*_overrides(row, method), "evaluation.view=crop"))


def _overrides(row: PublishedRow, method: str) -> Iterator[str]:
    dataset = row.scenario.partition("/")[0]
    yield f"scenario={row.scenario}"
    yield f"method={method}"
    if row.setting not in OWN_SETTINGS:
        yield f"scenario.setting={row.setting}"
    if row.orders != ("native",):
        orders = sorted(row.orders, key=lambda name: name != "native")
        yield "order=" + ",".join(
            "none" if o == "native" else f"{row.scenario}/{o}" for o in orders
        )
    for override in PROGRAMS[row.counting]:
        if dataset == "voc" or not override.startswith("labels."):  # only VOC has void beside 0
            yield override
    if row.deviations:
        yield "seed=1,2,3,4,5"


def step_costs(page: Path = METHODS) -> dict[str, float]:
    """Reads what an increment's iteration costs beside fine-tuning's, of the largest network."""
    section = page.read_text(encoding="utf-8").split(COSTS)[1]
    known: dict[tuple[int, str], float] = {(0, "ft"): 1.0}
    for line in section.splitlines():
        if line.startswith("| `"):
            names, *columns = (cell.strip() for cell in line.strip("|").split("|"))
            for column, numbers in enumerate(columns):
                pairs = zip(re.findall(r"`(\w+)`", names), numbers.split(", "), strict=False)
                known |= {(column, n): float(v) for n, v in pairs if re.fullmatch(r"[\d.]+", v)}
    return {name: known[column, name] for column, name in sorted(known)}


def lengths(row: PublishedRow, counts: Counts) -> Lengths:
    """Returns the number of images of each step's lists."""
    of = counts[row.scenario][row.setting]
    steps = range(len(of["train"]))
    return {f"step{at}": {kind: numbers[at] for kind, numbers in of.items()} for at in steps}


@cache
def _params(scenario: str, method: str) -> dict[str, Any]:
    """Returns the parameters of a pair; what else a command sets changes no iterations."""
    return composed([f"scenario={scenario}", f"method={method}"])


def cost(of: Reproduction, counts: Counts, costs: Mapping[str, float], rate: float) -> Cost:
    """Reckons the first of a row's runs; the others have as many images."""
    params = _params(of.row.scenario, of.method)
    batch, side = params["optimizer"]["batch_size"], params["augmentation"]["size"]
    done = trainings(params, lengths(of.row, counts))
    beside_ft = costs[ALIKE.get(of.method, of.method)]
    passes = sum(t.iterations * (1 if t.step == FIRST else beside_ft) for t in done)
    passes += PRETUNING * _pretuned(params, done)
    network = next((OPERATIONS[n] for n in OPERATIONS if f"model={n}" in of.overrides), 1.0)
    images = passes * batch * network * (side / SIDE) ** 2
    return Cost(sum(t.iterations for t in done), batch, images / rate / 3600)


def _pretuned(params: Mapping[str, Any], done: Sequence[Training]) -> float:
    """Returns the iterations of NeST's pre-tuning, and its one look at every image."""
    init = params["method"]["classifier_init"]
    if init["part"] != "pretuned":
        return 0
    epochs = params["schedule"]["increment"]["epochs"]
    return sum(t.iterations * (init["epochs"] + 1) / epochs for t in done if t.step != FIRST)


def tables(rate: float) -> str:
    """Returns all tables, and above them what hours follow from."""
    counts, costs = read_counts(), step_costs()
    reckoned = [(one, cost(one, counts, costs, rate)) for one in reproductions()]
    hours = {one.command: len(one.runs) * of.hours for one, of in reckoned}
    parts = [
        f"Assumed, not measured: fine-tuning DeepLabV3-ResNet-101 at {SIDE}² trains {rate:g}"
        f" images a second on one H200. The {len(hours)} commands below would then take"
        f" {sum(hours.values()):.0f} hours, base steps that they share trained in each.\n"
    ]
    for dataset, title in DATASETS.items():
        parts.append(f"\n## {title}\n")
        own = [pair for pair in reckoned if pair[0].row.scenario.startswith(f"{dataset}/")]
        for table, rows in itertools.groupby(own, lambda pair: _table(pair[0])):
            parts += [*heading(*table), *(line(*pair) for pair in rows)]
    return "".join(parts)


def _table(of: Reproduction) -> tuple[str, str, str]:
    return of.row.source, of.row.setting, of.row.counting


def heading(source: str, setting: str, counting: str) -> list[str]:
    """Returns what stands above the rows of one source and setting."""
    columns = ("", "scenario", "expected", "iterations × images", "hours, by arithmetic", "command")
    return [
        f"\n**{source}**: {setting}, test images as crops, protocol `{counting}`\n\n",
        f"| {' | '.join(columns)} |\n",
        f"|{'---|' * len(columns)}\n",
    ]


def line(of: Reproduction, cost: Cost) -> str:
    """Returns a row of a table."""
    runs = f"{len(of.runs)} × " if len(of.runs) > 1 else ""
    label = of.row.label if len(of.row.methods) == 1 else f"{of.row.label} (`{of.method}`)"
    cells = (
        label,
        of.row.scenario,
        of.expected,
        f"{cost.iterations:,} × {cost.batch}",
        f"{runs}{cost.hours:.1f}",
        f"`{of.command}`",
    )
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Prints the page, or writes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    said = "images a second that fine-tuning DeepLabV3-ResNet-101 at 512² is assumed to train"
    parser.add_argument("--rate", type=float, default=RATE, help=said)
    parser.add_argument("--table", type=Path, help="page whose tables to write anew")
    given = parser.parse_args()
    made = tables(given.rate)
    if given.table:
        above, _, _ = given.table.read_text(encoding="utf-8").partition(MARK)
        given.table.write_text(above + MARK + made, encoding="utf-8")
    else:
        print(made, end="")


if __name__ == "__main__":
    main()
