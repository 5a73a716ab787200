"""How long a search takes: queries one at a time, warm, and cold with the index read from the disk."""

import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

PERCENTILES = (50, 95, 99)


def time_queries(search: Callable[[np.ndarray], object], queries: np.ndarray) -> np.ndarray:
    """Time a search for each of the queries (Q, D), one at a time, in milliseconds (Q,)."""
    times = []
    for row in range(len(queries)):
        start = time.perf_counter()
        search(queries[row : row + 1])
        times.append(1e3 * (time.perf_counter() - start))
    return np.array(times)


def time_cold_queries(
    opened: Callable[[], Callable[[np.ndarray], object]], files: Collection[Path], queries: np.ndarray
) -> np.ndarray:
    """Time the first search after each opening, with the files out of the system's memory, in milliseconds (Q,)."""
    times = []
    for row in range(len(queries)):
        for file in files:
            _forget(file)
        times.append(time_queries(opened(), queries[row : row + 1]))
    return np.concatenate(times)


def _forget(file: Path) -> None:
    """Ask the system to drop a file from memory. macOS cannot: there, cold is a new mapping alone."""
    if hasattr(os, "posix_fadvise"):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def percentiles(milliseconds: np.ndarray, name: str) -> dict[str, float]:
    """Name the percentiles of some times: ``p50 warm ms``."""
    return {f"p{part} {name} ms": float(np.percentile(milliseconds, part)) for part in PERCENTILES}
