from stages import tracking
from stages.tracking.journal import journals
from stages.tracking.sender import Sender
from tests.helpers.tracked_runs import INFO, python, send


def test_a_torn_line_waits_for_its_end(memory):
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
        run.metrics({"miou/all": 50.0}, step=1)
        whole = journals()[0].read_bytes()
        journals()[0].write_bytes(whole[:-20])
        sender = Sender(memory)
        sender.send()
        assert memory.curve("", "miou/all") == [(0, 60.0)]
        journals()[0].write_bytes(whole)
        sender.send()
        assert memory.curve("", "miou/all") == [(0, 60.0), (1, 50.0)]


def test_a_torn_line_whose_writer_is_gone_is_dropped(memory):
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
        run.metrics({"miou/all": 50.0}, step=1)
    whole = journals()[0].read_bytes()
    journals()[0].write_bytes(whole[: whole.rindex(b"50.0")])
    send(memory)
    assert memory.curve("", "miou/all") == [(0, 60.0)]
    assert not journals()


def test_a_full_disk_is_said_once_and_survived(memory):
    status, said = python(
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with tracking.open_run(INFO) as run:\n"
        "    run.metrics({'miou/all': 60.0}, step=0)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (700, -1))\n"
        "    for step in range(1, 9):\n"
        "        run.metrics({'miou/all': 50.0}, step=step)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
        "    run.metrics({'miou/all': 40.0}, step=9)\n"
    )
    assert status == 0, said
    assert said.count("\n") == 1
    assert "the work goes on" in said
    send(memory)
    points = memory.curve("", "miou/all")
    assert points[0] == (0, 60.0)
    assert points[-1] == (9, 40.0), "what comes after the torn line is read"
    assert len(points) < 10


def test_a_spool_that_cannot_be_made_is_survived(root, caplog, tmp_path):
    (root / ".cssegcore").write_text("in the way")
    with tracking.open_run(INFO) as run:
        run.metrics({"miou/all": 60.0}, step=0)
        run.artifacts(tmp_path / "not there")
    assert len(caplog.records) == 1


def test_a_missing_artifact_is_survived(memory, tmp_path, caplog):
    with tracking.open_run(INFO) as run:
        run.artifacts(tmp_path / "not there")
        run.finish()
    send(memory)
    assert memory.states == {"": "FINISHED"}
    assert len(caplog.records) == 1


def test_the_copies_are_those_of_the_moment(memory, report):
    with tracking.open_run(INFO) as run:
        run.artifacts(report, "report")
        run.artifacts(report / "report.html")
    (report / "figures" / "miou.svg").unlink()
    send(memory)
    assert sorted(memory.files) == ["/report.html", "report/figures", "report/report.html"]
