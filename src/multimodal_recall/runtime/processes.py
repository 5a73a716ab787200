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
"""Held while a model is trained or built, and while transformers loads one. The threads of a process (``ThreadRunner``)
share torch's stream of random numbers, from which training and new weights draw, and transformers' classes, which
transformers changes while it loads."""

LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "PMI_", "OMPI_", "MV2_", "ACCELERATE_")
"""Prefixes of the environment variables that cluster launchers set. With them accelerate would join the launcher's
process group."""

_rank: int | None = None


def rank() -> int | None:
    """Give this process's number among those that train together, from 0; ``None`` outside a joint training."""
    return _rank


def run_in_processes(count: int, function: Callable[Arguments, Result], *arguments: Arguments.args) -> Result:
    """Call a function here, or in ``count`` new processes of one torch process group (as ``torchrun`` does).

    Variables that a cluster's launcher has left in the environment (``RANK``, ``WORLD_SIZE``) are ignored.

    For several processes function and arguments are pickled: the function must stand at the top of its module. With
    GPUs, each process takes one.

    Returns:
        The result of the first process.

    Raises:
        torch.distributed.elastic.multiprocessing.errors.ChildFailedError: If a process fails.
    """
    with ONE_AT_A_TIME, _without_launchers():
        if count == 1:
            return function(*arguments)
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        with TemporaryDirectory() as logs:  # torch would make a folder for logs and leave it behind
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
    """Call the function in a new process, whose rank torch's launcher has put into the environment."""
    global _rank
    _rank = int(os.environ["RANK"])
    return function(*arguments)


@contextmanager
def _without_launchers() -> Iterator[None]:
    variables = {name: value for name, value in os.environ.items() if name.startswith(LAUNCHERS)}
    for name in variables:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(variables)
