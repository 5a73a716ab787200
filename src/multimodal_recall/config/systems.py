"""The sizes of each published system."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from multimodal_recall.config.options import STRICT, Positive, Share

EvenWidth = Annotated[int, Field(gt=0, multiple_of=2)]


def check_heads(width: int, heads: int) -> None:
    """Refuse a width that the attention heads cannot share."""
    if width % heads:
        raise ValueError(f"model.width ({width}) must be a multiple of model.heads ({heads})")


@dataclass(frozen=True, config=STRICT)
class TwoTowerOptions:
    """Section 0, the seed system: language model and words beside boxes, compared by an MLP."""

    kind: Literal["two_tower"] = "two_tower"
    """The system."""
    words: Literal["lstm", "transformer"] = "lstm"
    """What reads the words: a BiLSTM, as published, or transformer layers."""
    boxes: Literal["lstm", "transformer"] = "lstm"
    """What reads the boxes: the same choice."""
    word_state: EvenWidth = 128
    """Width of the words' vector, both directions together."""
    image_state: EvenWidth = 1024
    """Width of the image vector, both directions together."""
    transformer_layers: Positive = 2
    """Layers of each transformer."""
    transformer_heads: Positive = 4
    """Attention heads of each transformer."""
    head_state: Positive = 512
    """Width of the head's hidden layer."""
    dropout: Share = 0.1
    """Dropout in the head and in the transformers."""

    def __post_init__(self) -> None:
        for reader, name in ((self.words, "word_state"), (self.boxes, "image_state")):
            if reader == "transformer" and (width := getattr(self, name)) % self.transformer_heads:
                raise ValueError(f"{name} ({width}) must be a multiple of transformer_heads ({self.transformer_heads})")


@dataclass(frozen=True, config=STRICT)
class GraphReasoningOptions:
    """Section 5, WST: graph reasoning over boxes and over words, compared by their cosine."""

    kind: Literal["graph_reasoning"] = "graph_reasoning"
    """The system."""
    state: Positive = 2048
    """Width of a box, a word and both vectors."""
    layers: Positive = 4
    """Layers of graph reasoning in each tower."""
    scale: Annotated[float, Field(gt=0)] = 14.0
    """What the cosine is multiplied with to be a score; ``margin`` is in units of the score."""


@dataclass(frozen=True, config=STRICT)
class SiameseOptions:
    """Section 3, the twelfth place: a light BERT on tokens and one on boxes, compared by their dot product."""

    kind: Literal["siamese"] = "siamese"
    """The system."""
    text_model: str | None = None
    """Hub name or folder of a BERT whose tokenizer and first layers are taken; ``None``: from scratch, as published,
    with the language model's tokenizer."""
    max_tokens: Annotated[int, Field(gt=0, le=512)] = 30
    """Tokens read of a query, special ones included."""
    state: Positive = 768
    """Width of both BERTs."""
    layers: Positive = 4
    """Layers of each."""
    heads: Positive = 12
    """Attention heads of each."""
    dropout: Share = 0.1
    """Dropout in both."""

    def __post_init__(self) -> None:
        if self.state % self.heads:
            raise ValueError(f"state ({self.state}) must be a multiple of heads ({self.heads})")


@dataclass(frozen=True, config=STRICT)
class ConcatQueryOptions:
    """Section 4, the Ai-Light baseline: parts of a box side by side, query and image compared by an MLP."""

    kind: Literal["concat_query"] = "concat_query"
    """The system."""
    word_state: EvenWidth = 128
    """Width of the word BiLSTM's vector, both directions together."""
    label_state: Positive = 128
    """Width of a box's label."""
    feature_state: Positive = 512
    """Width of a box's feature."""
    position_state: Positive = 512
    """Width of a box's position."""
    image_state: EvenWidth = 1152
    """Width of the image vector, both directions together."""
    head_state: Positive = 512
    """Width of the head's first hidden layer."""
    second_head_state: Positive = 128
    """Width of its second."""
    dropout: Share = 0.1
    """Dropout in the head."""


@dataclass(frozen=True, config=STRICT)
class QueryLikelihoodOptions:
    """Our own baseline: the probability of the query's words given the largest box."""

    kind: Literal["query_likelihood"] = "query_likelihood"
    """The system."""
    hidden: Positive | None = None
    """Width of a hidden layer; ``None``: a linear model (valid of the photos 0.72, with 512 0.77)."""
    feature_dropout: Share = 0.3
    """Dropout of the feature."""
    hidden_dropout: Share = 0.4
    """Dropout of the hidden layer."""
    frequency_power: Annotated[float, Field(ge=0)] = 0.25
    """A word counts as its share of all words to this power; 0: all the same."""


