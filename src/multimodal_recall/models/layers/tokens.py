"""The query's tokens as a text model embeds them, and how a trained one's weights are taken over."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TokenEmbeddings(nn.Module):
    """The embedding layer of BERT and RoBERTa: word and place of each token, summed and normalised.

    Not by transformers: RoBERTa's takes the token of its padding's number for padding, and never trains it. The
    embedding of token type 0, which is added to every token, is part of the places'.

    Shapes:
        token_ids (Q, T) -> (Q, T, width), T at most ``max_tokens``.
    """

    def __init__(self, tokens: int, max_tokens: int, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.words = nn.Embedding(tokens, width)
        self.places = nn.Embedding(max_tokens, width)
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Embed the tokens."""
        return self.norm(self.words(token_ids) + self.places.weight[: token_ids.shape[1]])

    def start_from(self, text_model: "PreTrainedModel") -> None:
        """Take the embedding layer of a text model.

        Raises:
            ValueError: If its sizes are not ours, or it knows fewer tokens or places.
        """
        layer = text_model.embeddings
        padding = layer.position_embeddings.padding_idx
        first = 0 if padding is None else padding + 1  # RoBERTa counts places from there
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


def check_kind(text_model: "PreTrainedModel", kinds: tuple[str, ...]) -> None:
    """Refuse a text model that is none of transformers' ``kinds``.

    Raises:
        ValueError: If it is another.
    """
    found = text_model.config.model_type
    if found not in kinds:
        raise ValueError(f"text_model is of the kind {found!r}, wanted one of {kinds}. Name such a checkpoint")


def take_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy trained weights into all of a module's.

    Raises:
        ValueError: If one has another shape, is missing or is left over.
    """
    own = module.state_dict()
    found, wanted = ({name: tuple(weight.shape) for name, weight in of.items()} for of in (weights, own))
    problems = [
        f"{name} is {found.get(name, 'missing')}, wanted {wanted.get(name, 'none')}"
        for name in {**wanted, **found}
        if found.get(name) != wanted.get(name)
    ]
    if problems:
        raise ValueError(
            f"text_model does not fit the ranker's sizes: {'; '.join(problems[:3])} ({len(problems)} in all). Give the "
            "ranker's model its sizes, or name another text_model"
        )
    module.load_state_dict(weights)
