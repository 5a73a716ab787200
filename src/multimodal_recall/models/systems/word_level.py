"""The tenth place's word-level model (valid 0.729): words scored against image heads, weighed by query and image."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from multimodal_recall.config.systems import WordLevelOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.padding import Padding
from multimodal_recall.models.layers.recurrent import PaddedGru
from multimodal_recall.models.ranker import InputSizes
from multimodal_recall.models.word_matching import WordMatching

# Numbers of the hidden layer (words, products, weight_state) in memory; all are computed again for the gradient.
NUMBERS_AT_ONCE = 1 << 24


class WordLevel(WordMatching):
    """Weigh words by a softmax of an MLP on [the word's BiGRU state, the sentence's image head].

    The MLP's first layer is split, as in ``ConcatMlp``. The publication adds a hinge on a mined wrong image and a mined
    wrong query of each pair, and a hinge on the hardest in the batch. Here, ``in_batch_hinge`` takes the hardest image
    of the batch, mined images included, and the hardest query. With ``batches: same_last_word``, the batch's queries
    resemble mined queries.
    """

    def __init__(self, options: WordLevelOptions, sizes: InputSizes) -> None:
        super().__init__(options.image_encoder, sizes)
        self.word_norm = nn.LayerNorm(sizes.word_vector)
        self.word_states = PaddedGru(sizes.word_vector, options.word_state)
        self.word_part = nn.Linear(options.word_state, options.weight_state)
        self.image_part = nn.Linear(options.image_encoder.head_size, options.weight_state, bias=False)
        self.weight = nn.Sequential(nn.PReLU(), nn.Linear(options.weight_state, 1))

    def pair_logits(self, batch: Batch, heads: Tensor) -> Tensor:
        """Weigh the words of each pair's query by the pair's image, (N, W)."""
        words = self._word_parts(batch).index_select(0, batch.pair_queries)
        images = self.image_part(heads[:, 0]).index_select(0, batch.pair_products)
        return self.weight(words + images.unsqueeze(1)).squeeze(2).float()

    def all_logits(self, batch: Batch, heads: Tensor) -> Tensor:
        """Weigh the words of every query by every image, (Q, W, P), zero on padding."""
        padding, images = Padding(batch.word_mask), self.image_part(heads[:, 0])
        parts = padding.remove(self._word_parts(batch)).split(max(1, NUMBERS_AT_ONCE // images.numel()))
        logits = torch.cat([checkpoint(self._compare, part, images, use_reentrant=False) for part in parts])
        return padding.put_back(logits)

    def _word_parts(self, batch: Batch) -> Tensor:
        """(Q, W, weight_state)."""
        vectors = self.word_norm(self.words.word_vectors(batch.word_ids))
        return self.word_part(self.word_states(vectors, batch.word_mask)[0])

    def _compare(self, words: Tensor, images: Tensor) -> Tensor:
        """(words, P) of every word with every image."""
        return self.weight(words.unsqueeze(1) + images).squeeze(2).float()


build = WordLevel
