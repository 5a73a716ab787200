"""Rankers that score each word of a query against an image's heads."""

import torch
from torch import Tensor
from torch.nn import functional

from multimodal_recall.config.systems import ImageHeadsOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.image_heads import HeadWords, ImageHeads
from multimodal_recall.models.precision import MASKED_SCORE, in_float32
from multimodal_recall.models.ranker import InputSizes, Ranker


class WordMatching(Ranker):
    """Score a pair by the weighted mean of its words' scores; a word's score is its best dot product with a tag head.

    A subclass gives the weight of each word. Differs from the publication: stop words are scored too.
    """

    sums_words = True

    def __init__(self, options: ImageHeadsOptions, sizes: InputSizes) -> None:
        super().__init__()
        self.image_encoder = ImageHeads(sizes.box_feature, options)
        self.words = HeadWords(sizes.words, sizes.word_vector, options.head_size)

    def pair_logits(self, batch: Batch, heads: Tensor) -> Tensor:
        """Weigh the words of each pair's query by logits, (N, W); a softmax over the words follows."""
        raise NotImplementedError

    def all_logits(self, batch: Batch, heads: Tensor) -> Tensor:
        """Weigh the words of every query for every product by logits, (Q, W, P)."""
        raise NotImplementedError

    def pair_vectors(self, batch: Batch) -> Tensor:
        """Average word vector times best head over the words, component by component, (N, head_size)."""
        heads = self.image_encoder(batch)
        words, word_rows, similarities = self._compare_words(batch, heads)
        queries, products = batch.pair_queries, batch.pair_products
        word_rows = word_rows.index_select(0, queries)  # (N, W)
        weights = self.pair_logits(batch, heads).masked_fill(batch.word_mask.index_select(0, queries), MASKED_SCORE)
        best = similarities.argmax(dim=2)[word_rows, products.unsqueeze(1)]
        weights = weights.softmax(dim=1).unsqueeze(2) * functional.one_hot(best, similarities.shape[2])  # (N, W, H)
        words = words.index_select(0, word_rows.flatten()).unflatten(0, word_rows.shape)  # (N, W, D)
        with in_float32(words):
            return (torch.bmm(weights.mT, words) * heads[:, 1:].index_select(0, products)).sum(dim=1)

    def word_scores(self, batch: Batch) -> Tensor:
        """Weigh each word's best dot product with a head, (N, W)."""
        heads = self.image_encoder(batch)
        _, word_rows, similarities = self._compare_words(batch, heads)
        mask = batch.word_mask.index_select(0, batch.pair_queries)
        weights = self.pair_logits(batch, heads).masked_fill(mask, MASKED_SCORE).softmax(dim=1)
        rows, products = word_rows.index_select(0, batch.pair_queries), batch.pair_products.unsqueeze(1)
        return weights * similarities.amax(dim=2)[rows, products]

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """Sum each pair's vector, (N, head_size) -> (N,)."""
        return vectors.sum(dim=1)

    def score_all(self, batch: Batch) -> Tensor:
        """Score every query with every product, (Q, P)."""
        heads = self.encode_rows(lambda rows: self.image_encoder(batch.take_products(rows)), len(batch.box_mask))
        _, word_rows, similarities = self._compare_words(batch, heads)
        scores = similarities.amax(dim=2).index_select(0, word_rows.flatten()).unflatten(0, word_rows.shape)
        weights = self.all_logits(batch, heads).masked_fill(batch.word_mask.unsqueeze(2), MASKED_SCORE).softmax(dim=1)
        return (weights * scores).sum(dim=1)  # both (Q, W, P)

    def _compare_words(self, batch: Batch, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of the U distinct words (U, D), rows of each query's words (Q, W), dot products (U, P, H)."""
        words, word_rows = batch.word_ids.unique(return_inverse=True)
        words, tags = self.words(words), heads[:, 1:]
        with in_float32(words):
            return words, word_rows, (words @ tags.flatten(0, 1).T).unflatten(1, tags.shape[:2])
