"""Rankers that score each word of a query against an image's heads."""

import torch
from torch import Tensor
from torch.nn import functional

from multimodal_recall.config.systems import ImageHeadsOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.data_parallel import encode_shares
from multimodal_recall.models.layers.image_heads import HeadWords, ImageHeads
from multimodal_recall.models.precision import MASKED_SCORE, in_float32
from multimodal_recall.models.ranker import InputSizes, Ranker


class WordMatching(Ranker):
    """Each word of a query scores the best of its products with the tag heads; the pair's score is their weighted mean.

    A subclass says how much each word counts. Differs from the publication: stop words are scored too.
    """

    def __init__(self, options: ImageHeadsOptions, sizes: InputSizes) -> None:
        super().__init__()
        self.image_encoder = ImageHeads(sizes.box_feature, options)
        self.words = HeadWords(sizes.words, sizes.word_vector, options.head_size)

    def pair_logits(self, batch: Batch, heads: Tensor) -> Tensor:
        """How much the words of each pair's query count, before a softmax over the words: (N, W)."""
        raise NotImplementedError

    def all_logits(self, batch: Batch, heads: Tensor) -> Tensor:
        """The same for every query with every product: (Q, W, P)."""
        raise NotImplementedError

    def pair_vectors(self, batch: Batch) -> Tensor:
        """(N, head_size): the weighted mean over words of word vector times best head, number by number."""
        heads = self.image_encoder(batch)
        words, which, similar = self._similar(batch, heads)
        queries, products = batch.pair_queries, batch.pair_products
        which = which.index_select(0, queries)  # (N, W)
        weights = self.pair_logits(batch, heads).masked_fill(batch.word_mask.index_select(0, queries), MASKED_SCORE)
        best = functional.one_hot(similar.argmax(dim=2)[which, products.unsqueeze(1)], similar.shape[2])
        shares = weights.softmax(dim=1).unsqueeze(2) * best  # (N, W, H)
        words = words.index_select(0, which.flatten()).unflatten(0, which.shape)  # (N, W, D)
        with in_float32(words):
            return (torch.bmm(shares.mT, words) * heads[:, 1:].index_select(0, products)).sum(dim=1)

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """(N, head_size) -> (N,): the sum."""
        return vectors.sum(dim=1)

    def score_all(self, batch: Batch) -> Tensor:
        """(Q, P)."""
        heads = self._all_heads(batch)
        _, which, similar = self._similar(batch, heads)
        scores = similar.amax(dim=2).index_select(0, which.flatten()).unflatten(0, which.shape)  # (Q, W, P)
        weights = self.all_logits(batch, heads).masked_fill(batch.word_mask.unsqueeze(2), MASKED_SCORE).softmax(dim=1)
        return (weights * scores).sum(dim=1)

    def _all_heads(self, batch: Batch) -> Tensor:
        """(P, 1 + tag_heads, head_size) of a batch that every training process holds whole."""
        if not self.training:
            return self.image_encoder(batch)
        return encode_shares(lambda rows: self.image_encoder(batch.take_products(rows)), len(batch.box_mask))

    def _similar(self, batch: Batch, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of the U distinct words (U, D), which each of a query's is (Q, W), and their products (U, P, H)."""
        words, which = batch.word_ids.unique(return_inverse=True)
        words, tags = self.words(words), heads[:, 1:]
        with in_float32(words):
            return words, which, (words @ tags.flatten(0, 1).T).unflatten(1, tags.shape[:2])
