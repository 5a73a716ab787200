"""The tenth place's sentence-level model (valid 0.709): a GRU that starts from the image reads the query."""

from torch import Tensor, nn

from multimodal_recall.config.systems import SentenceLevelOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.image_heads import ImageHeads
from multimodal_recall.models.layers.recurrent import PaddedGru
from multimodal_recall.models.layers.towers import WordVectors
from multimodal_recall.models.precision import ScoreLayer
from multimodal_recall.models.ranker import InputSizes, Ranker


class SentenceLevel(Ranker):
    """Read the words with a two-layer BiGRU whose first states are all the sentence's image head.

    Differs from the publication: stop words are read too.
    """

    def __init__(self, options: SentenceLevelOptions, sizes: InputSizes) -> None:
        super().__init__()
        size = options.image_encoder.head_size
        self.image_encoder = ImageHeads(sizes.box_feature, options.image_encoder)
        self.word_vectors = WordVectors(sizes.words, sizes.word_vector)
        self.word_norm = nn.LayerNorm(sizes.word_vector)
        self.sentence = PaddedGru(sizes.word_vector, 2 * size, layers=2, dropout=options.dropout)
        self.last = ScoreLayer(size, 1)

    def pair_vectors(self, batch: Batch) -> Tensor:
        """Average the second layer's last states of both directions, (N, head_size)."""
        images = self.image_encoder(batch)[:, 0].index_select(0, batch.pair_products)
        words = self.word_norm(self.word_vectors(batch.word_ids)).index_select(0, batch.pair_queries)
        _, last = self.sentence(words, batch.word_mask.index_select(0, batch.pair_queries), images)
        return last[-2:].mean(dim=0)

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """Score pairs by a linear layer, (N, head_size) -> (N,)."""
        return self.last(vectors).squeeze(1)


build = SentenceLevel
