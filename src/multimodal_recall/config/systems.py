"""The sizes of each published system."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from multimodal_recall.config.baselines import BagOfWordsOptions, KernelWordsOptions, QueryLikelihoodOptions
from multimodal_recall.config.options import STRICT, Positive, Share

EvenWidth = EvenCount = Annotated[int, Field(gt=0, multiple_of=2)]


def check_heads(width: int, heads: int) -> None:
    """Refuse a width that is no multiple of the number of attention heads."""
    if width % heads:
        raise ValueError(f"model.width ({width}) must be a multiple of model.heads ({heads})")


@dataclass(frozen=True, config=STRICT)
class TwoTowerOptions:
    """Seed system (23rd place): an MLP compares a vector of language model and words with a vector of boxes."""

    kind: Literal["two_tower"] = "two_tower"
    words: Literal["lstm", "transformer"] = "lstm"
    """Reader of the words: a BiLSTM, as published, or transformer layers."""
    boxes: Literal["lstm", "transformer"] = "lstm"
    """Reader of the boxes: a BiLSTM, as published, or transformer layers."""
    word_state: EvenWidth = 128
    """Width of the words' vector, both directions together."""
    image_state: EvenWidth = 1024
    """Width of the image vector, both directions together."""
    transformer_layers: Positive = 2
    """Layers of each transformer reader."""
    transformer_heads: Positive = 4
    """Attention heads of each transformer reader."""
    head_state: Positive = 512
    """Width of the head's hidden layer."""
    dropout: Share = 0.1
    """Dropout in the head and in the transformer readers."""

    def __post_init__(self) -> None:
        for reader, name in ((self.words, "word_state"), (self.boxes, "image_state")):
            if reader == "transformer" and (width := getattr(self, name)) % self.transformer_heads:
                raise ValueError(f"{name} ({width}) must be a multiple of transformer_heads ({self.transformer_heads})")


@dataclass(frozen=True, config=STRICT)
class GraphReasoningOptions:
    """WST: graph reasoning over boxes and over words; the score is the scaled cosine of both vectors."""

    kind: Literal["graph_reasoning"] = "graph_reasoning"
    state: Positive = 2048
    """Width of a box, of a word, and of the query's and the image's vector."""
    layers: Positive = 4
    """Layers of graph reasoning in each tower."""
    pooling: Literal["last_state", "gpo"] = "last_state"
    """What makes a vector of the boxes, and of the words: the last states of a GRU, as published, or in place of the
    GRU generalised pooling (VSE-infinity), which reads no order."""
    scale: Annotated[float, Field(gt=0)] = 14.0
    """Factor from cosine to score; the ranker's ``margin`` is in units of the score."""


@dataclass(frozen=True, config=STRICT)
class SiameseOptions:
    """Twelfth place: a small BERT on tokens and a small BERT on boxes; the score is the dot product of both vectors."""

    kind: Literal["siamese"] = "siamese"
    text_model: str | None = None
    """Folder, relative to the project, or hub name of a BERT whose tokenizer and first layers are taken; ``null``: from
    scratch, as published, with the tokenizer of ``language_model``."""
    max_tokens: Annotated[int, Field(gt=0, le=512)] = 30
    """Tokens read of a query, special tokens included."""
    state: Positive = 768
    """Width of both BERTs."""
    layers: Positive = 4
    """Layers of each BERT."""
    heads: Positive = 12
    """Attention heads of each BERT."""
    pooling: Literal["first", "gpo"] = "first"
    """What BERT's pooling layer reads: the first token and the first box, as published, or the generalised pooling of
    all (VSE-infinity)."""
    dropout: Share = 0.1
    """Dropout in both BERTs."""

    def __post_init__(self) -> None:
        if self.state % self.heads:
            raise ValueError(f"state ({self.state}) must be a multiple of heads ({self.heads})")


@dataclass(frozen=True, config=STRICT)
class HslOptions:
    """HSL (Ma et al., ICASSP 2021): query and boxes, query and image are compared at two depths of both encoders."""

    kind: Literal["hsl"] = "hsl"
    width: Positive = 512
    """Width of a word and of a box in the layers."""
    image_layers: EvenCount = 6
    """Self-attention layers over the boxes; the first depth stands after half of them."""
    text_layers: EvenCount = 4
    """Self-attention layers over the words; the first depth stands after half of them."""
    heads: Positive = 8
    """Attention heads of a layer; ``width`` must be a multiple of this number."""
    feed_forward: Positive = 2048
    """Width of the feed-forward network in a layer."""
    size: Positive = 1024
    """Width of each of the four vectors that are compared."""
    pooling: Literal["attention", "gpo"] = "attention"
    """What makes the image's vector of the boxes: attention pooling, as published, or generalised pooling
    (VSE-infinity)."""
    dropout: Share = 0.1
    """Dropout throughout."""

    def __post_init__(self) -> None:
        check_heads(self.width, self.heads)


@dataclass(frozen=True, config=STRICT)
class ConcatQueryOptions:
    """Ai-Light's baseline: label, feature and position of a box side by side; an MLP compares query and image."""

    kind: Literal["concat_query"] = "concat_query"
    word_state: EvenWidth = 128
    """Width of the words' BiLSTM, both directions together."""
    label_state: Positive = 128
    """Width of a box's label vector."""
    feature_state: Positive = 512
    """Width to which a box's feature is projected."""
    position_state: Positive = 512
    """Width to which a box's position is projected."""
    image_state: EvenWidth = 1152
    """Width of the image vector, both directions together."""
    head_state: Positive = 512
    """Width of the head's first hidden layer."""
    second_head_state: Positive = 128
    """Width of the head's second hidden layer."""
    dropout: Share = 0.1
    """Dropout in the head."""


