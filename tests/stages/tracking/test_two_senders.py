import threading
import time

import pytest

from stages.tracking.mlflow_backend import MlflowBackend
from stages.tracking.tracker import PARENT, Ended, Metrics, Opened
from tests.helpers.tracked_runs import INFO

# MLflow's own business with SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


class TestTwoSenders:
    """Of two checkouts that have one server; each has the same run to tell."""

    OPENED = Opened(**vars(INFO))
    POINTS = tuple(Metrics("step0", n, {"loss/ce": 1.0 + n}) for n in range(5))

    def tell(self):
        backend = MlflowBackend()
        backend.begin(self.OPENED, PARENT, self.OPENED.time)
        for point in self.POINTS:
            backend.log(self.OPENED, [point])
        backend.end(self.OPENED, Ended("step0", "FINISHED"))

    def test_at_once(self, store, monkeypatch):
        from mlflow.tracking import MlflowClient

        def slowly(real):
            """Gives the other one the time to look between looking and writing."""

            def slow(*arguments, **options):
                time.sleep(0.05)
                return real(*arguments, **options)

            return slow

        for name in ("create_run", "log_batch", "create_experiment"):
            monkeypatch.setattr(MlflowClient, name, slowly(getattr(MlflowClient, name)))
        senders = [threading.Thread(target=self.tell) for _ in range(2)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert store.states() == {"parent": "RUNNING", "step0": "FINISHED"}
        assert store.points("step0", "loss/ce") == [(n, 1.0 + n) for n in range(5)]

    def test_in_turns(self, store):
        """Each made runs and points after the other had looked."""
        one, two = MlflowBackend(), MlflowBackend()
        for backend in (one, two):
            backend.begin(self.OPENED, PARENT, self.OPENED.time)
        for part in ("step0", "step1"):
            for step in range(3):
                for backend in (one, two):
                    backend.log(self.OPENED, [Metrics(part, step, {"loss/ce": 1.0})])
        assert set(store.runs()) == {"parent", "step0", "step1"}
        assert store.points("step1", "loss/ce") == [(n, 1.0) for n in range(3)]

    def test_on_two_machines(self, store, monkeypatch):
        """There no lock helps: whoever made a run looks again, and one of the two goes."""
        from mlflow.tracking import MlflowClient

        def create_twice(client, *args, real=MlflowClient.create_run, **options):
            real(client, *args, **{**options, "start_time": 1})
            return real(client, *args, **options)

        monkeypatch.setattr(MlflowClient, "create_run", create_twice)
        self.tell()
        assert set(store.runs()) == {"parent", "step0"}
        assert store.points("step0", "loss/ce") == [(n, 1.0 + n) for n in range(5)]
