"""MCAN (first place, about 0.71 on valid alone): text layers, and box layers that the text guides."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from multimodal_recall.config.systems import McanOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.attention import AttentionPooling, GuidedAttentionLayer, SelfAttentionLayer
from multimodal_recall.models.layers.padding import Padding
from multimodal_recall.models.layers.tokens import TokenEmbeddings, check_fit
from multimodal_recall.models.layers.towers import FULL_POSITION
from multimodal_recall.models.precision import ScoreLayer
from multimodal_recall.models.ranker import InputSizes, Ranker

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Mcan(Ranker):
    """Read text and boxes by deep modular co-attention (encoder-decoder, Yu et al., CVPR 2019), on RoBERTa embeddings.

    The text layers see no box, so they run once a query; the box layers run once a pair. The score is the logit of a
    pair being right.
    """

    def __init__(self, options: McanOptions, sizes: InputSizes) -> None:
        super().__init__()
        width, dropout = options.width, options.dropout
        self.tokens = TokenEmbeddings(sizes.tokens, options.max_tokens, width)
        self.dropout = nn.Dropout(dropout)
        self.token_layer = nn.Linear(width, width)
        self.labels = nn.Embedding(sizes.labels, options.label_state)
        inputs = sizes.box_feature + FULL_POSITION + options.label_state
        self.box_layer = _mlp(inputs, options.box_state, width, dropout)
        layer = (width, options.heads, options.feed_forward, dropout, nn.Sequential(nn.ReLU(), nn.Dropout(dropout)))
        self.text_layers = nn.ModuleList(SelfAttentionLayer(*layer) for _ in range(options.layers))
        self.box_layers = nn.ModuleList(GuidedAttentionLayer(*layer) for _ in range(options.layers))
        pooling = (width, options.pooling_state, options.pooled, dropout)
        self.text_pooling, self.box_pooling = AttentionPooling(*pooling), AttentionPooling(*pooling)
        self.head = _mlp(4 * options.pooled, options.head_state, 1, dropout, ScoreLayer)

    def start_from_text_model(self, text_model: "PreTrainedModel") -> None:
        """Copy the embedding layer of a RoBERTa or BERT."""
        width = self.tokens.words.embedding_dim
        check_fit(text_model, ("roberta", "bert"), {"width": (width, "hidden_size")})
        self.tokens.start_from(text_model)

    def pair_vectors(self, batch: Batch) -> Tensor:
        """Concatenate text, image, their product and the absolute difference, (N, 4 * pooled)."""
        text_padding = Padding(batch.token_mask)
        words = self._words(batch, text_padding)
        boxes, box_padding = self._boxes_of_pairs(batch)
        for layer in self.box_layers:
            boxes = layer(boxes, box_padding, words, text_padding, batch.pair_queries)
        text = self.text_pooling(words, text_padding).index_select(0, batch.pair_queries)
        image = self.box_pooling(boxes, box_padding)
        return torch.cat([text, image, text * image, (text - image).abs()], dim=1)

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """Score pairs by the head, (N, 4 * pooled) -> (N,)."""
        return self.head(vectors).squeeze(1)

    def _words(self, batch: Batch, padding: Padding) -> Tensor:
        """Run all text layers on the queries' tokens, (tokens, width)."""
        words = self.token_layer(self.dropout(padding.remove(self.tokens(batch.token_ids))))
        for layer in self.text_layers:
            words = layer(words, padding)
        return words

    def _boxes_of_pairs(self, batch: Batch) -> tuple[Tensor, Padding]:
        """Embed the boxes once a product, and repeat them for each pair, (boxes, width)."""
        padding = Padding(batch.box_mask)
        features, labels = padding.remove(batch.box_features).float(), self.labels(padding.remove(batch.box_labels))
        boxes = self.box_layer(torch.cat([features, padding.remove(batch.box_positions), labels], dim=1))
        of_pairs = Padding(batch.box_mask.index_select(0, batch.pair_products))
        return of_pairs.remove(padding.put_back(boxes).index_select(0, batch.pair_products)), of_pairs


def _mlp(inputs: int, state: int, outputs: int, dropout: float, last: type[nn.Linear] = nn.Linear) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, state), nn.ReLU(), nn.Dropout(dropout), last(state, outputs))


build = Mcan
