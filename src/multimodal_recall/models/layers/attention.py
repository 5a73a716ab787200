"""Attention layers, post-norm, on sequences without their padding.

Images have 3.8 boxes on average and up to 30, so padded sequences would be mostly padding. What is done to each entry
alone (linear layers, norms) therefore runs on the real entries (E, D) of all sequences, one after another, and only
the attention itself on padded ones.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Padding:
    """Where the E real entries of S padded sequences stand; takes the padding away and puts it back."""

    def __init__(self, mask: Tensor) -> None:
        """Remember ``mask`` (S, L), which is True on padding."""
        self.mask = mask
        self.places = (~mask).flatten().nonzero().squeeze(1)

    def remove(self, padded: Tensor) -> Tensor:
        """(S, L, ...) -> (E, ...)."""
        return padded.flatten(0, 1).index_select(0, self.places)

    def put_back(self, entries: Tensor) -> Tensor:
        """(E, D) -> (S, L, D), zero on padding."""
        padded = entries.new_zeros(self.mask.numel(), entries.shape[1])
        return padded.index_copy(0, self.places, entries).unflatten(0, self.mask.shape)


class Memory(NamedTuple):
    """What sequences answer when they are asked: keys and values (S, H, L, D / H), and their mask (S, L)."""

    keys: Tensor
    values: Tensor
    mask: Tensor

    def select(self, rows: Tensor) -> "Memory":
        """The memory of some sequences (N,), which may come more than once."""
        return Memory(*(part.index_select(0, rows) for part in self))


class Attention(nn.Module):
    """Multi-head attention with what comes after it: ``norm(x + attention(x, memory))`` (Vaswani et al. 2017).

    Shapes:
        entries (E, D) -> (E, D).
    """

    def __init__(self, width: int, heads: int, dropout: float, eps: float = 1e-5) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width, eps)
        self.heads = heads

    def memory(self, entries: Tensor, padding: Padding) -> Memory:
        """Keys and values of the sequences that are asked."""
        return Memory(self._split(self.key(entries), padding), self._split(self.value(entries), padding), padding.mask)

    def forward(self, entries: Tensor, padding: Padding, memory: Memory | None = None) -> Tensor:
        """Let each entry ask its sequence's memory; ``None``: its own sequence."""
        keys, values, mask = self.memory(entries, padding) if memory is None else memory
        heard = functional.scaled_dot_product_attention(
            self._split(self.query(entries), padding),
            keys,
            values,
            attn_mask=~mask[:, None, None],  # True where to look
            dropout_p=self.dropout.p if self.training else 0.0,
        )  # (S, H, L, D / H)
        heard = padding.remove(heard.transpose(1, 2).flatten(2))
        return self.norm(entries + self.dropout(self.out(heard)))

    def _split(self, entries: Tensor, padding: Padding) -> Tensor:
        """(E, D) -> (S, H, L, D / H)."""
        return padding.put_back(entries).unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """A hidden layer with what comes after it: ``norm(x + MLP(x))``.

    Shapes:
        entries (E, D) -> (E, D).
    """

    def __init__(self, width: int, state: int, dropout: float, activation: nn.Module, eps: float = 1e-5) -> None:
        """Make the layer; ``activation`` may end with a dropout of its own."""
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, state), activation, nn.Linear(state, width), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, entries: Tensor) -> Tensor:
        """Change each entry alone."""
        return self.norm(entries + self.layers(entries))


class SelfAttentionLayer(nn.Module):
    """Entries ask their own sequence, then a hidden layer: ``nn.TransformerEncoderLayer``, SA unit of MCAN."""

    def __init__(
        self, width: int, heads: int, state: int, dropout: float, activation: nn.Module, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout, eps)
        self.feed_forward = FeedForward(width, state, dropout, activation, eps)

    def forward(self, entries: Tensor, padding: Padding) -> Tensor:
        """(E, D) -> (E, D)."""
        return self.feed_forward(self.attention(entries, padding))


class GuidedAttentionLayer(nn.Module):
    """Entries ask their own sequence, then a guiding one: ``nn.TransformerDecoderLayer``, SGA unit of MCAN."""

    def __init__(self, width: int, heads: int, state: int, dropout: float, activation: nn.Module) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.guided = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, state, dropout, activation)

    def forward(self, entries: Tensor, padding: Padding, guide: Tensor, guide_padding: Padding, rows: Tensor) -> Tensor:
        """Let sequences be guided by others.

        Args:
            entries: (E, D) of S sequences.
            padding: Theirs.
            guide: (G, D) entries of the guiding sequences.
            guide_padding: Theirs.
            rows: (S,) which guiding sequence belongs to each.

        Returns:
            (E, D).
        """
        memory = self.guided.memory(guide, guide_padding).select(rows)
        return self.feed_forward(self.guided(self.attention(entries, padding), padding, memory))


class AttentionPooling(nn.Module):
    """One vector a sequence: an MLP weighs the entries, softmax, the weighted sum, a linear layer (MCAN's AttFlat).

    Shapes:
        entries (E, D) of S sequences -> (S, outputs).
    """

    def __init__(self, width: int, state: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.weigh = nn.Sequential(nn.Linear(width, state), nn.ReLU(), nn.Dropout(dropout), nn.Linear(state, 1))
        self.out = nn.Linear(width, outputs)

    def forward(self, entries: Tensor, padding: Padding) -> Tensor:
        """Summarise each sequence."""
        weights = padding.put_back(self.weigh(entries)).masked_fill(padding.mask[:, :, None], -torch.inf).softmax(dim=1)
        return self.out((weights * padding.put_back(entries)).sum(dim=1))
