"""What this machine computes well."""

import torch


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
