"""Kedro's runner on a Dask cluster: nodes run on several machines, and those of a dead worker again on another."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cache
from uuid import uuid4

from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.framework.project import configure_project, settings
from kedro.io import AbstractDataset, CatalogProtocol, DataCatalog, MemoryDataset
from kedro.io.core import is_parameter
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import AbstractRunner
from kedro.runner.task import Task
from pluggy import PluginManager

from multimodal_recall.runtime.cores import usable_cores

try:
    import dask
    from distributed import Client, LocalCluster
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f'DaskRunner needs {error.name}. Install it with: pip install -e ".[scale]"') from error

logger = logging.getLogger(__name__)

ADDRESS = "DASK_SCHEDULER_ADDRESS"
CONNECT_SECONDS = 10


class ClusterError(Exception):
    """A pipeline cannot run on this Dask cluster, or not to its end."""


class DaskRunner(AbstractRunner):
    """Runs each node in a Dask worker: ``kedro run --runner=multimodal_recall.runtime.dask_runner.DaskRunner``.

    The environment variable ``DASK_SCHEDULER_ADDRESS`` names a running scheduler, which is left running. Its workers
    need this environment's packages and see the project's folder under the same path. Without it, worker processes
    are started on this machine, and closed at the end.

    A node whose worker dies runs again on another; Dask gives up when four have died of it. The first error of a node
    ends the run: nodes that wait are dropped, and workers started here are stopped with what they run.
    """

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
    ) -> None:
        """Run the nodes, each as soon as those before it are done.

        Raises:
            ClusterError: If a dataset would live in memory, or the scheduler cannot be reached or goes away.
            Exception: What a node raises.
        """
        refuse_memory(pipeline, catalog)
        self._made = pipeline.all_outputs()
        try:
            super()._run(pipeline, catalog, hook_manager, run_id)
        except CancelledError as error:
            raise ClusterError(
                f"The Dask scheduler {os.environ.get(ADDRESS, 'of this run')} went away in the middle of the run. What "
                "was done is saved: start the scheduler and its workers again, and go on as said above."
            ) from error

    def _get_required_workers_count(self, pipeline: Pipeline) -> int:
        return min(usable_cores(), len(pipeline.nodes) - len(pipeline.grouped_nodes) + 1)  # as Kedro's ThreadRunner

    @contextmanager
    def _get_executor(self, max_workers: int) -> "Iterator[NodeExecutor]":
        with connect(max_workers) as client:
            yield NodeExecutor(client.get_executor(), self._made)


def refuse_memory(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuse a pipeline with a dataset that another worker could not see.

    Raises:
        ClusterError: With the datasets' names.
    """
    names = (name for name in sorted(pipeline.datasets()) if not is_parameter(name))
    memory = [name for name in names if isinstance(catalog.get(name), MemoryDataset)]
    if memory:
        raise ClusterError(
            f"{', '.join(memory)}: not in the catalog, and so kept in the memory of one process, which other Dask "
            "workers cannot read. Give each an entry in conf/base/<pipeline>/catalog.yml, or run with "
            "--runner=ThreadRunner."
        )


def connect(workers: int) -> AbstractContextManager[Client]:
    """Reach the scheduler that the environment names, or start ``workers`` processes here until the block ends.

    Raises:
        ClusterError: If the scheduler does not answer.
    """
    logging.getLogger("distributed").setLevel(logging.WARNING)  # else each connection is a line or more of the log
    address = os.environ.get(ADDRESS)
    return start_workers(workers) if address is None else reach_scheduler(address)


@contextmanager
def start_workers(count: int) -> Iterator[Client]:
    """Start a cluster on this machine, the cores shared out among its workers."""
    threads = max(1, usable_cores() // count)  # of torch and pyarrow; a variable that the user has set stays
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    # Not daemonic, since training may start processes of its own. No memory limit: Dask would kill and repeat a node
    # that takes more than its share of the memory, though the others take less.
    how = {"distributed.nanny.pre-spawn-environ": variables, "distributed.worker.daemon": False}
    with (
        dask.config.set(how),
        LocalCluster(count, threads_per_worker=1, memory_limit=0, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def reach_scheduler(address: str) -> Client:
    """Connect to a running scheduler, and say how many workers it has.

    Raises:
        ClusterError: If it does not answer.
    """
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"No Dask scheduler answers at {address!r} ({error}), which {ADDRESS} names. Start one there with: dask "
            "scheduler; or correct the variable, for example tcp://host:8786; or unset it to run on this machine."
        ) from error
    workers = len(client.nthreads())
    logger.log(logging.INFO if workers else logging.WARNING, "%s has %d workers", address, workers)
    return client


@dataclass(frozen=True)
class NodeExecutor:
    """Submits a node to Dask's own executor, with no more than it needs."""

    executor: Executor
    made: set[str]
    """The datasets that this run makes."""

    def submit(self, task: Task) -> Future[Node]:
        """Queue a node; the key, which Dask's messages and dashboard show, begins with its name."""
        cut = Task(task.node, cut_catalog(task.catalog, task.node, self.made), task.is_async, run_id=task.run_id)
        return self.executor.submit(run_in_worker, cut, os.getcwd(), key=f"{task.node.name}-{uuid4().hex}")


def cut_catalog(catalog: CatalogProtocol, node: Node, made: set[str]) -> DataCatalog:
    """The datasets of one node: of 328 nodes, 4 KB and 0.6 ms to pickle and unpickle in place of 227 KB and 19 ms."""
    datasets = {name: catalog.get(name) for name in {*node.inputs, *node.outputs}}
    for name in made & set(node.inputs):
        datasets[name] = of_this_run(datasets[name])
    cut = DataCatalog(datasets, validation_enabled=catalog.validation_enabled)
    cut._validator_specs = {name: spec for name, spec in catalog.validator_specs.items() if name in datasets}
    return cut


def of_this_run(dataset: AbstractDataset) -> AbstractDataset:
    """Pin a dataset that this run makes to the run's version, where the user pinned none.

    A node on another machine might see an older one as the newest: in the list of a network folder as it was seconds
    ago, or because this process looked before the run.
    """
    version = getattr(dataset, "_version", None)
    if version is None or version.load:
        return dataset
    pinned = copy(dataset)
    pinned._version = version._replace(load=version.save)
    return pinned


def run_in_worker(task: Task, folder: str) -> Node:
    """Run a node in this worker, between the project's hooks.

    Args:
        task: The node, its part of the catalog, and no hooks.
        folder: Where ``kedro run`` was started; paths in the options are relative to it.

    Raises:
        ClusterError: If this machine does not have the folder.
    """
    try:
        os.chdir(folder)
    except FileNotFoundError as error:
        raise ClusterError(
            f"This Dask worker has no folder {folder}. Mount the project's folder there, as where kedro run was started"
        ) from error
    task.hook_manager = project_hooks()
    return task.execute()


@cache
def project_hooks() -> PluginManager:
    """The hooks of the project's settings, in a worker process that knows no project yet.

    Not those of plug-ins: kedro-viz's expect that the catalog was made in their process.
    """
    configure_project(__package__.partition(".")[0])
    manager = _create_hook_manager()
    _register_hooks(manager, settings.HOOKS)
    return manager
