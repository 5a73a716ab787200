"""A bag of words and the largest box in one space, compared by cosine: the smallest contrastive two-tower.

No published system, but a baseline for each of them: with the loss ``in_batch_softmax``, it trains in seconds.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from multimodal_recall.config.baselines import BagOfWordsOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.indexable import DotRanker
from multimodal_recall.models.layers.largest_box import LargestBox
from multimodal_recall.models.precision import in_float32
from multimodal_recall.models.ranker import InputSizes


class BagOfWords(DotRanker):
    """Compare the sum of trained word vectors with an MLP on the product, both of length 1."""

    sums_words = True

    def __init__(self, options: BagOfWordsOptions, sizes: InputSizes) -> None:
        super().__init__()
        self.scale, self.tag_weight = options.scale, options.tag_weight
        self.words = nn.Embedding(sizes.words, options.size)
        nn.init.normal_(self.words.weight, std=0.05)
        self.tag_bias = nn.Parameter(torch.zeros(sizes.words))
        self.product = LargestBox(sizes.box_feature)
        self.layers = nn.Sequential(
            nn.Dropout(options.feature_dropout),
            nn.Linear(sizes.box_feature, options.hidden),
            nn.ReLU(),
            nn.Dropout(options.hidden_dropout),
            nn.Linear(options.hidden, options.size),
        )

    def encode_queries(self, batch: Batch) -> Tensor:
        """Sum the query's word vectors, each of length 1, into (Q, size) of length 1."""
        return functional.normalize(self._word_vectors(batch).sum(dim=1), dim=1)

    def encode_products(self, batch: Batch) -> Tensor:
        """Encode the products, (P, size) of length 1."""
        return functional.normalize(self.layers(self.product(batch)).float(), dim=1)

    def word_scores(self, batch: Batch) -> Tensor:
        """Multiply each word's share of its query's vector with the product's vector, (N, W)."""
        words = self._word_vectors(batch)
        shares = words / words.sum(dim=1, keepdim=True).norm(dim=2, keepdim=True).clamp(min=1e-12)
        products = self.encode_products(batch).index_select(0, batch.pair_products)
        return self.scale * (shares.index_select(0, batch.pair_queries) * products.unsqueeze(1)).sum(dim=2)

    def observe(self, batch: Batch) -> None:
        """Update the mean over the products."""
        self.product.observe(batch)

    def _word_vectors(self, batch: Batch) -> Tensor:
        """(Q, W, size): of length 1, zero on padding."""
        words = functional.normalize(self.words(batch.word_ids).float(), dim=2)
        return words.masked_fill(batch.word_mask.unsqueeze(2), 0)

    def extra_loss(self, batch: Batch) -> Tensor:
        """Compute the cross-entropy of the right queries' words as tags; a tag's logit is its cosine plus a bias."""
        vectors = functional.normalize(self.words.weight.float(), dim=1)
        products = self.all_products(batch)
        with in_float32(products):
            tags = self.scale * products @ vectors.T + self.tag_bias
        right = batch.relevance == 1
        log_p = tags.log_softmax(dim=1).index_select(0, batch.pair_products[right])  # (right pairs, words)
        words, mask = (part.index_select(0, batch.pair_queries[right]) for part in (batch.word_ids, batch.word_mask))
        return -self.tag_weight * log_p.gather(1, words).masked_fill(mask, 0).sum() / (~mask).sum()


build = BagOfWords
