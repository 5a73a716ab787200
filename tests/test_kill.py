"""A run that is killed and resumed ends as one left alone; ``python -m benchmarks.kill`` is the long form."""

from pathlib import Path

import pytest
from benchmarks.kill import kill_and_compare, set_options
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from tests.conftest import SMALL, copy_project

pytestmark = pytest.mark.slow


def test_a_killed_run_resumes_to_the_same_bits(finished_project: Path, tmp_path: Path) -> None:
    killed = copy_project(tmp_path)
    set_options(killed, SMALL)
    bootstrap_project(killed)
    with KedroSession.create(killed) as session:
        session.load_context()  # else the pipelines are those of the configuration that another test has read
    pipelines.configure("multimodal_recall.pipeline_registry")
    seconds = {f"Running node: {node}": 0.5 for node in pipelines["__default__"].nodes}
    assert kill_and_compare(finished_project, killed, seconds, kills=3, seed=5) == []
