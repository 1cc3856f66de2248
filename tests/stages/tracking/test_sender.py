import time

import pytest

from stages import tracking
from stages.tracking import sender as module
from stages.tracking.journal import hold_lock, is_locked, journals, spool
from stages.tracking.sender import Sender, follow
from stages.tracking.tracker import DeliveryError
from tests.helpers.tracked_runs import INFO, send, start_python

# MLflow's own business with SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


def test_a_journal_arrives_while_it_is_written(memory):
    sender = Sender(memory)
    with tracking.open_run(INFO) as run:
        for epoch in (1, 2):
            run.step("step0").metrics({"loss/ce": 1.0 / epoch}, step=epoch)
            sender.send()
            assert len(memory.curve("step0", "loss/ce")) == epoch
            assert sender.send() == 0, "nothing is new"
    assert memory.states == {"": "RUNNING", "step0": "RUNNING"}


@pytest.mark.parametrize("followed", [True, False])
def test_a_killed_stage_shows_and_goes_on(memory, followed):
    sender = Sender(memory)
    stage = start_python(
        "with tracking.open_run(INFO) as run:\n"
        "    run.step('step0').metrics({'loss/ce': 2.0}, step=1)\n"
        "    run.step('step0').finish()\n"
        "    run.step('step1').metrics({'loss/ce': 1.0}, step=1)\n"
        "    print('ready', flush=True)\n"
        "    input()\n"
    )
    with stage:
        assert stage.stdout.readline() == "ready\n"
        if followed:
            sender.send()
            assert memory.states == {"": "RUNNING", "step0": "FINISHED", "step1": "RUNNING"}
        stage.kill()
    sender.send()
    assert memory.states == {"": "KILLED", "step0": "FINISHED", "step1": "KILLED"}
    assert memory.curve("step1", "loss/ce") == [(1, 1.0)]

    with tracking.open_run(INFO) as run:
        run.step("step1").metrics({"loss/ce": 0.5}, step=2)
    send(memory)
    assert memory.states == {"": "RUNNING", "step0": "FINISHED", "step1": "RUNNING"}


def test_a_tracker_away_loses_nothing(memory):
    sender = Sender(memory)
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
        sender.send()
        memory.down = True
        run.metrics({"miou/all": 50.0}, step=1)
        for _ in range(2):
            with pytest.raises(DeliveryError, match="away"):
                sender.send()
        memory.down = False
        sender.send()
        assert memory.curve("", "miou/all") == [(0, 60.0), (1, 50.0)]


def test_a_refused_journal_stops_no_other(memory):
    with tracking.open_run(INFO) as run:
        run.metrics({"a//b": 1.0}, step=0)
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
    sender = Sender(memory)
    sender.send()
    assert list(sender.set_aside.values()) == ["an empty path segment"]
    assert list(sender.set_aside) == list(spool().glob("*.refused"))
    assert memory.curve("", "miou/all") == [(0, 60.0)]
    assert sender.send() == 0


def test_a_sender_finds_its_journal_gone(memory):
    """Another sender, a command, was faster."""
    slow = Sender(memory)
    with tracking.open_run(INFO) as run:
        slow.send()
        run.metrics({"miou/all": 60.0}, step=0)
    send(memory)
    assert slow.send() == 0
    assert memory.curve("", "miou/all") == [(0, 60.0)]


def test_a_second_sender_waits_for_the_first(memory, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.2)
    with tracking.open_run(INFO):
        pass
    sender = Sender(memory)
    with (
        hold_lock(spool() / "sending.lock"),
        pytest.raises(DeliveryError, match="another sender is at work"),
    ):
        sender.send()
    assert sender.send() == 2


def test_the_background_sender_gives_up_and_keeps(memory, monkeypatch):
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(module, "MlflowBackend", lambda: memory)
    memory.down = True
    with tracking.open_run(INFO):
        pass
    follow()
    assert len(journals()) == 1


def test_the_background_sender_leaves_when_idle(memory, monkeypatch):
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.05)
    monkeypatch.setattr(module, "MlflowBackend", lambda: memory)
    with tracking.open_run(INFO):
        pass
    follow()
    assert memory.states == {"": "RUNNING"}
    assert not is_locked(spool() / "sender.lock")


def test_a_real_background_sender_and_another_beside_it(store, monkeypatch):
    monkeypatch.setenv("CSSEGCORE_TRACKING", "on")
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
    deadline = time.monotonic() + 120
    while journals() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert store.points("parent", "miou/all") == [(0, 60.0)]
    assert is_locked(spool() / "sender.lock"), "it waits for the next stage"

    with tracking.open_run(INFO) as run:
        for step in range(1, 9):
            run.metrics({"miou/all": 60.0 - step}, step=step)
            Sender().send()
    send()
    assert store.points("parent", "miou/all") == [(n, 60.0 - n) for n in range(9)]
