"""Which run of MLflow the stages of a pipeline report to, and what they say there."""

import contextlib
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from cssegcore.core.config import flatten
from cssegcore.core.files import digest

from .. import tracking
from .once import dvc_md5
from .params import Params, raw_as_read

if TYPE_CHECKING:
    from cssegcore.metrics.confusion import Future

RUN = "run.json"
"""What `check` notes of a run's name, beside the folder of the code tables."""


def open_tracked_run(params: Params, code: Path) -> tracking.Run:
    """Opens the continual run that `params` describe.

    Args:
        params: The whole parameter file.
        code: Folder of the code tables, beside which the lists lie; other code, and lists of other
            images, make another run.
    """
    raw, called = raw_as_read(), read_name(code.parent / RUN, params)
    tables = digest(*(table.read_bytes() for table in sorted(code.glob("*.json"))))
    scenario = params.scenario
    order = "" if scenario.order == "native" else f" order {scenario.order}"
    where = f"{scenario.name}{order} · {scenario.rule}"
    return tracking.open_run(
        tracking.RunInfo(
            key=tracking.run_key(raw, tables, _data(code.parent / "split")),
            # MLflow's pages drop what stands before a slash, and cut names after 18 characters
            experiment=f"{scenario.name.replace('/', ' ')}{order} {scenario.rule}",
            name=f"{called['label']} · seed {params.seed} · {where}",
            params=tracking.scalars(raw),
            tags={
                "method": params.method["name"],
                "scenario": scenario.name,
                "order": scenario.order,
                "setting": scenario.rule,
                "label": called["label"],
                "changed": json.dumps(called["changed"], ensure_ascii=False),
            },
        )
    )


def _data(split: Path) -> str:
    """Returns DVC's digest of the lists, which hold a digest of every image; "" without any.

    That of the lock goes first: all stages of a run find the same there, also where only some of
    the lists were pulled.
    """
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        text = Path("dvc.lock").read_text(encoding="utf-8")
        for out in yaml.load(text, Loader=yaml.CSafeLoader)["stages"]["split"]["outs"]:
            if out["path"] == split.as_posix():
                return str(out["md5"])
    return dvc_md5(split) if split.is_dir() else ""


def read_name(path: Path, params: Params) -> dict[str, Any]:
    """Returns what `check` noted: `label`, and by name what `changed`.

    A stage that somebody runs alone has the method's name; it is told and no result depends on it.
    """
    try:
        told = json.loads(path.read_bytes())
        return {"label": str(told["label"]), "changed": dict(told["changed"])}
    except (OSError, ValueError, LookupError, TypeError):
        return {"label": params.method["name"], "changed": {}}


def log_epoch(nested: tracking.StepRun, row: Mapping[str, float]) -> None:
    """Records one epoch of a step's training."""
    values = {_curve(k): v for k, v in row.items() if k != "epoch"}
    nested.metrics(values, step=int(row["epoch"]))


def log_run(
    run: tracking.Run,
    evaluation: Path,
    report: Path,
    future: "Future",
    seconds: Mapping[str, float] = MappingProxyType({}),
    model: Path | None = None,
) -> None:
    """Records a finished run as a whole.

    A stage that DVC restores from its cache does not run, so it told nothing; what others told
    already is recognised and not told twice.

    Args:
        run: The continual run.
        evaluation: The evaluation of its last step.
        report: Its report.
        future: What classes not learned yet count as.
        seconds: How long the training of each step took.
        model: The model of its last step, to be offered in MLflow.
    """
    from cssegcore.evaluation.folder import read_evaluation
    from cssegcore.metrics.continual import continual_scores, step_scores

    told = read_evaluation(evaluation)
    for record, further, costs in zip(told.records, told.further, told.costs, strict=True):
        values: dict[str, Any] = flatten(step_scores(record, future) | further | costs, "/")
        run.metrics(values, step=record.index)
        nested = run.step(record.step)
        nested.metrics(values | {"seconds": seconds.get(record.step)}, step=0)
        with (evaluation / record.step / "epochs.csv").open(encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                log_epoch(nested, {k: float(v) for k, v in row.items() if v})
        nested.finish()
    final = continual_scores(told.records, future)
    run.metrics({f"final/{k}": v for k, v in final.items()}, step=0)  # one value: shown as a bar
    run.artifacts(report, "report")
    if model is not None:
        offer_model(run, model)
    run.finish()


def offer_model(run: tracking.Run, model: Path) -> None:
    """Records a model as `CSSEGCORE_MODELS` says; one that is not there is none's fault.

    As with seconds, no stage depends on it: a pull may have brought the results alone.
    """
    from ..serving.logged import wanted

    registered = wanted()
    if registered is not None and model.is_file():
        run.model(model, registered)


def _curve(column: str) -> str:
    if column.startswith("val_"):
        return f"val/{column.removeprefix('val_')}"
    return column if column == "lr" else f"loss/{column}" if column != "loss" else "loss/total"
