"""Recurrent nets over sequences without their padding.

``BiLstm`` and ``BiGru`` have the weights and results of torch's nets, but not torch's loop: on packed sequences, torch
fills and adds an array as large as all gates at each step backwards, multiplies first states that are zero, and under
autocast on CUDA replaces bfloat16 by float16 (ATen/cudnn/AutocastRNN.cpp).
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from multimodal_recall.models.layers.padding import Packing
from multimodal_recall.models.precision import in_float32


class BiLstm(nn.Module):
    """Encode each sequence by the last state of each direction, or by the mean of its outputs, side by side.

    The published code took the first position's output, in which one direction has read a single entry.
    """

    def __init__(self, inputs: int, state: int, averaged: bool = False) -> None:
        super().__init__()
        self.averaged = averaged
        self.lstm = nn.LSTM(inputs, state // 2, bidirectional=True)

    def input_layer(self) -> tuple[Tensor, Tensor]:
        """Stack weight (2, 2 * state, inputs) and bias (2, 2 * state) from an entry to the gates."""
        bias = _stack_directions(self.lstm, "bias_ih") + _stack_directions(self.lstm, "bias_hh")
        return _stack_directions(self.lstm, "weight_ih"), bias

    def forward(self, data: Tensor, packed: Packing, weight: Tensor, bias: Tensor) -> Tensor:
        """Encode packed entries (E, inputs) into (S, state).

        ``weight`` and ``bias`` come from ``input_layer``, perhaps converted for entries in another form.
        """
        both = torch.stack([data, data.index_select(0, packed.backwards)])
        steps = torch.baddbmm(bias.unsqueeze(1), both, weight.mT).split(packed.sizes, dim=1)  # each (2, n, 2 * state)
        recurrent, hidden, cell = _stack_directions(self.lstm, "weight_hh").mT, None, None
        finished, outputs = [], []
        for gates in steps:
            if hidden is not None:
                running = [gates.shape[1], hidden.shape[1] - gates.shape[1]]
                (hidden, last), (cell, _) = hidden.split(running, dim=1), cell.split(running, dim=1)
                finished.append(last)
                gates = torch.baddbmm(gates, hidden, recurrent)
            input_gate, forget_gate, update, output_gate = gates.float().chunk(4, dim=2)
            update = input_gate.sigmoid() * update.tanh()
            cell = update if cell is None else update + forget_gate.sigmoid() * cell
            hidden = output_gate.sigmoid() * cell.tanh()
            if self.averaged:
                outputs.append(hidden)
        both = _average_steps(outputs) if self.averaged else torch.cat([hidden, *reversed(finished)], dim=1)
        return torch.cat([*both], dim=1).index_select(0, packed.ranks)


class BiGru(nn.Module):
    """Encode each sequence by the last state of each direction of a GRU."""

    def __init__(self, inputs: int, state: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, state, bidirectional=True)

    def forward(self, data: Tensor, packed: Packing) -> Tensor:
        """Encode packed entries (E, inputs) into (2, S, state), forwards and backwards."""
        weight, recurrent_weight = (_stack_directions(self.gru, name).mT for name in ("weight_ih", "weight_hh"))
        bias, recurrent_bias = (_stack_directions(self.gru, name).unsqueeze(1) for name in ("bias_ih", "bias_hh"))
        both = torch.stack([data, data.index_select(0, packed.backwards)])
        steps = torch.baddbmm(bias, both, weight).split(packed.sizes, dim=1)  # each (2, n, 3 * state)
        hidden, finished = None, []
        for gates in steps:
            recurrent = recurrent_bias
            if hidden is not None:
                hidden, last = hidden.split([gates.shape[1], hidden.shape[1] - gates.shape[1]], dim=1)
                finished.append(last)
                recurrent = torch.baddbmm(recurrent_bias, hidden, recurrent_weight)
            reset, keep, new = gates.float().chunk(3, dim=2)
            recurrent_reset, recurrent_keep, recurrent_new = recurrent.float().chunk(3, dim=2)
            new = (new + (reset + recurrent_reset).sigmoid() * recurrent_new).tanh()
            keep = (keep + recurrent_keep).sigmoid()
            hidden = new - keep * new if hidden is None else new + keep * (hidden - new)
        return torch.cat([hidden, *reversed(finished)], dim=1).index_select(1, packed.ranks)


def _stack_directions(net: nn.RNNBase, name: str) -> Tensor:
    """Stack a weight of both directions, (2, ...); each holds torch's gates one after the other."""
    return torch.stack([getattr(net, f"{name}_l0{direction}") for direction in ("", "_reverse")])


def _average_steps(steps: list[Tensor]) -> Tensor:
    """Average sequences (..., S, D) over their steps (..., n, D), each of the n longest sequences."""
    ranks = torch.cat([torch.arange(step.shape[-2]) for step in steps]).to(steps[0].device)
    sums = torch.zeros_like(steps[0]).index_add(-2, ranks, torch.cat(steps, dim=-2))
    return sums / torch.bincount(ranks).unsqueeze(1)


class PaddedGru(nn.Module):
    """Read padded sequences of at least one entry with torch's bidirectional GRU, which skips the padding."""

    def __init__(self, inputs: int, state: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, state // 2, layers, batch_first=True, dropout=dropout, bidirectional=True)

    def forward(self, data: Tensor, mask: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read sequences (S, L, inputs), every layer and direction from the state ``start`` (S, state / 2) or zero.

        Returns:
            The last layer's states (S, L, state), zero on padding, and the last state of each layer and direction
            (2 * layers, S, state / 2).
        """
        packed = pack_padded_sequence(data, (~mask).sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        if start is not None:
            start = start.expand(2 * self.gru.num_layers, -1, -1).contiguous()
        with in_float32(data):  # on CUDA, autocast would replace bfloat16 by float16
            states, last = self.gru(packed, start)
        return pad_packed_sequence(states, batch_first=True, total_length=mask.shape[1])[0], last
