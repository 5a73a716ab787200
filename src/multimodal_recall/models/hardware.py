"""What this machine computes well, and what the threads of a process share."""

import ctypes
import platform
import threading

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
ONE_AT_A_TIME = threading.RLock()
"""Held by what trains a ranker, builds one, or loads with transformers. The threads of a process (``ThreadRunner``)
share torch's stream of random numbers, of which training and new weights draw, and transformers' classes, which it
changes while it loads."""


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half_precision(device: torch.device) -> torch.dtype | None:
    """``torch.bfloat16`` where the device multiplies it natively, else ``None``.

    A CPU without the instructions emulates it: 0.3 GFLOP/s against 100 in float32 on the 2-core AVX2 machine this was
    written on. float16 is never computed in on a CPU.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else None


def keep_freed_memory() -> None:
    """Let this process keep what it frees, for its next arrays, where the C library is glibc.

    Else its largest arrays are mapped and zeroed anew each time, page by page: 15 % of a training step on a CPU.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1)):
        if not mallopt(option, value):
            raise OSError(f"mallopt({option}, {value}) was refused")
