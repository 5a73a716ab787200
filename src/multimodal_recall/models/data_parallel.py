"""What processes that train one model together share, so that the model is the same as from one process.

Towers: each process encodes its share of a batch's distinct queries and products, then gets the vectors of all shares
(sentence-transformers' ``gather_across_devices``). An in-batch loss thus compares every query with every product of the
batch. Batch norm: the statistics cover the entries of all processes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup, all_reduce, get_rank, get_world_size, is_initialized, new_group
from torch.nn import functional

_each_alone = False


def process_count() -> int:
    """Count the processes that share the work at hand; 1 outside of training by several processes."""
    return get_world_size() if is_initialized() and not _each_alone else 1


@contextmanager
def each_alone() -> Iterator[None]:
    """Let every process do the whole work of the block."""
    global _each_alone
    _each_alone = True
    try:
        yield
    finally:
        _each_alone = False


@cache
def _group() -> ProcessGroup:
    """Make a second process group: data-parallel training sums gradients in the default group, at any time."""
    return new_group()


class SumOverProcesses(torch.autograd.Function):
    """Sum a tensor over all processes; the gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        """Sum the values."""
        del ctx
        total = values.clone(memory_format=torch.contiguous_format)
        all_reduce(total, group=_group())
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        """Sum the gradients."""
        return SumOverProcesses.forward(ctx, gradient)


def encode_shares(encode: Callable[[slice], Tensor], count: int) -> Tensor:
    """Encode rows of a batch that every process holds whole: each process encodes its share and gets all vectors.

    ``encode`` turns a slice of the rows into vectors (rows, ...); the rows have the same order in each process. With
    fewer rows than processes, each process encodes all rows.

    Returns:
        (count, ...) float32. The gradient of a row is the sum over the processes, which data-parallel training divides
        by their number.
    """
    processes = process_count()
    if processes == 1 or count < processes:
        with each_alone():
            return encode(slice(0, count)).float()
    start, end = (count * (get_rank() + offset) // processes for offset in (0, 1))
    share = encode(slice(start, end)).float()
    rows_around = (0, 0) * (share.dim() - 1) + (start, count - end)
    return SumOverProcesses.apply(functional.pad(share, rows_around))


class BatchNorm(nn.BatchNorm1d):
    """Normalise entries (E, D) as ``nn.BatchNorm1d``, in training by the statistics of all processes' entries.

    torch's ``SyncBatchNorm`` refuses CPUs.
    """

    def forward(self, data: Tensor) -> Tensor:
        """Normalise the entries."""
        if not self.training or process_count() == 1:
            return super().forward(data)
        summed = SumOverProcesses.apply(torch.cat([data.sum(dim=0), data.new_tensor([len(data)])]))
        count, mean = summed[-1], summed[:-1] / summed[-1]
        variance = SumOverProcesses.apply((data - mean).square().sum(dim=0)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        return (data - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
