"""Puts one continual run together."""

from pathlib import Path
from typing import Annotated

import typer

from .common.cli import run, say
from .common.params import raw_as_read, read_params


def main(
    evaluation: Annotated[Path, typer.Option(help="The evaluation of the last step.")],
    steps: Annotated[Path, typer.Option(help="Folder of the steps' folders, for timing.json.")],
    code: Annotated[Path, typer.Option(help="Table of the code behind this stage.")],
    name: Annotated[Path, typer.Option(help="What the run is called (JSON).")],
    out: Annotated[Path, typer.Option(help="Folder for summary.json, tables, figures, the page.")],
) -> None:
    """Write the summary, curves, tables, figures and a page of the whole run."""
    from cssegcore.report.write import write_report

    from .common.provenance import read_provenance, read_seconds
    from .common.reporting import log_run, open_tracked_run, read_name

    params = read_params()
    scenario, future = params.scenario, params.evaluation.future
    called = read_name(name, params)
    protocol = {
        "method": params.method["name"],
        "scenario": scenario.name,
        "setting": scenario.rule,
        "order": scenario.order,
        "seed": str(params.seed),
        "test images": params.evaluation.reading,
    }
    if selection := params.validation.selection:
        protocol["weights"] = selection
    seconds = read_seconds(steps, list(params.steps))
    model = steps / scenario.last / "model.safetensors"
    title = f"{called['label']} on {scenario.name}"
    write_report(
        evaluation,
        out,
        title=title,
        protocol=protocol,
        parameters=raw_as_read(),
        changed=called["changed"],
        provenance=read_provenance(steps, list(params.steps)),
        future=future,
        background=params.dataset.get("background", "annotated"),
        seconds=seconds,
    )
    with open_tracked_run(params, code.parent) as tracked:
        log_run(tracked, evaluation, out, future, seconds, model)
    say(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    run(main)
