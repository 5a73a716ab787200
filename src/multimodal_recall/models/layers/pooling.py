"""Generalised pooling of sets (GPO of VSE-infinity, Chen et al., CVPR 2021)."""

import torch
from torch import Tensor, nn

from multimodal_recall.models.layers.padding import Padding
from multimodal_recall.models.layers.recurrent import PaddedGru
from multimodal_recall.models.precision import MASKED_SCORE, ScoreLayer

STATE = 32  # width of a position and of each direction of the GRU, as published
TEMPERATURE = 0.1  # of the softmax over the ranks, as published


class GeneralisedPooling(nn.Module):
    """Pool each component of a sequence's entries: sort its values, and sum the values times a weight for each rank.

    A BiGRU over sinusoidal codes of the ranks gives the weights, which add up to 1 and depend on nothing but the
    sequence's length. Mean, maximum and the mean of the k highest values are special cases of the weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gru = PaddedGru(STATE, 2 * STATE)
        self.weigh = ScoreLayer(STATE, 1, bias=False)

    def forward(self, entries: Tensor, padding: Padding) -> Tensor:
        """Pool the entries of S sequences, (E, D) -> (S, D) float32."""
        return pool_sorted(entries.float(), padding, self.weights(padding))

    def weights(self, padding: Padding) -> Tensor:
        """Compute the weight of each rank, (S, L), zero beyond a sequence's length."""
        longest = padding.mask.shape[1]
        lengths, rows = (~padding.mask).sum(dim=1).unique(return_inverse=True)
        beyond = _ranks(padding.mask) >= lengths.unsqueeze(1)  # (distinct lengths, L)
        codes = sinusoids(longest, STATE).to(beyond.device).expand(len(lengths), -1, -1)
        states = self.gru(codes, beyond)[0].unflatten(2, (2, STATE)).mean(dim=2)
        logits = self.weigh(states).squeeze(2) / TEMPERATURE
        return logits.masked_fill(beyond, MASKED_SCORE).softmax(dim=1).index_select(0, rows)


def pool_sorted(entries: Tensor, padding: Padding, weights: Tensor) -> Tensor:
    """Sort each component of each sequence, highest value first, and sum it with weights (S, L), (E, D) -> (S, D)."""
    mask = padding.mask
    padded = padding.put_back(entries).masked_fill(mask.unsqueeze(2), MASKED_SCORE)
    beyond = _ranks(mask) >= (~mask).sum(dim=1, keepdim=True)  # (S, L): sorting moves the padding to the end
    ranked = padded.sort(dim=1, descending=True).values.masked_fill(beyond.unsqueeze(2), 0)
    return (ranked * weights.unsqueeze(2)).sum(dim=1)


def sinusoids(count: int, width: int) -> Tensor:
    """Encode ranks by sines and cosines, side by side in turn, (count, width) (Vaswani et al. 2017)."""
    frequencies = 10_000 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(count).unsqueeze(1) * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def _ranks(mask: Tensor) -> Tensor:
    """(L,)."""
    return torch.arange(mask.shape[1], device=mask.device)
