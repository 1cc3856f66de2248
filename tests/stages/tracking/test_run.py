import pytest

from cssegcore.core.errors import InputError
from stages import tracking
from stages.tracking.journal import journals
from tests.helpers.tracked_runs import INFO, python, send, whole_run


@pytest.mark.parametrize(
    ("error", "state"), [(FloatingPointError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_stage_that_fails_says_so(memory, error, state):
    def stage():
        with tracking.open_run(INFO) as run:
            run.step("step0").metrics({"loss/ce": 1.0}, step=1)
            raise error

    with pytest.raises(error):
        stage()
    send(memory)
    assert memory.states == {"": state, "step0": state}


def test_no_value_is_no_point(memory):
    with tracking.open_run(INFO) as run:
        values = {"a": float("nan"), "b": float("inf"), "c": None, "d": 1.0}
        run.metrics(values, step=0)
        run.metrics({"a": None}, step=1)
    send(memory)
    assert memory.points == [("", "d", 0, 1.0)]


@pytest.mark.parametrize("value", ["no", "Off", "0", "false"])
def test_a_switch_that_says_something_else_sends_nothing(root, monkeypatch, value):
    monkeypatch.setenv("CSSEGCORE_TRACKING", value)
    with pytest.raises(InputError, match=f"^CSSEGCORE_TRACKING is '{value}': set on, later or off"):
        tracking.open_run(INFO)
    assert not (root / ".cssegcore").exists()


@pytest.mark.parametrize(("name", "value"), [("CSSEGCORE_TRACKING", "off"), ("RANK", "1")])
def test_off_means_off(root, monkeypatch, name, value, report):
    monkeypatch.setenv(name, value)
    whole_run(report)
    assert not (root / ".cssegcore").exists()


def test_stages_need_neither_mlflow_nor_torch(root):
    status, said = python(
        "import sys\n"
        "heavy = {'mlflow', 'torch', 'numpy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.modules['mlflow'] = None\n"
        "with tracking.open_run(INFO) as run:\n"
        "    run.metrics({'miou/all': 60.0}, step=0)\n"
    )
    assert status == 0, said
    assert len(journals()) == 1


def test_the_key_is_what_determines_the_run():
    params = {"dataset": {"name": "voc", "root": "/data"}, "losses": {}, "seed": 1}
    key = tracking.run_key(params, "code", "data")
    moved = {**params, "dataset": {"name": "voc", "root": "/elsewhere"}}
    assert len(key) == 16
    assert tracking.run_key(moved, "code", "data") == key
    assert tracking.run_key(tracking.scalars(params), "code", "data") == key
    others = [
        tracking.run_key({**params, "seed": 2}, "code", "data"),
        tracking.run_key({"dataset": {"name": "voc"}, "seed": 1}, "code", "data"),
        tracking.run_key(params, "other code", "data"),
        tracking.run_key(params, "code", "other data"),
    ]
    assert len({key, *others}) == 5


def test_parameters_are_flattened():
    nested = {"a": {"b": 1, "c": {"d": None}}, "e": [1, "x"], "f": {}}
    assert tracking.scalars(nested) == {"a.b": 1, "a.c.d": None, "e": '[1, "x"]', "f": "{}"}
