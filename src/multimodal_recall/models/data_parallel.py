"""What several processes that train one model share, so that they train the model that one process would.

Towers: each process encodes its share of a batch's distinct queries and products, then all processes have all vectors
(sentence-transformers' ``gather_across_devices``). An in-batch loss so compares every query with every product of the
batch. Batch norm: statistics are those of all processes.
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
    """Processes that share the work at hand; 1 outside of such a training."""
    return get_world_size() if is_initialized() and not _each_alone else 1


@contextmanager
def each_alone() -> Iterator[None]:
    """Every process does the whole work of the block."""
    global _each_alone
    _each_alone = True
    try:
        yield
    finally:
        _each_alone = False


@cache
def _group() -> ProcessGroup:
    """A group of its own: data-parallel training sums gradients in the default one, at times of its choosing."""
    return new_group()


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of their gradients."""

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
    """Encode the rows of a batch that every process holds whole: each process its share; all get all vectors.

    Where there are fewer rows than processes, each process encodes all of them.

    Args:
        encode: Gives the vectors (rows, ...) of a slice of the rows.
        count: Rows in all, in the same order in each process.

    Returns:
        (count, ...) float32. The gradient of a row is the sum over the processes, which data-parallel training divides
        by their number.
    """
    processes = process_count()
    if processes == 1 or count < processes:
        with each_alone():
            return encode(slice(0, count)).float()
    start, end = (count * (get_rank() + more) // processes for more in (0, 1))
    mine = encode(slice(start, end)).float()
    others = (0, 0) * (mine.dim() - 1) + (start, count - end)
    return SumOverProcesses.apply(functional.pad(mine, others))


class BatchNorm(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` on (E, D), whose statistics in training are those of all processes' entries.

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
