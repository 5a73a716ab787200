"""What CI refuses: a test that is skipped for want of a tool or of shared data."""

import pytest

from tests.conftest import REFUSE_SKIPS, refuse_skip

REASON = ("test_viz.py", 100, "Skipped: chromium is not installed")


def skipped(**changes: object) -> pytest.TestReport:
    how = {"nodeid": "test_viz.py::test_page", "location": ("test_viz.py", 100, "test_page"), "keywords": {}}
    return pytest.TestReport(**{**how, "outcome": "skipped", "longrepr": REASON, "when": "call", **changes})


def test_a_skip_is_a_failure_where_skips_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REFUSE_SKIPS, raising=False)
    assert refuse_skip(skipped(), ["external"]).skipped
    monkeypatch.setenv(REFUSE_SKIPS, "1")
    refused = refuse_skip(skipped(), ["external"])
    assert refused.failed
    assert refused.longrepr == "REFUSE_SKIPS is set. Skipped: chromium is not installed"
    file = pytest.CollectReport("test_viz.py", "skipped", REASON, [])
    assert refuse_skip(file, []).failed


def test_a_test_may_wait_for_a_gpu_or_fail_as_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REFUSE_SKIPS, "1")
    assert refuse_skip(skipped(), ["gpu"]).skipped
    assert refuse_skip(skipped(wasxfail="a known bug"), []).skipped
    assert refuse_skip(skipped(outcome="passed", longrepr=None), []).passed
