"""Query likelihood: the probability of the query's words, given the product's largest box.

Each word is a tag. The image gives a distribution over all words, a softmax as in the tenth place's tag pre-training.
A query scores by the log-probability of its words: the query-likelihood model of Ponte and Croft, SIGIR 1998, with
images for documents. The system has no published score; it suits small data and trains in seconds.
"""

from torch import Tensor, nn

from multimodal_recall.config.baselines import QueryLikelihoodOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.largest_box import LargestBox
from multimodal_recall.models.precision import ScoreLayer
from multimodal_recall.models.ranker import InputSizes
from multimodal_recall.models.word_sum import WordSum


class QueryLikelihood(WordSum):
    """Sum the log-probabilities of the query's words, in which frequent words weigh more."""

    def __init__(self, options: QueryLikelihoodOptions, sizes: InputSizes) -> None:
        super().__init__(options.frequency_power, sizes.words)
        self.product = LargestBox(sizes.box_feature)
        hidden = options.hidden or sizes.box_feature
        self.layers = nn.Sequential(nn.Dropout(options.feature_dropout))
        if options.hidden is not None:
            self.layers.extend([nn.Linear(sizes.box_feature, hidden), nn.ReLU(), nn.Dropout(options.hidden_dropout)])
        self.tags = ScoreLayer(hidden, sizes.words)
        nn.init.normal_(self.tags.weight, std=0.01)
        nn.init.zeros_(self.tags.bias)

    def encode_products(self, batch: Batch) -> Tensor:
        """Compute the log-probability of every word, (P, words)."""
        return self.tags(self.layers(self.product(batch))).log_softmax(dim=1)

    def observe(self, batch: Batch) -> None:
        """Count the queries that contain each word, and update the mean over the products."""
        self.counts += self.contained(batch).sum(dim=0)
        self.product.observe(batch)


build = QueryLikelihood
