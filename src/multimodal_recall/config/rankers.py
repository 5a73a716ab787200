"""Every option of a ranker: which system it is, the sizes of its parts, and how it is trained.

Each group of ``parameters_rankers.yml`` is one ranker. Its ``model.kind`` names the system, a file of
``models/systems``.
"""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from multimodal_recall.config.options import STRICT, Count, NegativeKind, Positive
from multimodal_recall.config.systems import ModelOptions

Mixture = dict[NegativeKind, Annotated[float, Field(gt=0)]]


IN_BATCH_LOSSES = ("in_batch_softmax", "in_batch_cross_entropy", "in_batch_hinge", "multi_similarity")
OWN_LOSSES = {"likelihood": "query_likelihood", "tags_and_caption": "image_tags"}
JOINT = ("mcan", "visual_bert", "sentence_level")
"""Kinds that read a query and a product together, and so have no in-batch loss."""
COSINES = ("graph_reasoning", "bag_of_words")
"""Kinds whose score is a scaled cosine."""


@dataclass(frozen=True, config=STRICT)
class RankerOptions:
    """One ranker: its model and how it is trained."""

    model: ModelOptions
    """The system and the sizes of its parts."""
    seed: Count | None = None
    """Seed of the ranker's weights, shuffles and dropout; ``null``: the run's ``seed``. Rankers that differ in the seed
    alone are a seed ensemble, whose scores ``evaluate.blends`` adds up."""
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
        "likelihood",
        "tags_and_caption",
    ] = "cross_entropy"
    """Training loss; in_batch_* and multi_similarity compare every query of the batch with every product, likelihood
    takes the score for the log-probability of the query, and tags_and_caption pre-trains image_tags. in_batch_softmax
    with a margin is AM-softmax where the score is a scaled cosine (Wang et al. 2018)."""
    margin: Annotated[float, Field(ge=0)] = 0.2
    """By how much a right score must beat a wrong one, in the losses that ask for it."""
    schedule: Literal["constant", "linear_warmup", "wavy_linear_warmup"] = "constant"
    """Learning rate over the training steps; linear_warmup rises over the first 10 % and falls to 0, wavy_linear_warmup
    also swings by 30 % around that (first place)."""
    epochs: Positive = 10
    """Passes over the training chunks."""
    batch_size: Positive = 1000
    """Pairs a step, right and wrong ones together, over all processes."""
    optimiser: Literal["adam", "nadam"] = "adam"
    """Adam, or Adam with Nesterov's momentum."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """The optimiser's learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay (AdamW); 0 is plain Adam."""
    processes: Positive = 1
    """Processes (one a GPU) that train together; each takes its share of every batch."""

    def __post_init__(self) -> None:
        kind, problem = self.model.kind, None
        if self.loss in ("cross_entropy", "focal", "hinge") and not self.negatives_per_positive:
            problem = "compares right pairs with drawn ones: set negatives_per_positive to 1 or more"
        elif self.loss in IN_BATCH_LOSSES and kind in JOINT:
            problem = f"scores all pairs of the batch, and {kind} reads one at a time: name a loss of pairs"
        elif self.loss == "multi_similarity" and kind not in COSINES:
            problem = f"is one of cosines, which {kind} does not score by: name in_batch_softmax"
        elif self.loss in OWN_LOSSES and kind != OWN_LOSSES[self.loss]:
            problem = f"is {OWN_LOSSES[self.loss]}'s own, and the model is {kind}: name another"
        if problem:
            raise ValueError(f"the loss {self.loss} {problem}")
        right = max(1, self.batch_size // (1 + self.negatives_per_positive))
        if self.processes > right:
            raise ValueError(
                f"processes ({self.processes}) share the right pairs of a batch, of which batch_size "
                f"({self.batch_size}) and negatives_per_positive ({self.negatives_per_positive}) leave {right}. Set "
                f"processes to {right} or less, or batch_size to {self.processes * (1 + self.negatives_per_positive)}"
            )
