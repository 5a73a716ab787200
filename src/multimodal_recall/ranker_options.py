"""Every option of a ranker: which system it is, the sizes of its parts, and how it is trained.

Each group of ``parameters_rankers.yml`` is one ranker. Its ``model.kind`` names the system, a file of
``models/systems``.
"""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from multimodal_recall.options import STRICT, Count, NegativeKind, Positive, Share

EvenWidth = Annotated[int, Field(gt=0, multiple_of=2)]
Mixture = dict[NegativeKind, Annotated[float, Field(gt=0)]]


@dataclass(frozen=True, config=STRICT)
class TwoTowerOptions:
    """Section 0, the seed system: language model and words beside boxes, compared by an MLP."""

    kind: Literal["two_tower"] = "two_tower"
    """The system."""
    word_state: EvenWidth = 128
    """Width of the word BiLSTM's vector, both directions together."""
    image_state: EvenWidth = 1024
    """Width of the image vector, both directions together."""
    head_state: Positive = 512
    """Width of the head's hidden layer."""
    dropout: Share = 0.1
    """Dropout in the head."""


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
    TwoTowerOptions | WordLevelOptions | SentenceLevelOptions | ImageTagsOptions,
    Field(discriminator="kind"),
]


@dataclass(frozen=True, config=STRICT)
class RankerOptions:
    """One ranker: its model and how it is trained."""

    model: ModelOptions
    """The system and the sizes of its parts."""
    start_from: str | None = None
    """Ranker from which it takes the weights of the parts that both have; that one is trained first."""
    max_boxes: Positive | None = None
    """Boxes of a product that are read, of those that ingest has kept; ``None``: all."""
    negatives: Mixture = field(default_factory=lambda: {"label_sharing": 1.0})
    """Kinds of wrong products and how often each is taken, as weights."""
    negatives_at_end: Mixture | None = None
    """The same in the last epoch; those between are mixed in proportion. ``None``: the same throughout."""
    negatives_per_positive: Count = 1
    """Wrong products drawn for each right one; 0 where other pairs of the batch are enough."""
    fresh_negatives: bool = True
    """Whether each epoch has a draw of its own, or all have the first."""
    batches: Literal["shuffled", "same_last_word"] = "shuffled"
    """What stands together in a batch: any pairs of the chunk, or groups of queries with the same last word."""
    group_size: Positive = 16
    """Pairs of such a group (WST)."""
    loss: Literal[
        "cross_entropy",
        "focal",
        "hinge",
        "in_batch_softmax",
        "in_batch_cross_entropy",
        "in_batch_hinge",
        "multi_similarity",
        "tags_and_caption",
    ] = "cross_entropy"
    """Training loss; in_batch_* and multi_similarity compare every query of the batch with every product, and
    tags_and_caption pre-trains image_tags."""
    margin: Annotated[float, Field(ge=0)] = 0.2
    """By how much a right score must beat a wrong one, in the losses that ask for it."""
    schedule: Literal["constant", "linear_warmup", "wavy_linear_warmup"] = "constant"
    """Learning rate over the training steps; linear_warmup rises over the first 10 % and falls to 0, wavy_linear_warmup
    also swings by 30 % around that (first place)."""
    epochs: Positive = 10
    """Passes over the training chunks."""
    batch_size: Positive = 1000
    """Pairs a step, right and wrong ones together, over all processes."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Adam's learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's weight decay; 0 is plain Adam."""
    processes: Positive = 1
    """Processes (one a GPU) that train together; each takes its share of every batch."""
