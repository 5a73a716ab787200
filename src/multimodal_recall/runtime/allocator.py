"""The C library's memory allocator."""

import ctypes
import logging
import platform
from collections.abc import Callable

logger = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
KEEP = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}
"""Map nothing apart, give nothing back."""


def keep_freed_memory(mallopt: Callable[[int, int], int] | None = None) -> bool:
    """Let this process keep the memory that it frees for its next arrays, where the C library is glibc.

    Without it the largest arrays are mapped and zeroed anew each time, page by page: 15 % of a training step on a CPU.

    Args:
        mallopt: The C function; ``None``: glibc's.

    Returns:
        Whether the allocator took the setting. Where it did not, training is slower and no result changes.
    """
    if mallopt is None:
        if platform.libc_ver()[0] != "glibc":
            logger.info("allocator: as it is; the C library is not glibc")
            return False
        mallopt = ctypes.CDLL(None).mallopt
    refused = [f"mallopt({option}, {value})" for option, value in KEEP.items() if not mallopt(option, value)]
    if refused:
        logger.warning("allocator: %s was refused; training may be some 15 %% slower", ", ".join(refused))
    return not refused
