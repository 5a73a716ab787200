"""Sequences without their padding: images have 3.8 boxes on average and up to 30, so most of a batch is padding."""

import torch
from torch import Tensor


class Padding:
    """Take the padding of S sequences away, and put it back around their E real entries."""

    def __init__(self, mask: Tensor) -> None:
        """Find the real entries; ``mask`` (S, L) is True on padding."""
        self.mask = mask
        self.places = (~mask).flatten().nonzero().squeeze(1)  # (E,) of the real entries in the flattened sequences

    def remove(self, padded: Tensor) -> Tensor:
        """Select the real entries, (S, L, ...) -> (E, ...)."""
        return padded.flatten(0, 1).index_select(0, self.places)

    def put_back(self, entries: Tensor) -> Tensor:
        """Place the real entries in padded sequences, (E, D) -> (S, L, D), zero on padding."""
        padded = entries.new_zeros(self.mask.numel(), entries.shape[1])
        return padded.index_copy(0, self.places, entries).unflatten(0, self.mask.shape)


class Packing(Padding):
    """Order the real entries as a recurrent net reads them: step by step, the longest sequence first.

    The entries of a step are neighbours, as many as sequences reach the step.
    """

    def __init__(self, mask: Tensor) -> None:
        """Pack sequences of at least one entry; ``mask`` (S, L) is True on the padding at the sequences' ends."""
        self.mask = mask
        counts, order = (~mask).sum(dim=1).sort(descending=True, stable=True)
        steps, ranks = torch.arange(mask.shape[1], device=mask.device).unsqueeze(1), torch.arange(len(mask))
        reached = steps < counts  # (L, S)
        sizes = reached.sum(dim=1)
        starts = sizes.cumsum(0) - sizes
        self.places = (order * len(steps) + steps)[reached]
        self.backwards = (starts[(counts - 1 - steps).clamp(min=0)] + ranks.to(mask.device))[reached]
        """(E,) entry that takes each entry's place when every sequence is read from its end."""
        self.sizes = sizes.tolist()  # entries of each step
        self.ranks = order.argsort()  # (S,) rank of each sequence by length, longest first
