"""Run a function in one process, or in several that train together."""

import uuid
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from multimodal_recall.models.hardware import ONE_AT_A_TIME

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def summed(values: Tensor) -> Tensor:
    """The sum over all processes that train together, in place; what a batch's shares add up to."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


def run_in_processes(count: int, function: Callable[Arguments, Result], *arguments: Arguments.args) -> Result:
    """Call a function here, or in ``count`` new processes of one torch process group (what ``torchrun`` does).

    Args:
        count: Number of processes; with GPUs, one each.
        function: A module-level function; in several processes it and its arguments are pickled.
        arguments: Its arguments.

    Returns:
        What the first process returns.

    Raises:
        torch.distributed.elastic.multiprocessing.errors.ChildFailedError: If a process fails.
    """
    if count == 1:  # torch's group of processes has a stream of random numbers each; threads share one
        with ONE_AT_A_TIME:
            return function(*arguments)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="spawn",
    )
    return elastic_launch(config, function)(*arguments)[0]