@dataclass(frozen=True, config=STRICT)
class BagOfWordsOptions:
    """Our own baseline: a bag of words and the largest box, compared by cosine."""

    kind: Literal["bag_of_words"] = "bag_of_words"
    """The system."""
    size: Positive = 256
    """Width of the space."""
    hidden: Positive = 512
    """Width of the image tower's hidden layer."""
    feature_dropout: Share = 0.3
    """Dropout of the feature."""
    hidden_dropout: Share = 0.4
    """Dropout of the hidden layer."""
    scale: Annotated[float, Field(gt=0)] = 8.0
    """Score of a cosine of 1."""
    tag_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss that takes the query's words for the product's tags."""


@dataclass(frozen=True, config=STRICT)
class McanOptions:
    """First place's MCAN: text layers, and box layers that the text guides."""

    kind: Literal["mcan"] = "mcan"
    """The system."""
    text_model: str | None = None
    """Hub name or folder of a RoBERTa whose tokenizer and token embeddings are taken (published: roberta-large);
    ``None``: the tokenizer of ``language_model``, and embeddings from scratch."""
    max_tokens: Positive = 32
    """Sub-word tokens of a query that are read, special ones included (not published)."""
    width: Positive = 1024
    """Width of token embeddings and layers."""
    layers: Positive = 12
    """Layers of the text, and as many of the boxes."""
    heads: Positive = 16
    """Attention heads of a layer."""
    feed_forward: Positive = 4096
    """Width of a layer's hidden layer."""
    label_state: Positive = 32
    """Width of a label's trained embedding."""
    box_state: Positive = 2048
    """Width of the hidden layer between a box's numbers and the box layers."""
    pooling_state: Positive = 512
    """Width of the hidden layer that weighs words or boxes."""
    pooled: Positive = 2048
    """Width of the text's vector and of the image's."""
    head_state: Positive = 4096
    """Width of the head's hidden layer."""
    dropout: Share = 0.1
    """Dropout throughout."""

    def __post_init__(self) -> None:
        check_heads(self.width, self.heads)


@dataclass(frozen=True, config=STRICT)
class VisualBertOptions:
    """First place's VisualBERT: words and boxes in one BERT."""

    kind: Literal["visual_bert"] = "visual_bert"
    """The system."""
    text_model: str | None = None
    """Hub name or folder of a BERT whose tokenizer and weights are taken (published: bert-large-uncased); ``None``: the
    tokenizer of ``language_model``, and weights from scratch."""
    max_tokens: Positive = 32
    """Sub-word tokens of a query that are read, special ones included (not published)."""
    width: Positive = 1024
    """Width of token embeddings and layers."""
    layers: Positive = 24
    """Layers of words and boxes."""
    heads: Positive = 16
    """Attention heads of a layer."""
    feed_forward: Positive = 4096
    """Width of a layer's hidden layer."""
    head_state: Positive = 512
    """Width of the head's hidden layer."""
    dropout: Share = 0.1
    """Dropout throughout."""

    def __post_init__(self) -> None:
        check_heads(self.width, self.heads)


@dataclass(frozen=True, config=STRICT)
class ImageHeadsOptions:
    """The tenth place's image encoder: one vector of an image for the sentence, others for its tags."""

    head_size: Positive = 1024
    """Width of each vector."""
    tag_heads: Positive = 4
    """Vectors that words are compared with, besides the one for the sentence."""
    box_size: Positive | None = None
    """Width to which a layer norm and a linear layer first narrow the features; ``None``: they stay as wide."""
    position_state: Positive = 100
    """Width of the hidden layer from a box's position to a box's width."""
    attention_heads: Positive = 16
    """Heads of the self-attention over boxes; a box's width must be a multiple of it."""
    feed_forward: Positive = 4096
    """Width of the feed-forward network's hidden layer."""
    weight_states: tuple[Positive, ...] = (512, 256, 128)
    """Widths of the hidden layers from a box to its weight."""
    dropout: Share = 0.1
    """Dropout of boxes and of attention."""


@dataclass(frozen=True, config=STRICT)
class WordLevelOptions:
    """Section 2, the tenth place's better model: each word scored against the image's heads, and weighed."""

    kind: Literal["word_level"] = "word_level"
    """The system."""
    image_encoder: ImageHeadsOptions = field(default_factory=ImageHeadsOptions)
    """Sizes of the image encoder."""
    word_state: EvenWidth = 256
    """Width of a word's BiGRU state, both directions together."""
    weight_state: Positive = 512
    """Width of the hidden layer from word and image to the word's weight."""


@dataclass(frozen=True, config=STRICT)
class SentenceLevelOptions:
    """Section 2, the tenth place's other model: a BiGRU that starts from the image reads the words."""

    kind: Literal["sentence_level"] = "sentence_level"
    """The system."""
    image_encoder: ImageHeadsOptions = field(default_factory=ImageHeadsOptions)
    """Sizes of the image encoder; ``head_size`` is also the GRU's width, each direction alone."""
    dropout: Share = 0.1
    """Dropout between the GRU's layers."""


@dataclass(frozen=True, config=STRICT)
class ImageTagsOptions:
    """Section 2, the tenth place's pre-training of its image encoder, as a ranker of its own."""

    kind: Literal["image_tags"] = "image_tags"
    """The system."""
    image_encoder: ImageHeadsOptions = field(default_factory=ImageHeadsOptions)
    """Sizes of the image encoder."""
    hard_negatives: Positive = 1000
    """Words that are no tag of an image but look most like one, which the loss counts."""
    dropout: Share = 0.1
    """Dropout in the captioner."""


ModelOptions = Annotated[
    TwoTowerOptions
    | McanOptions
    | VisualBertOptions
    | WordLevelOptions
    | SentenceLevelOptions
    | ImageTagsOptions
    | SiameseOptions
    | ConcatQueryOptions
    | GraphReasoningOptions
    | QueryLikelihoodOptions
    | BagOfWordsOptions,
    Field(discriminator="kind"),
]
