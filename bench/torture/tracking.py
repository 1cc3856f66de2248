"""A tracker that is away, slow, broken or full; and two senders that send the same."""

import contextlib
import http.server
import os
import random
import shutil
import socket
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from bench.torture._batch import once
from bench.torture._ledger import BLOCKED, CRASHED, DIFFERS, LOST, REFUSED, SAME, Ledger
from bench.torture._tree import Tree, import_once
from bench.torture._trial import Ended, Kill, at, command, forked

STAGE = "train@step0"
Points = list[tuple[str, str, int, float]]
Environment = dict[str, str | None]


def run(ledger: Ledger) -> None:
    """Trains with every kind of outage, ends the outage, sends, and looks into MLflow."""
    import_once()
    import mlflow.tracking  # noqa: F401 - once, for all forks

    with tempfile.TemporaryDirectory() as name:
        tree = Tree.walked(ledger.trees, "plain")
        empty = Path(name, "empty.db")
        once(lambda: _make_database(empty))
        for fault, outage in OUTAGES.items():
            for number in range(ledger.times(2)):
                _outage(ledger, tree, empty, fault, outage, number)
        for number in range(ledger.times(4)):
            seconds = _race(ledger, tree, empty, number)
            _killed(ledger, tree, empty, number, seconds)


def _make_database(path: Path) -> None:
    from mlflow.tracking import MlflowClient

    MlflowClient(f"sqlite:///{path}").search_experiments()


def _outage(
    ledger: Ledger,
    tree: Tree,
    empty: Path,
    fault: str,
    outage: "Outage",
    number: int,
) -> None:
    rng = ledger.rng(fault, number)
    _fresh(tree, empty)
    with outage(tree.folder, rng) as environment:
        tree.clear(STAGE)
        trained = tree.run(STAGE, **{"CSSEGCORE_TRACKING": "later", **environment})
        what = ledger.judge(trained, lambda: tree.same(STAGE))
        wanted = _spooled(tree)
        sent = _send(tree, environment)
        if sent.status is None or (sent.crashed and sent.status != 1):
            what = ledger.judge(sent, None)
        elif sent.status == 0 and wanted:
            what = what if _points(tree) == wanted else LOST
        elif "Traceback" in sent.said:
            what = CRASHED
    if what == SAME and wanted:
        again = _send(tree, {})
        what = BLOCKED if again.status else SAME if _points(tree) == wanted else LOST
    example = {"trial": (fault, number), "said": sent.said[-600:]}
    ledger.count(fault, DIFFERS if what == REFUSED else what, example)


def _killed(ledger: Ledger, tree: Tree, empty: Path, number: int, seconds: float) -> None:
    """The sender itself is killed; the next one sends what is missing, and nothing twice."""
    rng = ledger.rng("killed", number)
    _fresh(tree, empty)
    tree.clear(STAGE)
    tree.run(STAGE, CSSEGCORE_TRACKING="later")
    wanted = _spooled(tree)
    _send(tree, {}, Kill(9, after=rng.uniform(0, seconds)))
    again = _send(tree, {})
    what = BLOCKED if again.status else SAME if _points(tree) == wanted else DIFFERS
    example = {"trial": number, "said": again.said[-600:]}
    ledger.count("the sender is killed at any moment, then sends again", what, example)


