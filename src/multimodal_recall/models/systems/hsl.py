"""Hierarchical Similarity Learning (Ma et al., ICASSP 2021): query and boxes compared at two depths of both encoders.

At each depth, the query is compared with each box and with the whole image. The full model of the publication averages
a query's similarity over the boxes, so that all four similarities are dot products of two vectors.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from multimodal_recall.config.systems import HslOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.indexable import DotRanker
from multimodal_recall.models.layers.attention import AttentionPooling, SelfAttentionLayer
from multimodal_recall.models.layers.padding import Padding
from multimodal_recall.models.layers.pooling import GeneralisedPooling
from multimodal_recall.models.layers.towers import WordVectors
from multimodal_recall.models.precision import in_float32
from multimodal_recall.models.ranker import InputSizes

WEIGHTS = (0.5, 0.5, 1.0, 1.0)
"""Of the similarities with boxes and image at the first depth, then at the second."""


class Stacks(nn.Module):
    """Encode sequences by two stacks of self-attention layers, each of half of the layers."""

    def __init__(self, inputs: int, layers: int, options: HslOptions) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, options.width)
        layer = (options.width, options.heads, options.feed_forward, options.dropout)
        self.stacks = nn.ModuleList(
            nn.ModuleList(
                SelfAttentionLayer(*layer, nn.Sequential(nn.ReLU(), nn.Dropout(options.dropout)))
                for _ in range(layers // 2)
            )
            for _ in range(2)
        )

    def forward(self, entries: Tensor, padding: Padding) -> Iterable[Tensor]:
        """Give the real entries (E, width) after each stack, from real entries (E, inputs)."""
        entries = self.first(entries)
        for stack in self.stacks:
            for layer in stack:
                entries = layer(entries, padding)
            yield entries


class ImageEncoder(nn.Module):
    """Encode boxes into a mean vector of the boxes and a pooled vector of the image, at each depth."""

    def __init__(self, options: HslOptions, sizes: InputSizes) -> None:
        super().__init__()
        width, size = options.width, options.size
        self.boxes = Stacks(sizes.box_feature, options.image_layers, options)
        self.vectors = nn.ModuleList(nn.Linear(width, size) for _ in range(2))
        self.dropout, attention = nn.Dropout(options.dropout), options.pooling == "attention"
        self.back = nn.ModuleList(nn.Linear(size, width) if attention else nn.Identity() for _ in range(2))
        self.pooling = AttentionPooling(width, width, size, options.dropout) if attention else GeneralisedPooling()

    def forward(self, batch: Batch) -> Tensor:
        """Encode the batch's products, (P, 4, size): a mean of vectors of length 1, and a vector of length 1, twice."""
        padding, found = Padding(batch.box_mask), []
        features = padding.remove(batch.box_features).float()
        encoded = self.boxes(functional.layer_norm(features, features.shape[1:]), padding)
        for entries, vectors, back in zip(encoded, self.vectors, self.back, strict=True):
            boxes = self.dropout(vectors(entries))
            pooled = self._pooled(boxes, back, padding).float()
            found += [average(functional.normalize(boxes.float(), dim=1), padding), functional.normalize(pooled, dim=1)]
        return torch.stack(found, dim=1)

    def _pooled(self, boxes: Tensor, back: nn.Module, padding: Padding) -> Tensor:
        if isinstance(self.pooling, GeneralisedPooling):
            return self.pooling(boxes, padding)
        return self.pooling(back(boxes.relu()), padding)


class QueryEncoder(nn.Module):
    """Encode words into a vector for the boxes and a vector for the image, at each depth; their order is not read."""

    def __init__(self, options: HslOptions, sizes: InputSizes) -> None:
        super().__init__()
        self.word_vectors = WordVectors(sizes.words, sizes.word_vector)
        self.words = Stacks(sizes.word_vector, options.text_layers, options)
        self.vectors = nn.ModuleList(nn.Linear(options.width, 2 * options.size) for _ in range(2))
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Encode the batch's queries, (Q, 4, size), of any length."""
        padding = Padding(batch.word_mask)
        encoded = self.words(self.word_vectors(padding.remove(batch.word_ids)), padding)
        averaged = [average(entries.float(), padding) for entries in encoded]
        found = [self.dropout(vectors(mean)) for mean, vectors in zip(averaged, self.vectors, strict=True)]
        return torch.cat(found, dim=1).float().unflatten(1, (4, -1))


class Hsl(DotRanker):
    """Add up four similarities; each of them has an in-batch loss of its own.

    With the pooling ``gpo``, generalised pooling of the boxes' vectors gives the image's vector at each depth. Differs
    from the publication: word vectors are frozen, no start and end are added to a query, features are
    layer-normalised first as in ``BoxEncoder``, gradients are not clipped.
    """

    def __init__(self, options: HslOptions, sizes: InputSizes) -> None:
        super().__init__()
        self.query_encoder, self.image_encoder = QueryEncoder(options, sizes), ImageEncoder(options, sizes)
        self.register_buffer("weights", torch.tensor(WEIGHTS), persistent=False)

    def encode_queries(self, batch: Batch) -> Tensor:
        """Encode the queries, each of the four vectors times the weight of its similarity, (Q, 4 * size)."""
        return (self.query_encoder(batch) * self.weights[:, None]).flatten(1)

    def encode_products(self, batch: Batch) -> Tensor:
        """Encode the products, (P, 4 * size)."""
        return self.image_encoder(batch).flatten(1)

    def loss_matrices(self, batch: Batch) -> list[tuple[float, Tensor]]:
        """Give each similarity of every query with every product (Q, P), and its weight."""
        queries, products = (vectors.chunk(4, dim=1) for vectors in (self.all_queries(batch), self.all_products(batch)))
        with in_float32(queries[0]):
            return [(w, one @ other.T / w) for w, one, other in zip(WEIGHTS, queries, products, strict=True)]


def average(entries: Tensor, padding: Padding) -> Tensor:
    """Average the entries (E, D) of each sequence, (S, D)."""
    return padding.put_back(entries).sum(dim=1) / (~padding.mask).sum(dim=1, keepdim=True)


build = Hsl
