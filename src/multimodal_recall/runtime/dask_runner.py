"""Kedro's runner on a Dask cluster: nodes run on several machines, and run again where a worker dies."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from uuid import uuid4

from kedro.framework.project import configure_project, settings
from kedro.io import CatalogProtocol, DataCatalog, MemoryDataset
from kedro.io.core import is_parameter
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import AbstractRunner
from kedro.runner.task import Task
from pluggy import PluginManager

from multimodal_recall.config.layout import options_of_models
from multimodal_recall.config.loader import project_folder
from multimodal_recall.runtime.cores import most_nodes_at_once, usable_cores
from multimodal_recall.runtime.kedro_private import catalog_of, create_hook_manager, pin_to_save_version

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
    need this environment's packages and see the project's folder under the same path. Without the variable, worker
    processes are started on this machine and closed at the end.

    A node whose worker dies runs again on another worker; Dask gives up when the node has lost four workers. The first
    error of a node ends the run: waiting nodes are dropped, and workers started here are stopped with their nodes.
    """

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
    ) -> None:
        """Run the nodes, each as soon as its inputs are saved.

        Raises:
            ClusterError: If a dataset would live in memory, or the scheduler cannot be reached or goes away.
            Exception: What a node raises.
        """
        refuse_memory(pipeline, catalog)
        self._outputs = pipeline.all_outputs()
        try:
            super()._run(pipeline, catalog, hook_manager, run_id)
        except CancelledError as error:
            raise ClusterError(
                f"The Dask scheduler {os.environ.get(ADDRESS, 'of this run')} went away in the middle of the run. The "
                "outputs of completed nodes are saved: start the scheduler and its workers again, then run the command "
                "that the log suggests above"
            ) from error

    def _get_required_workers_count(self, pipeline: Pipeline) -> int:
        return min(usable_cores(), most_nodes_at_once(pipeline))

    @contextmanager
    def _get_executor(self, max_workers: int) -> "Iterator[NodeExecutor]":
        logging.getLogger("distributed").setLevel(logging.WARNING)  # at INFO, a line or more for each connection
        address = os.environ.get(ADDRESS)
        with start_workers(max_workers) if address is None else reach_scheduler(address) as client:
            yield NodeExecutor(client.get_executor(), self._outputs)


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
            "--runner=ThreadRunner"
        )


@contextmanager
def start_workers(count: int) -> Iterator[Client]:
    """Start a cluster on this machine, the cores shared out among its workers."""
    threads = max(1, usable_cores() // count)  # of torch and pyarrow; a variable set by the user stays
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    # Not daemonic, since training may start processes of its own. No memory limit: Dask would kill and repeat a node
    # that takes more than its share of the memory, even while the other nodes take less than theirs.
    settings_of_workers = {"distributed.nanny.pre-spawn-environ": variables, "distributed.worker.daemon": False}
    with (
        dask.config.set(settings_of_workers),
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
    """Submits a node to Dask's own executor, with its own datasets alone."""

    executor: Executor
    outputs: set[str]
    """Names of the datasets that this run makes."""

    def submit(self, task: Task) -> Future[Node]:
        """Queue a node; its key in Dask's messages and dashboard begins with the node's name."""
        cut = Task(task.node, cut_catalog(task.catalog, task.node, self.outputs), task.is_async, run_id=task.run_id)
        return self.executor.submit(run_in_worker, cut, str(project_folder()), key=f"{task.node.name}-{uuid4().hex}")


def cut_catalog(catalog: CatalogProtocol, node: Node, outputs: set[str]) -> DataCatalog:
    """Keep the datasets of one node, with the versions of this run, and the options that its record needs.

    Of 328 nodes' catalog, a node's part is pickled and unpickled in 0.6 ms as 4 KB, the whole in 19 ms as 227 KB.

    An input that this run makes is pinned to the run's version, unless the user pinned another: on another machine the
    newest version may be an older one, because a network folder's list is seconds old or was read before the run.
    """
    names = {*node.inputs, *node.outputs, *options_of_models(node.inputs)}
    datasets = {name: catalog.get(name) for name in names}
    pinned = {name: pin_to_save_version(datasets[name]) for name in outputs & set(node.inputs)}
    return catalog_of(datasets | pinned, catalog)


def run_in_worker(task: Task, folder: str) -> Node:
    """Run a node in this worker, between the project's hooks.

    Paths in the options are relative to the folder, the project's.

    Raises:
        ClusterError: If this machine does not have the folder.
    """
    try:
        os.chdir(folder)
    except FileNotFoundError as error:
        raise ClusterError(
            f"This Dask worker has no folder {folder}, the project of this run. Mount it "
            "under the same path on this machine"
        ) from error
    task.hook_manager = project_hooks()
    return task.execute()


@cache
def project_hooks() -> PluginManager:
    """Load the hooks of the project's settings, in a worker process that knows no project yet.

    Hooks of plug-ins are left out: kedro-viz's expect that the catalog was made in their process.
    """
    configure_project(__package__.partition(".")[0])
    return create_hook_manager(settings.HOOKS)
