"""VisualBERT (first place, about 0.69 on valid alone): words and boxes in one BERT."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from multimodal_recall.config.systems import VisualBertOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.attention import SelfAttentionLayer
from multimodal_recall.models.layers.padding import Padding
from multimodal_recall.models.layers.tokens import TokenEmbeddings, check_fit
from multimodal_recall.models.layers.towers import FULL_POSITION
from multimodal_recall.models.precision import ScoreLayer
from multimodal_recall.models.ranker import InputSizes, Ranker
from multimodal_recall.models.weights import take_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EPS = 1e-12  # epsilon of BERT's norms
BERT_NAMES = {
    "attention.self.": "attention.",
    "attention.output.dense.": "attention.out.",
    "attention.output.LayerNorm.": "attention.norm.",
    "intermediate.dense.": "feed_forward.layers.0.",
    "output.dense.": "feed_forward.layers.2.",
    "output.LayerNorm.": "feed_forward.norm.",
}
"""Prefix of a weight's name in a layer of transformers' BERT, and in ``SelfAttentionLayer``."""
BERT_SIZES = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
}
"""Option of each size that a BERT decides, and its name in transformers' configuration."""


class VisualBert(Ranker):
    """Read the query's tokens, then the product's boxes, with one BERT (Li et al. 2019); an MLP on its first state.

    Boxes have token type 1 and position 0, both contained in the bias of the layer that projects the boxes. The result
    equals ``transformers.VisualBertModel``, which runs its layers on padding too. The score is the logit of a pair
    being right.
    """

    def __init__(self, options: VisualBertOptions, sizes: InputSizes) -> None:
        super().__init__()
        width, dropout = options.width, options.dropout
        self.sizes = {option: (getattr(options, option), size) for option, size in BERT_SIZES.items()}
        self.tokens = TokenEmbeddings(sizes.tokens, options.max_tokens, width, EPS)
        self.box_layer = nn.Linear(sizes.box_feature + FULL_POSITION, width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            SelfAttentionLayer(width, options.heads, options.feed_forward, dropout, nn.GELU(), EPS)
            for _ in range(options.layers)
        )
        self.head = nn.Sequential(
            nn.Linear(width, options.head_state), nn.ReLU(), nn.Dropout(dropout), ScoreLayer(options.head_state, 1)
        )

    def start_from_text_model(self, text_model: "PreTrainedModel") -> None:
        """Copy a BERT's embeddings and layers; the boxes' bias starts as token type 1 plus position 0."""
        check_fit(text_model, ("bert",), self.sizes)
        self.tokens.start_from(text_model)
        layers = text_model.encoder.layer.state_dict()
        take_weights(self.layers, {_our_name(name): weight for name, weight in layers.items()})
        embeddings = text_model.embeddings
        with torch.no_grad():
            bias = embeddings.token_type_embeddings.weight[1] + embeddings.position_embeddings.weight[0]
            self.box_layer.bias.copy_(bias)

    def pair_vectors(self, batch: Batch) -> Tensor:
        """Compute the last state of each pair's first token, [CLS], (N, width)."""
        queries, products = batch.pair_queries, batch.pair_products
        words = self.tokens(batch.token_ids).index_select(0, queries)
        boxes = self._boxes(batch).index_select(0, products)
        masks = batch.token_mask.index_select(0, queries), batch.box_mask.index_select(0, products)
        padding = Padding(torch.cat(masks, dim=1))
        entries = self.dropout(padding.remove(torch.cat([words, boxes], dim=1)))
        for layer in self.layers:
            entries = layer(entries, padding)
        return padding.put_back(entries)[:, 0]

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """Score pairs by the head, (N, width) -> (N,)."""
        return self.head(vectors).squeeze(1)

    def _boxes(self, batch: Batch) -> Tensor:
        """Embed the boxes of each product, (P, B, width)."""
        padding = Padding(batch.box_mask)
        boxes = torch.cat([padding.remove(batch.box_features).float(), padding.remove(batch.box_positions)], dim=1)
        return padding.put_back(self.tokens.norm(self.box_layer(boxes)))


def _our_name(name: str) -> str:
    """Translate ``3.attention.self.query.weight`` into ``3.attention.query.weight``."""
    layer, _, weight = name.partition(".")
    prefix = next((prefix for prefix in BERT_NAMES if weight.startswith(prefix)), "")
    return f"{layer}.{BERT_NAMES.get(prefix, '')}{weight.removeprefix(prefix)}"


build = VisualBert
