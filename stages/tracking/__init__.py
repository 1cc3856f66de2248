"""Tracking that cannot hurt: stages write down what happens, a sender tells the tracker.

A stage calls `open_run` and gets a `Run` whose methods append lines to a journal in
`.cssegcore/tracking/` of the main repository. They import no MLflow, wait for nobody and raise
nothing when a disk or a server fails. A separate process of low priority reads the journals and
feeds a `Tracker`, which is MLflow; what it could not deliver stays and is sent by the next one, or
by `python -m stages.track`. Sending the same thing twice changes nothing.

`CSSEGCORE_TRACKING` says how much: `on` (the default), `later` (journals only, for machines
that cannot reach the server; send with the command) or `off`.
"""

from .run import Run, StepRun, open_run, run_key, scalars
from .tracker import RunInfo

__all__ = ["Run", "RunInfo", "StepRun", "open_run", "run_key", "scalars"]
