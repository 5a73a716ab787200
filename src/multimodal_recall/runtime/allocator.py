"""The C library's memory allocator."""

import ctypes
import logging
import mmap
import platform
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
KEEP = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}
"""Serve every array from the heap, and give no freed memory back to the system."""


def keep_freed_memory(mallopt: Callable[[int, int], int] | None = None) -> bool:
    """Let this process keep the memory that it frees for its next arrays, where the C library is glibc.

    By default glibc maps and zeroes the largest arrays anew each time, page by page: 15 % of a training step on a CPU.

    Returns:
        Whether the allocator took the setting. Without the setting training is slower, with the same results.
    """
    if mallopt is None:
        if platform.libc_ver()[0] != "glibc":
            logger.info("allocator: left as it is, because the C library is not glibc")
            return False
        mallopt = ctypes.CDLL(None).mallopt
    refused = [f"mallopt({option}, {value})" for option, value in KEEP.items() if not mallopt(option, value)]
    if refused:
        logger.warning("allocator: %s was refused; training may be some 15 %% slower", ", ".join(refused))
    return not refused


def give_back_freed_memory(least_bytes: int = 2**31) -> bool:
    """Give the pages that are free now back to the system, where the C library is glibc.

    Arrays of many sizes break up a heap that is kept: the published seed system grew from 2.3 to 4.2 GB in 60 steps.

    Args:
        least_bytes: A process with less resident memory keeps what is free: small trainings stay fast.

    Returns:
        Whether pages were given back.
    """
    if platform.libc_ver()[0] != "glibc" or resident_bytes() < least_bytes:
        return False
    return bool(ctypes.CDLL(None).malloc_trim(0))


def resident_bytes() -> int:
    """Read this process's resident memory; Linux alone."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
