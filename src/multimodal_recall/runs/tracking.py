"""Each ``kedro run`` as one run of MLflow, where ``tracking`` is on: options, curves, scores, cards, report.

It is all read from the catalog's versions when the run ends, in the process that started it. So no runner, no Dask
worker and no training process needs to know of it.
"""

import atexit
import json
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from multimodal_recall.datasets.atomic import AtomicDataset, atomic_datasets
from multimodal_recall.models.saved import CARD
from multimodal_recall.runs.lineage import pinned, trace
from multimodal_recall.runs.records import describe_options

if TYPE_CHECKING:  # mlflow takes seconds to import, and is not there without its extra
    from mlflow import MlflowClient
    from mlflow.entities import Metric


logger = logging.getLogger(__name__)

STORE = "data/09_tracking"
LOCK = "data/.tracking.lock"
"""Held while a store is opened: of runs that start at once, Airflow's say, all but one failed to make its tables."""
ASKED = (
    "pipeline_names",
    "node_names",
    "from_nodes",
    "to_nodes",
    "namespaces",
    "tags",
    "load_versions",
    "runtime_params",
    "only_missing_outputs",
    "runner",
)
"""What of a run's parameters becomes a tag, where it was given."""
RECORDED = ("training_log", "model", "comparison", "report")
"""Kinds of datasets that are recorded."""
NO_NAME = re.compile(r"[^\w\-. /]")
"""What the name of a metric must not hold."""


class TrackingError(Exception):
    """``tracking`` is neither on nor off, or needs a package."""


