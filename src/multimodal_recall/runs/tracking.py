"""Record each ``kedro run`` as one run of MLflow, where ``tracking`` is on: options, curves, scores, cards, report.

When the run ends, the process that started it reads them all from the catalog's versions. So no runner, Dask worker or
training process needs to know of MLflow.
"""

import atexit
import json
import logging
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from multimodal_recall.datasets.atomic import AtomicDataset, atomic_datasets
from multimodal_recall.models.saved import CARD
from multimodal_recall.runs.lineage import pinned, trace
from multimodal_recall.runs.records import describe_options, states_of
from multimodal_recall.runs.versions import git_commit

if TYPE_CHECKING:  # mlflow takes seconds to import, and is missing without its extra
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

STORE = "data/09_tracking"
LOCK = "data/.tracking.lock"
"""Held while a store is opened. Without the lock, all but one of the runs that start at once (Airflow) failed to make
the store's tables."""
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
"""Parameters of ``kedro run`` that become tags, where they were given."""
RECORDED = ("training_log", "model", "comparison", "report")
"""Kinds of datasets that are recorded."""
CURVES = ("valid_ndcg_at_5", "loss", "seconds")
SCORES = ("ndcg_at_5", "low", "high")
NOT_IN_KEYS = re.compile(r"[^\w\-. /]")
"""What the name of an option must not have."""
NOT_IN_NAMES = re.compile(r"[^\w\-. ]|^\.+$")
"""What a part of a metric's name must not have; parts stand between slashes."""
PASSWORD = re.compile(r"://[^@/\s]+@")


class TrackingError(Exception):
    """``tracking`` is neither on nor off, or needs a package."""


