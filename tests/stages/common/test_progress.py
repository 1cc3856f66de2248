import pytest

from stages.common import progress
from stages.common.progress import TrainingProgress, duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def follow(told, clock, epochs, *, seconds, val=(), batches=10):
    for epoch in epochs:
        for _ in told.batches(range(batches), batches):
            clock.now += seconds / batches
        row = {"epoch": float(epoch), "lr": 0.1, "loss": 1 / epoch}
        told.epoch(row | ({"val_miou": 40.0 + epoch} if epoch in val else {}))


class TestLines:
    def test_a_fifth_of_the_epochs_is_told(self, clock, capsys):
        told = TrainingProgress("step1", 10, 8, clock)
        follow(told, clock, range(1, 11), seconds=4)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in lines] == [
            f"step1 epoch {epoch}/10" for epoch in (2, 4, 6, 8, 10)
        ]
        assert lines[0] == "step1 epoch 2/10: loss 0.5000, 20 images/s, 32 s left"
        assert lines[-1].endswith("0 s left")

    def test_what_was_measured_is_told(self, clock, capsys):
        told = TrainingProgress("step1", 10, 8, clock)
        follow(told, clock, (1, 2), seconds=4, val=(1,))
        first, _ = capsys.readouterr().out.splitlines()
        assert first == "step1 epoch 1/10: loss 1.0000, val mIoU 41.0, 20 images/s, 36 s left"

    def test_long_epochs_are_all_told(self, clock, capsys):
        told = TrainingProgress("step1", 60, 8, clock)
        follow(told, clock, (1, 2, 3), seconds=600)
        lines = capsys.readouterr().out.splitlines()
        assert [line.rpartition(", ")[2] for line in lines] == [
            "9 h 50 min left",
            "9 h 40 min left",
            "9 h 30 min left",
        ]

    def test_restored_epochs_are_no_time(self, clock, capsys):
        told = TrainingProgress("step1", 4, 8, clock)
        told.epoch({"epoch": 1.0, "lr": 0.1, "loss": 1.0})
        told.epoch({"epoch": 2.0, "lr": 0.1, "loss": 1.0})
        follow(told, clock, (3,), seconds=10)
        assert capsys.readouterr().out == "step1 epoch 3/4: loss 0.3333, 8 images/s, 10 s left\n"


def test_in_a_terminal_a_bar_says_it(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress, "interactive", lambda: True)
    told = TrainingProgress("step1", 4, 8, clock)
    follow(told, clock, (1, 2), seconds=10, val=(1,))
    said = capsys.readouterr()
    assert said.out == ""
    assert "step1 2/4" in said.err
    assert "images" in said.err
    assert "loss 1.0000, val mIoU 41.0, 8 images/s, 30 s left" in said.err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
