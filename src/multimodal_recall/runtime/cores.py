"""How many CPU cores this process may use, and how many threads each node gets of them."""

import os

from joblib import cpu_count

_nodes_at_once = 1


class HardwareError(Exception):
    """This machine does not have the hardware that options or environment name."""


def usable_cores() -> int:
    """Cores that this process may use: its affinity and the CPU limit of its cgroup (container), at least 1."""
    return cpu_count()


def share_cores(nodes_at_once: int) -> None:
    """Divide the cores among nodes that run at the same time in this process (``ThreadRunner``)."""
    global _nodes_at_once
    _nodes_at_once = nodes_at_once


def threads_of_a_node() -> tuple[int, str]:
    """Threads that a node computes with, and the reason.

    ``OMP_NUM_THREADS`` wins: Dask sets the variable for each of its workers, and users set it by hand.

    Raises:
        HardwareError: If the variable is no whole number of at least 1.
    """
    if named := os.environ.get("OMP_NUM_THREADS"):
        if not (named.isdecimal() and int(named)):
            raise HardwareError(f"OMP_NUM_THREADS is {named!r}. Set it to a whole number, or unset it")
        return int(named), f"OMP_NUM_THREADS is {named}"
    cores = usable_cores()
    if _nodes_at_once == 1:
        return cores, f"cores that this process may use: {cores}"
    threads = max(1, cores // _nodes_at_once)
    return threads, f"cores that this process may use: {cores}, nodes at a time: {_nodes_at_once}"
