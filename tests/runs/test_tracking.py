"""Runs of the small shop in MLflow's SQLite store, read back by MLflow's own client."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multimodal_recall.evaluation.metrics import MetricError
from multimodal_recall.runs.tracking import STORE, TrackingError, part_of_name, start_run
from multimodal_recall.runtime.dask_runner import ADDRESS, DaskRunner
from tests.conftest import SMALL, open_catalog, run_project

pytestmark = pytest.mark.external

TRACKED = {**SMALL, "tracking": True}
OTHER = {**TRACKED, "seed": 1, "two_tower": {**SMALL["two_tower"], "epochs": 3}}
SUBMISSION = {"node_names": ["two_tower.make_testA_submission"]}
Run = tuple[Path, Callable[..., None]]


@pytest.fixture(autouse=True)
def _mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason='MLflow is not installed: pip install -e ".[tracking]"')
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


def client_of(project: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{project / STORE}/mlflow.db")


def runs_of(project: Path) -> list[Any]:
    """Oldest first."""
    client = client_of(project)
    experiment = client.get_experiment_by_name("multimodal_recall.base")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def newest(project: Path, name: str) -> str:
    return max(path.name for path in (project / "data/06_models/shop/two_tower" / name).iterdir())


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trainings with their evaluations; an evaluation that fails; a resumed one, with options of another model."""
    project = tmp_path_factory.mktemp("tracked") / "project"
    shutil.copytree(finished_project, project)
    run_project(project, parameters=TRACKED, pipeline_names=["train", "evaluate"])
    run_project(project, parameters=OTHER, pipeline_names=["train", "evaluate"])
    answers = project / "data/01_raw/shop/testA_answer.json"
    kept = answers.read_text()
    answers.write_text(json.dumps(dict([*json.loads(kept).items()][1:])))
    with pytest.raises(MetricError, match="1 scored queries have no answer"):
        run_project(project, parameters=OTHER, pipeline_names=["train", "evaluate"])
    answers.write_text(kept)
    shutil.rmtree(project / "data/08_reporting/shop/comparison.csv")
    run_project(project, parameters=TRACKED, pipeline_names=["train", "evaluate"], only_missing_outputs=True)
    return project


def test_two_runs_are_compared_from_the_sqlite_store(project: Path) -> None:
    first, second = runs_of(project)[:2]
    assert [run.info.status for run in (first, second)] == ["FINISHED"] * 2
    changed = {name for name, value in first.data.params.items() if second.data.params[name] != value}
    assert changed == {"two_tower.epochs", "two_tower.seed", "seed"}
    assert (first.data.params["two_tower.epochs"], second.data.params["two_tower.epochs"]) == ("2", "3")
    assert first.data.params["ingest.max_boxes"] == "12"  # of the chunks that were read
    assert first.data.metrics["testA/two_tower/ndcg_at_5"] != second.data.metrics["testA/two_tower/ndcg_at_5"]
    curve = client_of(project).get_metric_history(second.info.run_id, "two_tower/valid_ndcg_at_5")
    log = open_catalog(project).load("two_tower.training_log", second.info.run_name).to_table().to_pydict()
    assert [point.step for point in curve] == [1, 2, 3]
    assert [point.value for point in curve] == log["valid_ndcg_at_5"]
    scores = open_catalog(project).load("evaluation.testA_query_metrics", second.info.run_name).to_table().to_pandas()
    ours = scores.loc[scores["ranking"] == "two_tower", "ndcg_at_5"].mean()
    assert second.data.metrics["testA/two_tower/ndcg_at_5"] == pytest.approx(ours, abs=1e-6)


def test_card_comparison_and_report_are_kept(project: Path) -> None:
    run = runs_of(project)[0]
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert folder.is_relative_to(project / STORE)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "comparison.csv",
        "report.html",
        "two_tower/card.json",
    }
    assert json.loads((folder / "two_tower/card.json").read_text())["seed"] == 0
    assert run.data.tags["kedro.pipeline_names"] == '["train", "evaluate"]'


def test_a_failed_run_says_why_and_keeps_what_was_made(project: Path) -> None:
    failed = runs_of(project)[2]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["error"].startswith("MetricError: 1 scored queries have no answer")
    assert failed.data.params["two_tower.epochs"] == "3"
    assert set(failed.data.metrics) == {f"two_tower/{name}" for name in ("loss", "seconds", "valid_ndcg_at_5")}


