"""The query's tokens, embedded as in a text model, from whose trained weights they can start."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from multimodal_recall.models.weights import take_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TokenEmbeddings(nn.Module):
    """Sum and normalise the word and position embedding of each token, as BERT and RoBERTa do.

    transformers' own layer is not used: RoBERTa's takes the token with the number of its padding for padding, and never
    trains it. The position embeddings contain the embedding of token type 0, which is added to every token.
    """

    def __init__(self, tokens: int, max_tokens: int, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.words = nn.Embedding(tokens, width)
        self.places = nn.Embedding(max_tokens, width)
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Embed tokens, (Q, T) -> (Q, T, width), T at most ``max_tokens``."""
        return self.norm(self.words(token_ids) + self.places.weight[: token_ids.shape[1]])

    def start_from(self, text_model: "PreTrainedModel") -> None:
        """Copy the embedding layer of a text model.

        Raises:
            ValueError: If the text model has another width, or fewer tokens or positions.
        """
        layer = text_model.embeddings
        padding = layer.position_embeddings.padding_idx
        first = 0 if padding is None else padding + 1  # RoBERTa's positions start after its padding's number
        tokens, places = len(self.words.weight), len(self.places.weight)
        places_and_type = layer.position_embeddings.weight + layer.token_type_embeddings.weight[0]
        take_weights(
            self,
            {
                "words.weight": layer.word_embeddings.weight[:tokens],
                "places.weight": places_and_type[first : first + places],
                "norm.weight": layer.LayerNorm.weight,
                "norm.bias": layer.LayerNorm.bias,
            },
        )


def check_fit(text_model: "PreTrainedModel", kinds: tuple[str, ...], found: Mapping[str, tuple[int, str]]) -> None:
    """Refuse a text model of another kind or of other sizes than the ranker's.

    Args:
        text_model: The model whose weights are to be copied.
        kinds: transformers' names of the kinds that fit.
        found: The ranker's options that must be those of the text model, by name: the value, and the name of the same
            size in transformers' configuration. A number of heads shows in no weight's shape.

    Raises:
        ValueError: With the options to set.
    """
    config = text_model.config
    if config.model_type not in kinds:
        raise ValueError(
            f"text_model is of the kind {config.model_type!r}, wanted one of {kinds}. Name a checkpoint of that kind"
        )
    wanted = {option: getattr(config, size) for option, (_, size) in found.items()}
    if wanted != {option: value for option, (value, _) in found.items()}:
        sizes = ", ".join(f"{option}: {value}" for option, value in wanted.items())
        raise ValueError(
            f"text_model has other sizes than the ranker. Set the ranker's model to {{{sizes}}}, or name another "
            "text_model"
        )
