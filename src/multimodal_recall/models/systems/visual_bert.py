"""VisualBERT (first place, about 0.69 on valid alone): words and boxes in one BERT."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from multimodal_recall.config.systems import VisualBertOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.attention import Padding, SelfAttentionLayer
from multimodal_recall.models.layers.tokens import TokenEmbeddings, check_kind, take_weights
from multimodal_recall.models.layers.towers import FULL_POSITION
from multimodal_recall.models.precision import ScoreLayer
from multimodal_recall.models.ranker import InputSizes, Ranker

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EPS = 1e-12
"""Of BERT's norms."""
BERT_NAMES = {
    "attention.self.": "attention.",
    "attention.output.dense.": "attention.out.",
    "attention.output.LayerNorm.": "attention.norm.",
    "intermediate.dense.": "feed_forward.layers.0.",
    "output.dense.": "feed_forward.layers.2.",
    "output.LayerNorm.": "feed_forward.norm.",
}
"""What begins a weight's name in a layer of transformers' BERT, and in one of ours."""


class VisualBert(Ranker):
    """The query's tokens, then the product's boxes, through one BERT (Li et al. 2019); an MLP on its first state.

    Boxes are of token type 1 and all stand in place 0; both are in the bias of the layer that projects them. The same
    function as ``transformers.VisualBertModel``, which runs its layers on padding too. The score is the logit of a pair
    being right.
    """

    def __init__(self, options: VisualBertOptions, sizes: InputSizes) -> None:
        super().__init__()
        width, dropout = options.width, options.dropout
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
        """Take a BERT's embeddings and layers; what begins as a box's bias are its token type 1 and place 0."""
        check_kind(text_model, ("bert",))
        self.tokens.start_from(text_model)
        take_weights(self.layers, {_our_name(name): own for name, own in text_model.encoder.layer.state_dict().items()})
        embeddings = text_model.embeddings
        with torch.no_grad():
            bias = embeddings.token_type_embeddings.weight[1] + embeddings.position_embeddings.weight[0]
            self.box_layer.bias.copy_(bias)

    def pair_vectors(self, batch: Batch) -> Tensor:
        """(N, width): the state of each pair's first token, [CLS]."""
        words = self.tokens(batch.token_ids).index_select(0, batch.pair_queries)
        boxes = self._boxes(batch).index_select(0, batch.pair_products)
        masks = (
            batch.token_mask.index_select(0, batch.pair_queries),
            batch.box_mask.index_select(0, batch.pair_products),
        )
        padding = Padding(torch.cat(masks, dim=1))
        entries = self.dropout(padding.remove(torch.cat([words, boxes], dim=1)))
        for layer in self.layers:
            entries = layer(entries, padding)
        return padding.put_back(entries)[:, 0]

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """(N, width) -> (N,)."""
        return self.head(vectors).squeeze(1)

    def _boxes(self, batch: Batch) -> Tensor:
        """The boxes of each product, embedded (P, B, width)."""
        padding = Padding(batch.box_mask)
        boxes = torch.cat([padding.remove(batch.box_features).float(), padding.remove(batch.box_positions)], dim=1)
        return padding.put_back(self.tokens.norm(self.box_layer(boxes)))


def _our_name(name: str) -> str:
    """``3.attention.self.query.weight`` to ``3.attention.query.weight``."""
    layer, _, rest = name.partition(".")
    begins = next((begins for begins in BERT_NAMES if rest.startswith(begins)), "")
    return f"{layer}.{BERT_NAMES.get(begins, '')}{rest.removeprefix(begins)}"


build = VisualBert