@dataclass(frozen=True)
class TrackedRun:
    """An open run of MLflow."""

    client: "MlflowClient"
    id: str
    version: str
    """Version of all that the Kedro run saves; also the MLflow run's name."""

    def log_options(self, options: dict[str, str]) -> None:
        """Record parameters."""
        from mlflow.entities import Param

        self.client.log_batch(self.id, params=[Param(NOT_IN_KEYS.sub("_", key), text) for key, text in options.items()])

    def log_outputs(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Record the curves, scores, cards and the report that this run has made."""
        for name in atomic_datasets(sorted(pipeline.all_outputs()), catalog):
            owner, _, kind = name.rpartition(".")
            if kind in RECORDED and (dataset := pinned(name, self.version, catalog)).exists():
                self._log_output(owner, kind, dataset)

    def _log_output(self, owner: str, kind: str, dataset: AtomicDataset) -> None:
        path = dataset.load_path()
        if kind == "training_log":
            rows = dataset.load().to_table().to_pylist()
            self._log_metrics((f"{owner}/{name}", row[name], row["epoch"] + 1) for row in rows for name in CURVES)
            return
        if kind == "comparison":
            rows = dataset.load().rename(columns={"nDCG@5": "ndcg_at_5"}).to_dict("records")
            places = [f"{row['split']}/{part_of_name(row['ranking'])}" for row in rows]
            values = zip(places, rows, strict=True)
            self._log_metrics((f"{place}/{name}", row[name], 0) for place, row in values for name in SCORES)
        is_model = kind == "model"
        self.client.log_artifact(self.id, str(path / CARD if is_model else path), owner if is_model else None)

    def _log_metrics(self, metrics: Iterable[tuple[str, float, int]]) -> None:
        """Record name, value and step of each metric."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        batch = [Metric(name, value, now, step) for name, value, step in metrics]
        self.client.log_batch(self.id, metrics=batch)


def part_of_name(text: str) -> str:
    """Spell signs that MLflow refuses by their numbers, so that names that differ stay different."""
    return NOT_IN_NAMES.sub(lambda signs: "".join(f"_{ord(sign):x}_" for sign in signs[0]), text)


class TrackRuns:
    """Opens a run of MLflow before a Kedro run's first node and closes it after the last."""

    def __init__(self) -> None:
        self.run: TrackedRun | None = None

    @hook_impl(trylast=True)  # after the hooks that may refuse the run
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Open a run where ``tracking`` is on, and record the options that it starts with.

        Raises:
            TrackingError: If ``tracking`` is not true or false, or MLflow is not installed.
        """
        self._close("KILLED")  # an interrupted run of this process, such as a notebook's
        tracking = catalog.load("parameters")["tracking"]
        if type(tracking) is not bool:
            raise TrackingError(
                f"tracking is {tracking!r}, not true or false. Set it to true to track runs, to false to track none; "
                "to keep the runs in another place, set the environment variable MLFLOW_TRACKING_URI"
            )
        if not tracking:
            return
        self.run = start_run(run_params)
        atexit.register(self._close, "KILLED")  # Kedro calls no hook on Ctrl-C
        if not run_params["only_missing_outputs"]:
            lineage = trace(states_of(sorted(pipeline.inputs()), catalog), catalog)
            for node in pipeline.nodes:
                lineage.add(describe_options(node, catalog))
            self.run.log_options(lineage.texts())

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Record the outputs of the run."""
        if self.run is not None:
            if run_params["only_missing_outputs"]:  # older runs may have made the other outputs with other options
                outputs = states_of(sorted(pipeline.all_outputs()), catalog)
                self.run.log_options(trace(outputs, catalog).texts())
            self.run.log_outputs(pipeline, catalog)
            self._close("FINISHED")

    @hook_impl
    def on_pipeline_error(self, error: Exception, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Record the error, and the outputs that were saved before it."""
        if self.run is not None:
            self.run.client.set_tag(self.run.id, "error", f"{type(error).__name__}: {error}"[:5000])
            self.run.log_outputs(pipeline, catalog)
            self._close("FAILED")

    def _close(self, status: str) -> None:
        """End the open run, if there is one, as FINISHED, FAILED or KILLED."""
        atexit.unregister(self._close)
        if self.run is not None:
            self.run.client.set_terminated(self.run.id, status)
            logger.info("tracked as %s: %s", self.run.version, status)
            self.run = None


def start_run(run_params: dict[str, Any]) -> TrackedRun:
    """Open a run of MLflow, named by the version of all that the Kedro run saves.

    Runs lie in an SQLite file of the project, and their files beside it, unless ``MLFLOW_TRACKING_URI`` names another
    place. The experiment is named after the environment, unless ``MLFLOW_EXPERIMENT_NAME`` names it.

    Raises:
        TrackingError: If MLflow is not installed, or the place does not answer; its password is not told.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # at INFO, eight lines on its database's tables
    try:
        import sqlalchemy
        from filelock import FileLock
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as error:
        raise TrackingError(
            f'tracking needs {error.name}. Install it with: pip install -e ".[tracking]"; or turn tracking off: '
            "kedro run --params=tracking=false"
        ) from error
    project = Path(run_params["project_path"])
    store, lock = project / STORE, project / LOCK
    lock.parent.mkdir(exist_ok=True)
    uri, files = os.environ.get("MLFLOW_TRACKING_URI"), None
    if uri is None:
        store.mkdir(parents=True, exist_ok=True)
        uri, files = f"sqlite:///{store / 'mlflow.db'}", (store / "files").as_uri()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", f"multimodal_recall.{run_params['env'] or 'base'}")
    try:
        with FileLock(lock):
            client = MlflowClient(uri)
            found = client.get_experiment_by_name(name)
            experiment = client.create_experiment(name, files) if found is None else found.experiment_id
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError, ImportError) as error:
        text = PASSWORD.sub("://***@", f"MLflow at {uri} does not answer: {error}")
        raise TrackingError(f"{text}. Correct MLFLOW_TRACKING_URI, or turn tracking off") from None
    tags = {f"kedro.{key}": json.dumps(run_params[key], default=str) for key in ASKED if run_params[key]}
    if commit := git_commit():
        tags["mlflow.source.git.commit"] = commit
    run = client.create_run(experiment, tags=tags, run_name=run_params["run_id"])
    return TrackedRun(client, run.info.run_id, run_params["run_id"])