def _race(ledger: Ledger, tree: Tree, empty: Path, number: int) -> float:
    """Two checkouts of one run send at once to one database; returns the seconds that took."""
    _fresh(tree, empty)
    tree.clear(STAGE)
    tree.run(STAGE, CSSEGCORE_TRACKING="later")
    wanted = _spooled(tree)
    other = tree.place / "other"
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(tree.folder / ".cssegcore", other / ".cssegcore")
    database = {"MLFLOW_TRACKING_URI": f"sqlite:///{tree.folder / 'mlflow.db'}"}

    def both() -> int:
        child = os.fork()
        os.environ |= database
        if child == 0:
            os.chdir(other)
            os._exit(command(["stages.track"]))
        mine = command(["stages.track"])
        return max(mine, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with at(tree.folder, MLFLOW_PORT=None):
        sent = forked(both, (tree.folder, other))
    what = (
        SAME if sent.status == 0 and _points(tree) == wanted else ledger.judge(sent, lambda: False)
    )
    ledger.count("two senders send the same run at once", what, {"said": sent.said[-900:]})
    return sent.seconds


def _fresh(tree: Tree, empty: Path) -> None:
    for left in (tree.folder / ".cssegcore", tree.folder / "mlartifacts"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)
    for path in tree.folder.glob("mlflow.db*"):
        path.unlink()
    shutil.copy(empty, tree.folder / "mlflow.db")


def _spooled(tree: Tree) -> Points:
    """Returns the points that wait, as the simplest tracker gets them."""
    from stages.tracking.journal import journals
    from stages.tracking.sender import Sender
    from tests.helpers.tracked_runs import Memory

    def points() -> Points:
        tracker = Memory()
        with mock.patch("stages.tracking.journal.Reader.remove"):
            Sender(tracker).send() if journals() else None
        return sorted((p, k, s, _digits(v)) for p, k, s, v in tracker.points)

    with at(tree.folder, CSSEGCORE_TRACKING="later"):
        return once(points)  # type: ignore[return-value]


def _points(tree: Tree) -> Points:
    """Returns the points that MLflow has."""

    def points() -> Points:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{tree.folder / 'mlflow.db'}")
        found = []
        for experiment in client.search_experiments():
            for each in client.search_runs([experiment.experiment_id]):
                part = each.data.tags.get("cssegcore.step", "")
                for key in each.data.metrics:
                    history = client.get_metric_history(each.info.run_id, key)
                    found += [(part, key, p.step, _digits(p.value)) for p in history]
        return sorted(found)

    with at(tree.folder):
        return once(points)  # type: ignore[return-value]


def _digits(value: float) -> float:
    return float(f"{value:.6g}")


def _send(tree: Tree, environment: Environment, kill: Kill | None = None) -> Ended:
    """Runs `python -m stages.track`, with less patience than a person has."""
    variables = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_PORT": None, **environment}
    with at(tree.folder, **variables):
        place = (tree.folder,)
        return forked(lambda: command(["stages.track"]), place, kill=kill)


Outage = Callable[[Path, random.Random], contextlib.AbstractContextManager[Environment]]


@contextlib.contextmanager
def _refusing(folder: Path, rng: random.Random) -> Iterator[Environment]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}


@contextlib.contextmanager
def _silent(folder: Path, rng: random.Random) -> Iterator[Environment]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.getsockname()[1]}"}


def _answering(status: int, body: bytes) -> Outage:
    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815 - the library's names

        def log_message(self, format: str, *_: object) -> None:
            return

    @contextlib.contextmanager
    def outage(folder: Path, rng: random.Random) -> Iterator[Environment]:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.server_address[1]}"}
        server.shutdown()
        server.server_close()
        thread.join()

    return outage


@contextlib.contextmanager
def _locked(folder: Path, rng: random.Random) -> Iterator[Environment]:
    holder = sqlite3.connect(folder / "mlflow.db")
    holder.execute("BEGIN EXCLUSIVE")
    yield {}
    holder.rollback()
    holder.close()


@contextlib.contextmanager
def _damaged(folder: Path, rng: random.Random) -> Iterator[Environment]:
    path = folder / "mlflow.db"
    kept = path.read_bytes()
    path.write_bytes(rng.randbytes(len(kept)) if rng.random() < 0.5 else kept[: len(kept) // 2])
    yield {}
    path.write_bytes(kept)


@contextlib.contextmanager
def _no_folder(folder: Path, rng: random.Random) -> Iterator[Environment]:
    """A file stands where the journals go: nothing can be noted, and the work goes on."""
    place = folder / ".cssegcore"
    place.mkdir(exist_ok=True)
    (place / "tracking").write_text("in the way")
    yield {}
    (place / "tracking").unlink()


@contextlib.contextmanager
def _not_installed(folder: Path, rng: random.Random) -> Iterator[Environment]:
    yield {"MLFLOW_TRACKING_URI": "nonsense://nowhere"}


OUTAGES: dict[str, Outage] = {
    "the server refuses connections": _refusing,
    "the server takes connections and never answers": _silent,
    "the server answers 500 to everything": _answering(500, b"{}"),
    "the server answers with something else's page": _answering(200, b"<h1>hello</h1>"),
    "another process holds the database": _locked,
    "the database is damaged": _damaged,
    "the journals' folder cannot be made": _no_folder,
    "the server's address makes no sense": _not_installed,
}
