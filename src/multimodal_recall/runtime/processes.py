"""Run a function in one process, or in several that train together."""

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

ONE_AT_A_TIME = threading.RLock()
"""Held by what trains a model, builds one, or loads with transformers. The threads of a process (``ThreadRunner``)
share torch's stream of random numbers, from which training and new weights draw, and transformers' classes, which
transformers changes while it loads."""

LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "PMI_", "OMPI_", "MV2_", "ACCELERATE_")
"""What the environment variables of cluster launchers begin with, by which accelerate would join a group of theirs."""

_rank: int | None = None


def rank() -> int | None:
    """Number of this process among those that train together, from 0; ``None`` in any other process."""
    return _rank


def run_in_processes(count: int, function: Callable[Arguments, Result], *arguments: Arguments.args) -> Result:
    """Call a function here, or in ``count`` new processes of one torch process group (what ``torchrun`` does).

    Variables that a cluster's launcher has left in the environment (``RANK``, ``WORLD_SIZE``) are not followed.

    Args:
        count: Number of processes; with GPUs, one each.
        function: A module-level function; in several processes it and its arguments are pickled.
        arguments: Its arguments.

    Returns:
        What the first process returns.

    Raises:
        torch.distributed.elastic.multiprocessing.errors.ChildFailedError: If a process fails.
    """
    with ONE_AT_A_TIME, _without_launchers():
        if count == 1:  # torch's group of processes has a stream of random numbers each; threads share one
            return function(*arguments)
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        with TemporaryDirectory() as logs:  # torch makes such a folder anyway, and leaves it
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=count,
                run_id=uuid.uuid4().hex,
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",
                max_restarts=0,
                start_method="spawn",
                logs_specs=DefaultLogsSpecs(log_dir=logs),
            )
            return elastic_launch(config, _run_in_group)(function, *arguments)[0]


def _run_in_group(function: Callable[Arguments, Result], *arguments: Arguments.args) -> Result:
    """Call the function in one of the new processes; torch's launcher has put its number into the environment."""
    global _rank
    _rank = int(os.environ["RANK"])
    return function(*arguments)


@contextmanager
def _without_launchers() -> Iterator[None]:
    found = {name: value for name, value in os.environ.items() if name.startswith(LAUNCHERS)}
    for name in found:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(found)
