"""How many CPU cores this process may use, and how many threads each node gets."""

import os
from typing import TYPE_CHECKING

from joblib import cpu_count

if TYPE_CHECKING:  # models import this module and no Kedro
    from kedro.pipeline import Pipeline

_nodes_at_once = 1


class HardwareError(Exception):
    """This machine does not have the hardware that options or environment name."""


def usable_cores() -> int:
    """Count the cores in this process's affinity and in the CPU limit of its cgroup (container), at least 1."""
    return cpu_count()


def most_nodes_at_once(pipeline: "Pipeline") -> int:
    """Bound the nodes that can run at the same time, as Kedro's ``ThreadRunner`` does."""
    return len(pipeline.nodes) - len(pipeline.grouped_nodes) + 1


def share_cores(nodes_at_once: int) -> None:
    """Divide the cores among nodes that run at the same time in this process (``ThreadRunner``)."""
    global _nodes_at_once
    _nodes_at_once = nodes_at_once


def threads_of_a_node() -> tuple[int, str]:
    """Give the threads that a node computes with, and the reason.

    ``OMP_NUM_THREADS`` wins: Dask sets the variable for each of its workers, and users set it by hand.

    Raises:
        HardwareError: If the variable is no whole number of at least 1.
    """
    if value := os.environ.get("OMP_NUM_THREADS"):
        if not (value.isdecimal() and int(value)):
            raise HardwareError(f"OMP_NUM_THREADS is {value!r}. Set it to a whole number of at least 1, or unset it")
        return int(value), f"OMP_NUM_THREADS is {value}"
    cores = usable_cores()
    if _nodes_at_once == 1:
        return cores, f"cores that this process may use: {cores}"
    threads = max(1, cores // _nodes_at_once)
    return threads, f"cores that this process may use: {cores}, nodes at a time: {_nodes_at_once}"
