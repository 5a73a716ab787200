"""Query and image towers. Each takes a batch and gives one vector a query or product."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from multimodal_recall.models.precision import in_float32


class Packing(NamedTuple):
    """Where the real entries of padded sequences (S, L) stand when they are read step by step, longest sequence first.

    With E entries in all, and n sequences that reach a step, the step's entries are n neighbours.
    """

    places: Tensor
    """(E,) in the flattened (S * L) array."""
    backwards: Tensor
    """(E,) which entry stands in each one's place when every sequence is read from its end."""
    sizes: list[int]
    """n of each step."""
    sequences: Tensor
    """(S,) where each sequence stands among those sorted by length."""


def packing(mask: Tensor) -> Packing:
    """Pack sequences of one entry or more; ``mask`` (S, L) is True on the padding at their ends."""
    counts, order = (~mask).sum(dim=1).sort(descending=True, stable=True)
    step, rank = torch.arange(mask.shape[1], device=mask.device).unsqueeze(1), torch.arange(len(mask)).to(mask.device)
    reached = step < counts  # (L, S)
    sizes = reached.sum(dim=1)
    starts = sizes.cumsum(0) - sizes
    backwards = starts[(counts - 1 - step).clamp(min=0)] + rank
    return Packing((order * len(step) + step)[reached], backwards[reached], sizes.tolist(), order.argsort())


class BiLstm(nn.Module):
    """One vector a sequence: the last state of each direction, or the mean of its outputs, side by side.

    The published code took the first position's output, where one direction has seen a single entry.

    Weights and results are those of ``nn.LSTM``. Not run by it, since on packed sequences it fills and adds an array as
    large as all gates at each step backwards, multiplies the first states, which are zero, and under autocast on CUDA
    takes float16 for bfloat16 (ATen/cudnn/AutocastRNN.cpp).
    """

    def __init__(self, inputs: int, state: int, averaged: bool = False) -> None:
        super().__init__()
        self.averaged = averaged
        self.lstm = nn.LSTM(inputs, state // 2, bidirectional=True)

    def stacked(self, name: str) -> Tensor:
        """A weight of both directions (2, ...), in each the gates one after the other: input, forget, cell, output."""
        return torch.stack([getattr(self.lstm, f"{name}_l0{direction}") for direction in ("", "_reverse")])

    def input_layer(self) -> tuple[Tensor, Tensor]:
        """Weight (2, 2 * state, inputs) and bias (2, 2 * state) from an entry to the gates."""
        return self.stacked("weight_ih"), self.stacked("bias_ih") + self.stacked("bias_hh")

    def forward(self, data: Tensor, packed: Packing, weight: Tensor, bias: Tensor) -> Tensor:
        """Encode packed entries (E, inputs) into (S, state).

        Args:
            data: The entries.
            packed: How they are packed.
            weight: ``input_layer()``'s, or what amounts to it for entries written in another way.
            bias: The same.
        """
        both = torch.stack([data, data.index_select(0, packed.backwards)])
        gates = torch.baddbmm(bias.unsqueeze(1), both, weight.mT)  # (2, E, 2 * state)
        recurrent, hidden, state, ended, outputs = self.stacked("weight_hh").mT, None, None, [], []
        for gate in gates.split(packed.sizes, dim=1):
            if hidden is not None:
                parts = [gate.shape[1], hidden.shape[1] - gate.shape[1]]
                (hidden, last), (state, _) = hidden.split(parts, dim=1), state.split(parts, dim=1)
                ended.append(last)
                gate = torch.baddbmm(gate, hidden, recurrent)
            let_in, keep, new, let_out = gate.float().chunk(4, dim=2)
            new = let_in.sigmoid() * new.tanh()
            state = new if state is None else new + keep.sigmoid() * state
            hidden = let_out.sigmoid() * state.tanh()
            if self.averaged:
                outputs.append(hidden)
        both = means(outputs) if self.averaged else torch.cat([hidden, *reversed(ended)], dim=1)
        forwards, backwards = both
        return torch.cat([forwards, backwards], dim=1).index_select(0, packed.sequences)


def means(steps: list[Tensor]) -> Tensor:
    """Average sequences (..., S, D) that are given step by step, (..., n, D) of the n first that reach it."""
    ranks = torch.cat([torch.arange(step.shape[-2]) for step in steps]).to(steps[0].device)
    sums = torch.zeros_like(steps[0]).index_add(-2, ranks, torch.cat(steps, dim=-2))
    return sums / torch.bincount(ranks).unsqueeze(1)


class BiGru(nn.Module):
    """The last state of each direction of a GRU.

    Weights and results are those of ``nn.GRU``; not run by it for the reasons of ``BiLstm``.
    """

    def __init__(self, inputs: int, state: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, state, bidirectional=True)

    def stacked(self, name: str) -> Tensor:
        """A weight of both directions (2, ...), in each the gates one after the other: reset, keep, new."""
        return torch.stack([getattr(self.gru, f"{name}_l0{direction}") for direction in ("", "_reverse")])

    def forward(self, data: Tensor, packed: Packing) -> Tensor:
        """Encode packed entries (E, inputs) into (2, S, state), forwards and backwards."""
        both = torch.stack([data, data.index_select(0, packed.backwards)])
        gates = torch.baddbmm(self.stacked("bias_ih").unsqueeze(1), both, self.stacked("weight_ih").mT)
        weight, bias = self.stacked("weight_hh").mT, self.stacked("bias_hh").unsqueeze(1)
        hidden, ended = None, []
        for gate in gates.split(packed.sizes, dim=1):
            recurrent = bias
            if hidden is not None:
                hidden, last = hidden.split([gate.shape[1], hidden.shape[1] - gate.shape[1]], dim=1)
                ended.append(last)
                recurrent = torch.baddbmm(bias, hidden, weight)
            reset, keep, new = gate.float().chunk(3, dim=2)
            of_reset, of_keep, of_new = recurrent.float().chunk(3, dim=2)
            new = (new + (reset + of_reset).sigmoid() * of_new).tanh()
            keep = (keep + of_keep).sigmoid()
            hidden = new - keep * new if hidden is None else new + keep * (hidden - new)
        return torch.cat([hidden, *reversed(ended)], dim=1).index_select(1, packed.sequences)


def unpacked(data: Tensor, places: Tensor, mask: Tensor) -> Tensor:
    """Put packed entries (E, D) where they stand in padded sequences (S, L, D), with zeros for padding."""
    return data.new_zeros(mask.numel(), data.shape[1]).index_copy(0, places, data).unflatten(0, mask.shape)


class PaddedGru(nn.Module):
    """A bidirectional GRU over padded sequences of one entry or more; padding is not read."""

    def __init__(self, inputs: int, state: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, state // 2, layers, batch_first=True, dropout=dropout, bidirectional=True)

    def forward(self, data: Tensor, mask: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read sequences (S, L, inputs).

        Args:
            data: The entries.
            mask: (S, L), True on the padding at the sequences' ends.
            start: (S, state / 2), where the state of every layer and direction starts; ``None``: at zero.

        Returns:
            The last layer's states (S, L, state), zero on padding, and the last state of each layer and direction
            (2 * layers, S, state / 2).
        """
        packed = pack_padded_sequence(data, (~mask).sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        if start is not None:
            start = start.expand(2 * self.gru.num_layers, -1, -1).contiguous()
        with in_float32(data):  # autocast takes float16 for bfloat16, see BiLstm
            states, last = self.gru(packed, start)
        return pad_packed_sequence(states, batch_first=True, total_length=mask.shape[1])[0], last
