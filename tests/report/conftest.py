import pytest

from cssegcore.report.write import write_report
from tests.helpers.large_run import write_large_evaluation


@pytest.fixture(scope="session")
def large_report(tmp_path_factory):
    """Folders of the evaluation and of the report of a large run."""
    evaluation = write_large_evaluation(tmp_path_factory.mktemp("large"))
    out = tmp_path_factory.mktemp("report")
    write_report(
        evaluation,
        out,
        title="large",
        protocol={"method": "mib"},
        parameters={"method": {"losses": {"kd": {"weight": 5.0}}}},
        changed={"kd.weight": "5"},
        provenance={"made": "2026-11-30 08:00 UTC", "device": "NVIDIA H200"},
        seconds={"step0": 1.0},
    )
    return evaluation, out
