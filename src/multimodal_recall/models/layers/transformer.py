"""Transformer layers in place of the BiLSTMs over words and boxes: the open question of the seed system's author."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.padding import Packing
from multimodal_recall.models.layers.towers import BoxEncoder, LabelVectors, WordVectors


class Transformer(nn.Module):
    """Average each sequence's real entries after pre-norm layers with ReLU and an inner width of 4 x state."""

    def __init__(self, state: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        # Not nn.TransformerEncoder, whose layers all start from the same weights.
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(state, heads, 4 * state, dropout, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(state)
        self.state = state

    def forward(self, data: Tensor, mask: Tensor) -> Tensor:
        """Encode padded sequences, (S, L, state) -> (S, state); ``mask`` (S, L) is True on padding."""
        for layer in self.layers:
            data = layer(data, src_key_padding_mask=mask)
        real = ~mask.unsqueeze(2)
        return (self.norm(data) * real).sum(dim=1) / real.sum(dim=1)


def position_encoding(length: int, size: int) -> Tensor:
    """Compute the sinusoidal position encoding (length, size) of Vaswani et al. 2017."""
    rates = torch.exp(torch.arange(0, size, 2) * (-math.log(10_000) / size))
    angles = torch.arange(length).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class SentenceAndWordTransformer(nn.Module):
    """Encode a query as ``SentenceAndWords`` does, with transformer layers in place of the BiLSTM."""

    def __init__(self, vector_size: int, word_vectors: WordVectors, words: Transformer) -> None:
        super().__init__()
        self.word_vectors = word_vectors
        self.sentence_norm = nn.LayerNorm(vector_size)
        self.word_norm = nn.LayerNorm(word_vectors.size)
        self.first = nn.Linear(word_vectors.size, words.state)
        self.words = words
        self.size = vector_size + words.state

    def forward(self, batch: Batch) -> Tensor:
        """Encode the batch's queries, (Q, D + state)."""
        words = self.first(self.word_norm(self.word_vectors(batch.word_ids)))
        words = self.words(words + position_encoding(*words.shape[1:]).to(words.device), batch.word_mask)
        return torch.cat([self.sentence_norm(batch.query_vectors.float()), words], dim=1)


class BoxTransformer(BoxEncoder):
    """Encode an image by transformer layers over its boxes, whose order is not read."""

    def __init__(self, feature_size: int, label_vectors: LabelVectors, boxes: Transformer) -> None:
        super().__init__(feature_size, label_vectors, boxes.state)
        self.first = nn.Linear(self.inputs, boxes.state)
        self.boxes = boxes

    def forward(self, batch: Batch) -> Tensor:
        """Encode the batch's products, (P, state)."""
        packed = Packing(batch.box_mask)
        layer = self.layer_on_boxes(self.first.weight, self.first.bias)
        boxes = functional.linear(self.boxes_of(batch, packed), *layer)
        return self.boxes(packed.put_back(boxes), batch.box_mask)
