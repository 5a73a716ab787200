"""What this machine can do at best, in the units that bound the stages."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pybase64
import torch

BLOCK = 1 << 24


clock = time.perf_counter  # `python -m benchmarks --busy` replaces it


def best(function: Callable[[], object], amount: float, repeats: int = 5) -> float:
    """The best rate of some runs, ``amount`` a second."""
    rates = []
    for _ in range(repeats):
        start = clock()
        function()
        rates.append(amount / (clock() - start))
    return max(rates)


def matrix_product(kind: torch.dtype, size: int = 2048) -> float:
    """GFLOP/s of a square product on all cores."""
    size = size if kind == torch.float32 else size // 4  # emulated bfloat16 takes 50 s otherwise
    left = torch.randn(size, size).to(kind)
    return best(lambda: left @ left, 2 * size**3 / 1e9)


def memory_copy() -> float:
    """GB/s of a copy between two arrays that no cache holds."""
    source, target = np.ones((2, 1 << 26), np.float32)
    return best(lambda: np.copyto(target, source), source.nbytes / 1e9)


def base64_decoding() -> float:
    """GB/s of text, in rows of four boxes, on one core."""
    text = pybase64.b64encode(os.urandom(4 * 8192))
    return best(lambda: [pybase64.b64decode_as_bytearray(text, validate=True) for _ in range(1000)], len(text) / 1e6)


def disk_write(size: int = 1 << 29) -> float:
    """GB/s to the folder for temporary files, synchronised."""
    data = os.urandom(BLOCK)

    def write() -> None:
        with tempfile.NamedTemporaryFile() as file:
            for _ in range(size // BLOCK):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())

    return best(write, size / 1e9, repeats=3)


def cached_read(path: Path) -> float:
    """GB/s of a file in the disk cache, on one core."""

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            while file.read(BLOCK):
                pass

    return best(read, path.stat().st_size / 1e9, repeats=3)
