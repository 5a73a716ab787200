"""Rankers whose score is a weighted sum of the scores of the query's words."""

import torch
from torch import Tensor

from multimodal_recall.data.batch import Batch
from multimodal_recall.models.indexable import DotRanker


class WordSum(DotRanker):
    """Sum the scores of the query's words, in which frequent words weigh more.

    A subclass scores every word for a product with ``encode_products``, (P, words), and fills ``counts``.
    """

    word_major = True

    def __init__(self, frequency_power: float, words: int) -> None:
        super().__init__()
        self.power, self.words = frequency_power, words
        self.register_buffer("counts", torch.zeros(words))

    def encode_queries(self, batch: Batch) -> Tensor:
        """Weigh every word, (Q, words): 0 for words outside the query."""
        share = (self.counts + 1) / (self.counts.sum() + 1)
        return self.contained(batch) * share**self.power

    def pair_vectors(self, batch: Batch) -> Tensor:
        """Compute the score itself, (N, 1): the summands are as many as there are words."""
        return super().pair_vectors(batch).sum(dim=1, keepdim=True)

    def contained(self, batch: Batch) -> Tensor:
        """Mark the query's words, (Q, words): 1, else 0."""
        contained = torch.zeros(len(batch.word_ids), self.words, device=batch.word_ids.device)
        return contained.scatter_add_(1, batch.word_ids, (~batch.word_mask).float()).clamp(max=1)
