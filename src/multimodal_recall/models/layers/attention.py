"""Attention layers, post-norm, on sequences without their padding.

Linear layers and norms run on the real entries (E, D) of all sequences, one after another; only the attention itself
runs on padded sequences.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from multimodal_recall.models.layers.padding import Padding


class Memory(NamedTuple):
    """Hold keys and values (S, H, L, D / H) of sequences that are attended to, and their mask (S, L)."""

    keys: Tensor
    values: Tensor
    mask: Tensor


class Attention(nn.Module):
    """Apply ``norm(x + attention(x, memory))`` with multi-head attention (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int, dropout: float, eps: float = 1e-5) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width, eps)
        self.heads = heads

    def memory(self, entries: Tensor, padding: Padding) -> Memory:
        """Compute keys and values of the sequences that are attended to."""
        return Memory(self._split(self.key(entries), padding), self._split(self.value(entries), padding), padding.mask)

    def forward(self, entries: Tensor, padding: Padding, memory: Memory | None = None) -> Tensor:
        """Let entries (E, D) attend to their sequence's memory, -> (E, D); ``None``: to their own sequence."""
        keys, values, mask = self.memory(entries, padding) if memory is None else memory
        attended = functional.scaled_dot_product_attention(
            self._split(self.query(entries), padding),
            keys,
            values,
            attn_mask=~mask[:, None, None],  # torch wants True on real entries
            dropout_p=self.dropout.p if self.training else 0.0,
        )  # (S, H, L, D / H)
        attended = padding.remove(attended.transpose(1, 2).flatten(2))
        return self.norm(entries + self.dropout(self.out(attended)))

    def _split(self, entries: Tensor, padding: Padding) -> Tensor:
        """(E, D) -> (S, H, L, D / H)."""
        return padding.put_back(entries).unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Apply ``norm(x + MLP(x))`` with one hidden layer."""

    def __init__(self, width: int, state: int, dropout: float, activation: nn.Module, eps: float = 1e-5) -> None:
        """Make the layer; ``activation`` may end with a dropout of its own."""
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, state), activation, nn.Linear(state, width), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, entries: Tensor) -> Tensor:
        """Transform each entry alone, (E, D) -> (E, D)."""
        return self.norm(entries + self.layers(entries))


class SelfAttentionLayer(nn.Module):
    """Apply self-attention, then a hidden layer: ``nn.TransformerEncoderLayer``, the SA unit of MCAN."""

    def __init__(
        self, width: int, heads: int, state: int, dropout: float, activation: nn.Module, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout, eps)
        self.feed_forward = FeedForward(width, state, dropout, activation, eps)

    def forward(self, entries: Tensor, padding: Padding) -> Tensor:
        """Encode entries, (E, D) -> (E, D)."""
        return self.feed_forward(self.attention(entries, padding))


class GuidedAttentionLayer(nn.Module):
    """Apply self-attention, attention to a guide, a hidden layer: ``nn.TransformerDecoderLayer``, SGA unit of MCAN."""

    def __init__(self, width: int, heads: int, state: int, dropout: float, activation: nn.Module) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.guided = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, state, dropout, activation)

    def forward(self, entries: Tensor, padding: Padding, guide: Tensor, guide_padding: Padding, rows: Tensor) -> Tensor:
        """Let S sequences (E, D) attend to themselves, then sequence i to sequence ``rows[i]`` of the guide (G, D)."""
        memory = Memory(*(part.index_select(0, rows) for part in self.guided.memory(guide, guide_padding)))
        return self.feed_forward(self.guided(self.attention(entries, padding), padding, memory))


class AttentionPooling(nn.Module):
    """Pool each sequence: softmax weights from an MLP, weighted sum of the entries, linear layer (MCAN's AttFlat)."""

    def __init__(self, width: int, state: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.weigh = nn.Sequential(nn.Linear(width, state), nn.ReLU(), nn.Dropout(dropout), nn.Linear(state, 1))
        self.out = nn.Linear(width, outputs)

    def forward(self, entries: Tensor, padding: Padding) -> Tensor:
        """Pool the entries of S sequences, (E, D) -> (S, outputs)."""
        weights = padding.put_back(self.weigh(entries)).masked_fill(padding.mask[:, :, None], -torch.inf).softmax(dim=1)
        return self.out((weights * padding.put_back(entries)).sum(dim=1))