@dataclass(frozen=True, config=STRICT)
class McanOptions:
    """First place's MCAN: self-attention over words, then box layers that attend to the words."""

    kind: Literal["mcan"] = "mcan"
    text_model: str | None = None
    """Folder, relative to the project, or hub name of a RoBERTa or BERT whose tokenizer and token embeddings are
    taken (published: ``roberta-large``); ``null``: the tokenizer of ``language_model``, and embeddings from scratch."""
    max_tokens: Positive = 32
    """Sub-word tokens read of a query, special tokens included (not published)."""
    width: Positive = 1024
    """Width of the token embeddings and of the layers."""
    layers: Positive = 12
    """Number of text layers, and of box layers."""
    heads: Positive = 16
    """Attention heads of a layer; ``width`` must be a multiple of this number."""
    feed_forward: Positive = 4096
    """Width of the feed-forward network in a layer."""
    label_state: Positive = 32
    """Width of a label's learnt embedding."""
    box_state: Positive = 2048
    """Width of the hidden layer between the inputs of a box and the box layers."""
    pooling_state: Positive = 512
    """Width of the hidden layer that weighs words or boxes for the pooled vector."""
    pooled: Positive = 2048
    """Width of the pooled text vector and of the pooled image vector."""
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
    text_model: str | None = None
    """Folder, relative to the project, or hub name of a BERT whose tokenizer and weights are taken (published:
    ``bert-large-uncased``); ``null``: the tokenizer of ``language_model``, and weights from scratch."""
    max_tokens: Positive = 32
    """Sub-word tokens read of a query, special tokens included (not published)."""
    width: Positive = 1024
    """Width of the token embeddings and of the layers."""
    layers: Positive = 24
    """Layers over words and boxes."""
    heads: Positive = 16
    """Attention heads of a layer; ``width`` must be a multiple of this number."""
    feed_forward: Positive = 4096
    """Width of the feed-forward network in a layer."""
    head_state: Positive = 512
    """Width of the head's hidden layer."""
    dropout: Share = 0.1
    """Dropout throughout."""

    def __post_init__(self) -> None:
        check_heads(self.width, self.heads)


@dataclass(frozen=True, config=STRICT)
class ImageHeadsOptions:
    """Tenth place's image encoder: a vector of the image for the whole query, and further vectors for its words."""

    head_size: Positive = 1024
    """Width of each of these vectors."""
    tag_heads: Positive = 4
    """Number of vectors that words are compared with, besides the vector for the whole query."""
    box_size: Positive | None = None
    """Width to which a linear layer first narrows the normalised features; ``null``: the features keep their width."""
    position_state: Positive = 100
    """Width of the hidden layer that projects a position to the width of a box."""
    attention_heads: Positive = 16
    """Attention heads over boxes; the width of a box must be a multiple of this number."""
    feed_forward: Positive = 4096
    """Width of the hidden layer of the feed-forward network."""
    weight_states: tuple[Positive, ...] = (512, 256, 128)
    """Widths of the hidden layers that compute the weight of a box."""
    pooling: Literal["weighted_mean", "gpo"] = "weighted_mean"
    """What makes a vector of the boxes: their weighted mean, as published, or generalised pooling (VSE-infinity)."""
    dropout: Share = 0.1
    """Dropout on boxes and on attention."""


@dataclass(frozen=True, config=STRICT)
class WordLevelOptions:
    """Tenth place's better model: each word is scored against the image's vectors, and the word scores are weighed."""

    kind: Literal["word_level"] = "word_level"
    image_encoder: ImageHeadsOptions = field(default_factory=ImageHeadsOptions)
    """Sizes of the image encoder (below)."""
    word_state: EvenWidth = 256
    """Width of the words' BiGRU, both directions together."""
    weight_state: Positive = 512
    """Width of the hidden layer that computes the weight of a word from word and image."""


@dataclass(frozen=True, config=STRICT)
class SentenceLevelOptions:
    """Tenth place's other model: a BiGRU whose first state is the image reads the words."""

    kind: Literal["sentence_level"] = "sentence_level"
    image_encoder: ImageHeadsOptions = field(default_factory=ImageHeadsOptions)
    """Sizes of the image encoder (below); ``head_size`` is also the width of each direction of the BiGRU."""
    dropout: Share = 0.1
    """Dropout between the layers of the BiGRU."""


@dataclass(frozen=True, config=STRICT)
class ImageTagsOptions:
    """Tenth place's pre-training of its image encoder, as a ranker of its own."""

    kind: Literal["image_tags"] = "image_tags"
    image_encoder: ImageHeadsOptions = field(default_factory=ImageHeadsOptions)
    """Sizes of the image encoder (below)."""
    hard_negatives: Positive = 1000
    """Number of highest-scoring words, without the image's own tags, that the loss counts as negatives."""
    dropout: Share = 0.1
    """Dropout in the caption decoder."""


ModelOptions = Annotated[
    TwoTowerOptions
    | McanOptions
    | VisualBertOptions
    | WordLevelOptions
    | SentenceLevelOptions
    | ImageTagsOptions
    | SiameseOptions
    | HslOptions
    | ConcatQueryOptions
    | GraphReasoningOptions
    | QueryLikelihoodOptions
    | KernelWordsOptions
    | BagOfWordsOptions,
    Field(discriminator="kind"),
]
