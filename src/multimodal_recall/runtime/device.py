"""Choose device, precision and threads of everything that torch computes, here alone and with the reason in words."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.runtime.cores import HardwareError, threads_of_a_node

if TYPE_CHECKING:  # torch takes seconds to import
    import torch

logger = logging.getLogger(__name__)

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
"""Instruction sets of x86 CPUs that multiply bfloat16. Other CPUs emulate bfloat16: 0.3 GFLOP/s against 100 in float32
on a 2-core AVX2 machine."""


@dataclass(frozen=True)
class Hardware:
    """Device, precision and threads of a process, chosen by ``choose_hardware`` alone."""

    device: str = "cpu"
    """cpu or cuda."""
    precision: str = "float32"
    """float32 or bfloat16, for matrix products in training and in the language model; see ``models.precision``."""
    threads: int = 1
    """CPU threads of torch."""
    reason: str = field(default="", compare=False)
    """Why each of the three was chosen."""

    @property
    def dtype(self) -> "torch.dtype":
        """The precision as a torch dtype."""
        import torch

        return getattr(torch, self.precision)

    @property
    def fused_attention(self) -> bool:
        """Whether attention runs in torch's fused kernel: everywhere but in bfloat16 on CPUs.

        There the kernel sets up a product for each head of each short sequence, and its gradient takes several times as
        long as in float32: ``visual_bert`` of ``conf/base`` trained at a third of its speed in float32.
        """
        return (self.device, self.precision) != ("cpu", "bfloat16")

    @property
    def gathers_ahead(self) -> bool:
        """Whether a thread gathers the next batch and copies it to the device while this batch trains: on a GPU.

        On a CPU the gathering takes all cores itself, for 1 to 2.5 % of a step, and a second thread's OpenMP team slows
        down the training's.
        """
        return self.device == "cuda"

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Open a context in which matrix products run in the precision, and attention in the faster way."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        with ExitStack() as stack:
            if self.precision == "bfloat16":
                stack.enter_context(torch.autocast(self.device, torch.bfloat16))
            if not self.fused_attention:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield

    def facts(self) -> dict[str, Any]:
        """Give all fields but the reason, for a model card or a checkpoint: they decide the figures."""
        return {name: value for name, value in asdict(self).items() if name != "reason"}

    def set_threads(self) -> None:
        """Set torch's threads in this process."""
        import torch

        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)

    def divided(self, processes: int) -> "Hardware":
        """Give each of several processes on this machine its share of the threads."""
        return replace(self, threads=max(1, self.threads // processes))

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.device}, {self.precision}, {threads}" + (f" ({self.reason})" if self.reason else "")


def use_hardware(options: HardwareOptions) -> Hardware:
    """Choose the hardware of a node, set torch's threads, and log the choice once a process.

    Raises:
        HardwareError: As ``choose_hardware``.
    """
    hardware = choose_hardware(options)
    hardware.set_threads()
    _log_once(str(hardware))
    return hardware


def choose_hardware(options: HardwareOptions) -> Hardware:
    """Replace ``auto`` in the options by the best that this machine has.

    Raises:
        HardwareError: If the options name CUDA and torch sees no GPU, or ``OMP_NUM_THREADS`` is no number.
    """
    device, why_device = _device(options.device)
    precision, why_precision = _precision(options.precision, device)
    threads, why_threads = threads_of_a_node()
    if options.threads != "auto":
        threads, why_threads = options.threads, "set by hardware.threads"
    reasons = {device: why_device, precision: why_precision, "threads": why_threads}
    return Hardware(device, precision, threads, "; ".join(f"{choice}: {why}" for choice, why in reasons.items()))


@functools.cache
def _log_once(text: str) -> None:
    logger.info("hardware: %s", text)


def _device(wanted: str) -> tuple[str, str]:
    import torch

    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise HardwareError(
            f"hardware.device is cuda, and torch {torch.__version__} sees no GPU here. Set hardware.device to auto or "
            "cpu, or install a CUDA build of torch on a machine with a GPU"
        )
    if wanted != "auto":
        return wanted, "set by hardware.device"
    return ("cuda", "torch sees a GPU") if has_gpu else ("cpu", "torch sees no GPU")


def _precision(wanted: str, device: str) -> tuple[str, str]:
    native = NATIVE_BFLOAT16[device]()
    if wanted != "auto":
        emulated = wanted == "bfloat16" and not native
        return wanted, "set by hardware.precision" + "; this machine emulates it, which is slow" * emulated
    chip = "GPU" if device == "cuda" else "CPU"
    if native:
        return "bfloat16", f"this {chip} multiplies bfloat16 natively"
    return "float32", f"this {chip} does not multiply bfloat16 natively"


def _on_cpu() -> bool:
    import torch

    return any(torch.cpu.get_capabilities().get(name, False) for name in BFLOAT16_INSTRUCTIONS)


def _on_cuda() -> bool:
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False)


NATIVE_BFLOAT16: dict[str, Callable[[], bool]] = {"cpu": _on_cpu, "cuda": _on_cuda}
"""Whether each device multiplies bfloat16 natively; tests replace the answers."""


def count_gpus() -> int:
    """Count the GPUs that torch sees."""
    import torch

    return torch.cuda.device_count()
