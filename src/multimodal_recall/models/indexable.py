"""The base classes of rankers that encode queries and products apart."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from multimodal_recall.data.batch import Batch, ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.layers.heads import ConcatMlp
from multimodal_recall.models.precision import in_float32
from multimodal_recall.models.ranker import Ranker


class IndexableRanker(Ranker):
    """Encode queries and products apart, so that products can be encoded ahead and kept in an index."""

    word_major = False  # whether a product is encoded as a number a word, of which a query needs its own words alone
    numbers_of_a_pair = 1  # that `compare` holds in memory

    @property
    def sums_words(self) -> bool:
        """Whether a product is encoded as a number a word, which a score adds up."""
        return self.word_major

    def encode_queries(self, batch: Batch) -> Tensor:
        """Encode the batch's queries, (Q, Dq)."""
        raise NotImplementedError

    def encode_products(self, batch: Batch) -> Tensor:
        """Encode the batch's products, (P, Dp)."""
        raise NotImplementedError

    def compare(self, queries: Tensor, products: Tensor) -> Tensor:
        """Score every encoded query (Q, Dq) with every encoded product (P, Dp), (Q, P) float32."""
        raise NotImplementedError

    def query_vectors(self, arrays: ChunkArrays) -> np.ndarray:
        """Encode each query of a chunk, (queries, Dq) float32."""
        rows = np.arange(len(arrays.word_counts))
        pairs = Pairs(rows, np.zeros_like(rows), np.zeros_like(rows))
        return self.compute_pairs(
            lambda batch: self.encode_queries(batch)[batch.pair_queries], arrays, pairs, lambda _: None
        )

    def product_vectors(
        self, arrays: ChunkArrays, pairs: Pairs, tell: Callable[[int], None] = lambda _: None
    ) -> np.ndarray:
        """Encode the product of each pair of a chunk, (n, Dp) float32; see ``score``."""
        return self.compute_pairs(lambda batch: self.encode_products(batch)[batch.pair_products], arrays, pairs, tell)


class TowerRanker(IndexableRanker):
    """Encode queries and products into vectors, which ``compare`` reads in training too."""

    def all_queries(self, batch: Batch) -> Tensor:
        """Encode the batch's queries in float32, shared by the processes of a training."""
        return self.encode_rows(lambda rows: self.encode_queries(batch.take_queries(rows)), len(batch.word_mask))

    def all_products(self, batch: Batch) -> Tensor:
        """Encode the batch's products in float32, shared by the processes of a training."""
        return self.encode_rows(lambda rows: self.encode_products(batch.take_products(rows)), len(batch.box_mask))

    def score_all(self, batch: Batch) -> Tensor:
        """Score every query with every product, (Q, P)."""
        return self.compare(self.all_queries(batch), self.all_products(batch))


class DotRanker(TowerRanker):
    """Score a pair by the dot product of its query's and product's vectors, times ``scale``."""

    scale = 1.0

    def pair_vectors(self, batch: Batch) -> Tensor:
        """Compute the summands of the dot product, (N, D)."""
        # index_select and not [...]: on several CPU threads, the gradient of [...] is summed in any order.
        queries = self.all_queries(batch).index_select(0, batch.pair_queries)
        return queries * self.all_products(batch).index_select(0, batch.pair_products)

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """Sum and scale each pair's vector, (N, D) -> (N,)."""
        return self.scale * vectors.sum(dim=1)

    def compare(self, queries: Tensor, products: Tensor) -> Tensor:
        """Multiply every query's vector (Q, D) with every product's (P, D), (Q, P)."""
        with in_float32(queries):
            return self.scale * queries @ products.T

    def word_scores(self, batch: Batch) -> Tensor:
        """Multiply each word's numbers of query and product; a word that stands twice counts by half each time."""
        if not self.word_major:
            return super().word_scores(batch)
        weights, products = self.encode_queries(batch), self.encode_products(batch)
        times = torch.zeros_like(weights).scatter_add_(1, batch.word_ids, (~batch.word_mask).to(weights))
        shares = (weights / times.clamp(min=1)).gather(1, batch.word_ids).masked_fill(batch.word_mask, 0)  # (Q, W)
        words = batch.word_ids.index_select(0, batch.pair_queries)  # (N, W)
        of_words = products.index_select(0, batch.pair_products).gather(1, words)
        return self.scale * shares.index_select(0, batch.pair_queries) * of_words


class ConcatRanker(TowerRanker):
    """Score a pair by an MLP, ``head``, on the vectors of ``query_encoder`` and ``image_encoder`` side by side."""

    query_encoder: nn.Module
    image_encoder: nn.Module
    head: ConcatMlp

    @property
    def numbers_of_a_pair(self) -> int:
        """The width of the head's first hidden layer."""
        return self.head.query_part.out_features

    def encode_queries(self, batch: Batch) -> Tensor:
        """Encode the batch's queries, (Q, Dq)."""
        return self.query_encoder(batch)

    def encode_products(self, batch: Batch) -> Tensor:
        """Encode the batch's products, (P, Dp)."""
        return self.image_encoder(batch)

    def pair_vectors(self, batch: Batch) -> Tensor:
        """Compute the head's last hidden layer, (N, D)."""
        queries, products = self.all_queries(batch), self.all_products(batch)
        return self.head(queries, products, batch.pair_queries, batch.pair_products)

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """Score pairs by the head's last layer, (N, D) -> (N,)."""
        return self.head.score(vectors)

    def compare(self, queries: Tensor, products: Tensor) -> Tensor:
        """Score every query's vector (Q, Dq) with every product's (P, Dp) by the head, (Q, P)."""
        return self.head.score_all(queries, products)