def test_a_resumed_run_names_the_options_of_what_it_found(project: Path) -> None:
    resumed = runs_of(project)[3]
    assert resumed.info.status == "FINISHED"
    assert resumed.data.params["two_tower.epochs"] == "3"
    assert newest(project, "model") in resumed.data.params["two_tower.model"]
    assert resumed.info.run_name not in resumed.data.params["two_tower.model"]
    assert "two_tower/loss" not in resumed.data.metrics
    assert 0 <= resumed.data.metrics["testA/two_tower/low"] <= resumed.data.metrics["testA/two_tower/ndcg_at_5"]


def test_workers_open_no_runs(run_copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    project, run = run_copy
    run(parameters=TRACKED, runner=DaskRunner(), **SUBMISSION)
    (one,) = runs_of(project)
    assert one.info.status == "FINISHED"
    assert one.data.params["two_tower.model"] == newest(project, "model")


def test_untracked_runs_leave_nothing_and_need_no_mlflow(run_copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    project, run = run_copy
    monkeypatch.setitem(sys.modules, "mlflow", None)
    run(**SUBMISSION)
    assert not (project / STORE).exists()
    with pytest.raises(TrackingError, match=r'needs mlflow\. Install it with: pip install -e "\.\[tracking\]"'):
        run(parameters=TRACKED, **SUBMISSION)


def test_tracking_is_on_or_off(run_copy: Run) -> None:
    with pytest.raises(TrackingError, match="tracking is 'sqlite', not true or false"):
        run_copy[1](parameters={**SMALL, "tracking": "sqlite"}, **SUBMISSION)


def test_another_store_and_experiment(run_copy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, run = run_copy
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    run(parameters=TRACKED, **SUBMISSION)
    with sqlite3.connect(tmp_path / "other.db") as store:
        assert store.execute(
            "select status from runs join experiments using (experiment_id) where experiments.name='mine'"
        ).fetchall() == [("FINISHED",)]
    assert not (project / STORE).exists()


CODE = """
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from multimodal_recall.runs.tracking import ASKED, TrackRuns

run_params = dict.fromkeys((*ASKED, "env")) | {"project_path": ".", "run_id": "2026-01-01T00.00.00.000Z"}
catalog = DataCatalog({"parameters": MemoryDataset({"tracking": True})})
tracking = TrackRuns()
tracking.before_pipeline_run(run_params, Pipeline([]), catalog)
"""
CTRL_C = "raise KeyboardInterrupt"
AGAIN = "tracking.before_pipeline_run(run_params, Pipeline([]), catalog)"


def of_its_own(folder: Path, *more: str) -> subprocess.Popen:
    """A process that starts a tracked run."""
    code = "\n".join([CODE.replace('"."', repr(str(folder))), *more])
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, cwd=folder)


def test_a_run_that_ctrl_c_ends_is_marked(tmp_path: Path) -> None:
    assert b"KeyboardInterrupt" in of_its_own(tmp_path, AGAIN, CTRL_C).communicate()[1]
    assert [run.info.status for run in runs_of(tmp_path)] == ["KILLED", "KILLED"]  # the first by the second's start


def test_runs_may_start_at_once(tmp_path: Path) -> None:
    processes = [of_its_own(tmp_path) for _ in range(3)]
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert len(runs_of(tmp_path)) == 3


def test_names_that_differ_stay_different_and_mlflow_takes_them() -> None:
    from mlflow.utils.validation import _validate_metric_name

    names = ["model a!", "model a?", "model_a_", "m//v2", "m/v2", "..", ".", "=1", "two_tower, k-reciprocal"]
    spelt = [part_of_name(name) for name in names]
    assert len(set(spelt)) == len(names)
    assert spelt[-1] == "two_tower_2c_ k-reciprocal"
    assert part_of_name("two_tower") == "two_tower"
    for name in spelt:
        _validate_metric_name(f"testA/{name}/ndcg_at_5")


def test_a_password_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@127.0.0.1:1/none")
    with pytest.raises(TrackingError, match=r"MLflow at postgresql://\*\*\*@127.0.0.1:1/none does not answer") as told:
        start_run({"project_path": tmp_path, "env": None, "run_id": "x"})
    assert "secret" not in str(told.value)
