"""The Airflow DAG that ``kedro airflow create`` writes: every node a task, every edge kept."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from tests.conftest import SMALL, copy_project, set_options

pytestmark = pytest.mark.external

pytest.importorskip("kedro_airflow", reason="kedro-airflow is not installed")


def test_every_node_is_a_task_behind_those_that_make_its_inputs(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    set_options(project, SMALL)
    command = [sys.executable, "-m", "kedro", "airflow", "create", f"--target-dir={tmp_path}"]
    finished = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    source = (tmp_path / "multimodal_recall_dag.py").read_text()
    compile(source, "multimodal_recall_dag.py", "exec")
    # A task's id is its node's name in lower case with dashes: were two alike, one would be missing here.
    tasks = dict(
        re.findall(r'@task\(task_id="(.*)"\)\s+def \w+\(\):\s+_run_kedro_node\(node_names=\["(.*)"\]\)', source)
    )
    edges = re.findall(r'tasks\["(.*)"\] >> tasks\["(.*)"\]', source)
    bootstrap_project(project)
    pipelines.configure("multimodal_recall.pipeline_registry")
    with KedroSession.create(project) as session:
        session.load_context()
        nodes = pipelines["__default__"].node_dependencies
    assert sorted(tasks.values()) == sorted(node.name for node in nodes)
    made_before = {(before.name, node.name) for node, needed in nodes.items() for before in needed}
    assert {(tasks[before], tasks[after]) for before, after in edges} == made_before
