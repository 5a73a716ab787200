"""Two runs at once end as each would alone; ``python -m benchmarks.together`` is the long form."""

import sys

import pytest
from benchmarks import together


@pytest.mark.slow
def test_two_runs_at_once_report_what_each_reports_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["together", "--repeats=2", "--kills=2"])
    together.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].endswith("faults: 0")
    assert lines[-1].startswith("2 pairs of runs, ")
    assert " kills: 0 runs differ; " in lines[-1]
