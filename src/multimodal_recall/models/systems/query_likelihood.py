"""Query likelihood: how probable the query's words are, given the product's largest box.

Each word is a tag. The image gives a distribution over all words, a softmax as in the tenth place's tag pre-training,
and a query scores by the log-probability of its words (the query-likelihood model of Ponte and Croft, SIGIR 1998, with
images for documents). It has no published score; it is the first thing to try on small data, and trains in seconds.
"""

import torch
from torch import Tensor, nn

from multimodal_recall.config.systems import QueryLikelihoodOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.largest_box import LargestBox
from multimodal_recall.models.precision import ScoreLayer, in_float32
from multimodal_recall.models.ranker import InputSizes, TowerRanker


class QueryLikelihood(TowerRanker):
    """Sum of the log-probabilities of the query's words, frequent words weighing more."""

    def __init__(self, options: QueryLikelihoodOptions, sizes: InputSizes) -> None:
        super().__init__()
        self.power, self.words = options.frequency_power, sizes.words
        self.register_buffer("counts", torch.zeros(sizes.words))
        self.product = LargestBox(sizes.box_feature)
        hidden = options.hidden or sizes.box_feature
        self.layers = nn.Sequential(nn.Dropout(options.feature_dropout))
        if options.hidden is not None:
            self.layers.extend([nn.Linear(sizes.box_feature, hidden), nn.ReLU(), nn.Dropout(options.hidden_dropout)])
        self.tags = ScoreLayer(hidden, sizes.words)
        nn.init.normal_(self.tags.weight, std=0.01)
        nn.init.zeros_(self.tags.bias)

    def encode_products(self, batch: Batch) -> Tensor:
        """Log-probability of every word, (P, words)."""
        return self.tags(self.layers(self.product(batch))).log_softmax(dim=1)

    def encode_queries(self, batch: Batch) -> Tensor:
        """Weight of every word in the query, (Q, words): 0 for those that it does not hold."""
        share = (self.counts + 1) / (self.counts.sum() + 1)
        return self._held(batch) * share**self.power

    def observe(self, batch: Batch) -> None:
        """Count the queries that hold each word, and take the products into their mean."""
        self.counts += self._held(batch).sum(dim=0)
        self.product.observe(batch)

    def score_all(self, batch: Batch) -> Tensor:
        """(Q, P)."""
        queries, products = self.all_queries(batch), self.all_products(batch)
        with in_float32(queries):
            return queries @ products.T

    def pair_vectors(self, batch: Batch) -> Tensor:
        """(N, 1): the score itself."""
        queries = self.all_queries(batch).index_select(0, batch.pair_queries)
        products = self.all_products(batch).index_select(0, batch.pair_products)
        return (queries * products).sum(dim=1, keepdim=True)

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """(N, 1) -> (N,)."""
        return vectors[:, 0]

    def _held(self, batch: Batch) -> Tensor:
        """(Q, words): 1 where the query holds the word."""
        held = torch.zeros(len(batch.word_ids), self.words, device=batch.word_ids.device)
        return held.scatter_add_(1, batch.word_ids, (~batch.word_mask).float()).clamp(max=1)


build = QueryLikelihood
