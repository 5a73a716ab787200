"""The C library's memory allocator."""

import ctypes
import logging
import platform
from collections.abc import Callable

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