@dataclass(frozen=True)
class TrackedRun:
    """A run of MLflow that is under way."""

    client: "MlflowClient"
    id: str
    version: str
    """Of all that the Kedro run saves, and the name of the MLflow run."""

    def log_options(self, options: dict[str, str]) -> None:
        """Record parameters."""
        from mlflow.entities import Param

        self.client.log_batch(self.id, params=[Param(NO_NAME.sub("_", key), text) for key, text in options.items()])

    def log_outputs(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Record curves, scores, cards and report, of those that the run has made."""
        for name in atomic_datasets(sorted(pipeline.all_outputs()), catalog):
            owner, _, kind = name.rpartition(".")
            if kind in RECORDED and (dataset := pinned(name, self.version, catalog)).exists():
                self._log_output(owner, kind, dataset)

    def _log_output(self, owner: str, kind: str, dataset: AtomicDataset) -> None:
        path = dataset.version_folder(self.version) / Path(dataset._filepath).name
        if kind == "training_log":
            self.client.log_batch(self.id, metrics=_curves(owner, dataset.load().to_table().to_pylist()))
        elif kind == "model":
            self.client.log_artifact(self.id, str(path / CARD), owner)
        else:
            self.client.log_artifact(self.id, str(path))
        if kind == "comparison":
            self.client.log_batch(self.id, metrics=_scores(dataset.load().to_dict("records")))

    def end(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(self.id, status)


class TrackRuns:
    """Opens a run of MLflow before a Kedro run's first node and closes it after the last."""

    def __init__(self) -> None:
        self.run: TrackedRun | None = None

    @hook_impl(trylast=True)  # once nothing refuses the run any more
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Open a run, where ``tracking`` is on, and record with which options it starts.

        Raises:
            TrackingError: If ``tracking`` is not true or false, or MLflow is not installed.
        """
        self._close("KILLED")  # one that was interrupted in this process, a notebook's say
        tracking = catalog.load("parameters")["tracking"]
        if type(tracking) is not bool:
            raise TrackingError(
                f"tracking is {tracking!r}, not true or false. MLFLOW_TRACKING_URI says where the runs are kept."
            )
        if not tracking:
            return
        self.run = start_run(run_params)
        atexit.register(self._close, "KILLED")  # Ctrl-C passes by all of Kedro's hooks
        if not run_params["only_missing_outputs"]:
            self.run.log_options(_options(pipeline, catalog))

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Record what the run has made."""
        if self.run is not None:
            if run_params["only_missing_outputs"]:  # the options with which the rest was made may be others
                self.run.log_options(_made_with(pipeline, catalog))
            self.run.log_outputs(pipeline, catalog)
            self._close("FINISHED")

    @hook_impl
    def on_pipeline_error(self, error: Exception, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Record what the run had made before it failed, and why it did."""
        if self.run is not None:
            self.run.client.set_tag(self.run.id, "error", f"{type(error).__name__}: {error}"[:5000])
            self.run.log_outputs(pipeline, catalog)
            self._close("FAILED")

    def _close(self, status: str) -> None:
        atexit.unregister(self._close)
        if self.run is not None:
            self.run.end(status)
            logger.info("tracked as %s: %s", self.run.version, status)
            self.run = None


def start_run(run_params: dict[str, Any]) -> TrackedRun:
    """Open a run of MLflow, named by the version of all that the Kedro run saves.

    Where ``MLFLOW_TRACKING_URI`` names no other place, runs lie in an SQLite file of the project and their files
    beside it. The experiment is named after the environment, unless ``MLFLOW_EXPERIMENT_NAME`` is set.

    Raises:
        TrackingError: If MLflow is not installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # else eight lines on its database's tables
    try:
        import sqlalchemy  # noqa: F401
        from filelock import FileLock
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        raise TrackingError(
            f'tracking needs {error.name}. Install it with: pip install -e ".[tracking]"; or run with '
            "--params=tracking=false"
        ) from error
    from multimodal_recall.runs.versions import git_commit

    project = Path(run_params["project_path"])
    store, lock = project / STORE, project / LOCK
    lock.parent.mkdir(exist_ok=True)
    uri, files = os.environ.get("MLFLOW_TRACKING_URI"), None
    if uri is None:
        store.mkdir(parents=True, exist_ok=True)
        uri, files = f"sqlite:///{store / 'mlflow.db'}", (store / "files").as_uri()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", f"multimodal_recall.{run_params['env'] or 'base'}")
    with FileLock(lock):
        client = MlflowClient(uri)
        known = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name, files) if known is None else known.experiment_id
    tags = {f"kedro.{key}": json.dumps(run_params[key], default=str) for key in ASKED if run_params[key]}
    if commit := git_commit():
        tags["mlflow.source.git.commit"] = commit
    run = client.create_run(experiment, tags=tags, run_name=run_params["run_id"])
    return TrackedRun(client, run.info.run_id, run_params["run_id"])


def _options(pipeline: Pipeline, catalog: CatalogProtocol) -> dict[str, str]:
    """The options of the run's nodes, and those with which its inputs, such as a model, were made."""
    inputs = atomic_datasets(sorted(pipeline.inputs()), catalog)
    lineage = trace([(name, dataset.state()) for name, dataset in inputs.items()], catalog)
    for node in pipeline.nodes:
        lineage.add(describe_options(node, catalog))
    return lineage.texts()


def _made_with(pipeline: Pipeline, catalog: CatalogProtocol) -> dict[str, str]:
    """The options with which the present outputs were made, by this run or an older one."""
    outputs = atomic_datasets(sorted(pipeline.all_outputs()), catalog)
    return trace([(name, dataset.state()) for name, dataset in outputs.items()], catalog).texts()


def _curves(ranker: str, log: list[dict[str, Any]]) -> "list[Metric]":
    from mlflow.entities import Metric

    now = time.time_ns() // 1_000_000
    return [
        Metric(f"{ranker}/{column}", row[column], now, row["epoch"] + 1)
        for row in log
        for column in ("valid_ndcg_at_5", "loss", "seconds")
    ]


def _scores(comparison: list[dict[str, Any]]) -> "list[Metric]":
    """nDCG@5 of each ranking, and its interval's ends."""
    from mlflow.entities import Metric

    now, columns = time.time_ns() // 1_000_000, {"ndcg_at_5": "nDCG@5", "low": "low", "high": "high"}
    return [
        Metric(NO_NAME.sub("_", f"{row['split']}/{row['ranking']}/{name}"), row[column], now, 0)
        for row in comparison
        for name, column in columns.items()
    ]
