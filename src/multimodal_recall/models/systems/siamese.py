"""The twelfth place: a light BERT on tokens and a light BERT on boxes, compared by their vectors' dot product."""

from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedModel

from multimodal_recall.config.systems import SiameseOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.indexable import DotRanker
from multimodal_recall.models.layers.padding import Padding
from multimodal_recall.models.layers.pooling import GeneralisedPooling
from multimodal_recall.models.layers.tokens import check_fit
from multimodal_recall.models.ranker import InputSizes
from multimodal_recall.models.weights import take_weights

WORDS = "embeddings.word_embeddings.weight"


class Siamese(DotRanker):
    """Score a pair by the dot product of BERT's pooled outputs: a linear layer and tanh on the first token, and box.

    Boxes have neither position nor label. The image BERT's tables of words and of positions have one row each: the word
    is not read, the position is added to every box alike. With the pooling ``gpo``, generalised pooling of all tokens,
    and of all boxes, takes the place of the first.
    """

    def __init__(self, options: SiameseOptions, sizes: InputSizes) -> None:
        super().__init__()
        self.text = BertModel(_config(options, vocab_size=sizes.tokens))
        self.first = nn.Linear(sizes.box_feature, options.state)
        self.image = BertModel(_config(options, vocab_size=1, max_position_embeddings=1))
        self.token_pooling, self.box_pooling = (
            GeneralisedPooling() if options.pooling == "gpo" else None for _ in range(2)
        )

    def start_from_text_model(self, text_model: PreTrainedModel) -> None:
        """Copy the embeddings, the first layers and the pooling of a BERT, which may have more layers.

        Raises:
            ValueError: If the text model is no BERT or has other sizes.
        """
        own = self.text.config
        sizes = {"state": (own.hidden_size, "hidden_size"), "heads": (own.num_attention_heads, "num_attention_heads")}
        check_fit(text_model, ("bert",), sizes)
        wanted = self.text.state_dict().keys()
        weights = {name: weight for name, weight in text_model.state_dict().items() if name in wanted}
        weights[WORDS] = weights[WORDS][: own.vocab_size]  # a model may have more rows than its tokenizer has tokens
        take_weights(self.text, weights)

    def encode_queries(self, batch: Batch) -> Tensor:
        """Encode the queries' tokens, (Q, state)."""
        states = self.text(batch.token_ids, attention_mask=~batch.token_mask)[0]
        return self.text.pooler(_first(states, batch.token_mask, self.token_pooling))

    def encode_products(self, batch: Batch) -> Tensor:
        """Encode the products' boxes, (P, state)."""
        boxes = self.first(batch.box_features.float())
        positions = batch.box_labels.new_zeros(1, boxes.shape[1])
        states = self.image(inputs_embeds=boxes, attention_mask=~batch.box_mask, position_ids=positions)[0]
        return self.image.pooler(_first(states, batch.box_mask, self.box_pooling))


def _first(states: Tensor, mask: Tensor, pooling: GeneralisedPooling | None) -> Tensor:
    """Give states of which BERT's pooling layer reads the first: as they are (S, L, state), or pooled (S, 1, state)."""
    padding = Padding(mask)
    return states if pooling is None else pooling(padding.remove(states), padding).unsqueeze(1)


def _config(options: SiameseOptions, **sizes: int) -> BertConfig:
    return BertConfig(
        hidden_size=options.state,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        intermediate_size=4 * options.state,
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
        pad_token_id=None,  # else the vector of token 0 would stay zero
        **sizes,
    )


build = Siamese
