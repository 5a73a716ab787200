"""The sizes of each baseline of our own."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from multimodal_recall.config.options import STRICT, Positive, Share


@dataclass(frozen=True, config=STRICT)
class QueryLikelihoodOptions:
    """Our own baseline: the score is the probability of the query's words given the largest box."""

    kind: Literal["query_likelihood"] = "query_likelihood"
    hidden: Positive | None = None
    """Width of the hidden layer; ``null``: a linear model (first edition of the photos, valid: 0.72, with 512 0.77)."""
    feature_dropout: Share = 0.3
    """Dropout on the box feature."""
    hidden_dropout: Share = 0.4
    """Dropout on the hidden layer."""
    frequency_power: Annotated[float, Field(ge=0)] = 0.25
    """Weight of a word: its share of all words to this power; 0: all words weigh the same."""


@dataclass(frozen=True, config=STRICT)
class KernelWordsOptions:
    """Our own baseline: kernel ridge regression from boxes to the query's words, in closed form."""

    kind: Literal["kernel_words"] = "kernel_words"
    kernel: Literal["rbf", "laplace"] = "rbf"
    """Similarity of two boxes at distance d: ``rbf`` is exp(-gamma d²), ``laplace`` is exp(-gamma d)."""
    gamma: Annotated[float, Field(gt=0)] = 0.4
    """How fast the similarity falls with the distance; a box's feature has the length 1."""
    ridge: Annotated[float, Field(gt=0)] = 10.0
    """Penalty on large coefficients: a larger ridge makes a smoother regression."""
    boxes: Literal["largest", "all"] = "largest"
    """Boxes that describe a product: its largest box, or the mean over all its boxes."""
    landmarks: Positive = 1000
    """Products of the training file whose largest boxes every box is compared with. A file of no more rows gives all
    its products, and the regression is exact; a longer file is sampled (Nyström). Memory and time of the solution grow
    with the square and the cube of this number."""
    frequency_power: Annotated[float, Field(ge=0)] = 0.25
    """Weight of a word: its share of all words to this power; 0: all words weigh the same."""
    floor: Annotated[float, Field(gt=0)] = 0.01
    """Added to the estimate of a word of mean frequency before its logarithm, in proportion to other frequencies."""


@dataclass(frozen=True, config=STRICT)
class BagOfWordsOptions:
    """Our own baseline: a bag of words and the largest box in one space; the score is their scaled cosine."""

    kind: Literal["bag_of_words"] = "bag_of_words"
    size: Positive = 256
    """Width of the common space of words and images."""
    hidden: Positive = 512
    """Width of the image tower's hidden layer."""
    feature_dropout: Share = 0.3
    """Dropout on the box feature."""
    hidden_dropout: Share = 0.4
    """Dropout on the hidden layer."""
    scale: Annotated[float, Field(gt=0)] = 8.0
    """Factor from cosine to score."""
    tag_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the tag loss, which takes the query's words as tags of the product."""
