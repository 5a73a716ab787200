"""The options of a ranker: its system, the sizes of its parts, and how it is trained.

Each file of ``conf/<env>/rankers`` is a ranker. Its ``model.kind`` names the system, a file of ``models/systems``.
"""

from dataclasses import MISSING, field, fields
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from multimodal_recall.config.options import STRICT, Count, NegativeKind, Positive
from multimodal_recall.config.systems import ModelOptions

Mixture = dict[NegativeKind, Annotated[float, Field(ge=0)]]

IN_BATCH_LOSSES = ("in_batch_softmax", "in_batch_cross_entropy", "in_batch_hinge", "multi_similarity")
OWN_LOSSES = {"likelihood": "query_likelihood", "tags_and_caption": "image_tags", "ridge": "kernel_words"}
UNINDEXED = ("mcan", "visual_bert", "sentence_level", "word_level")  # systems whose products are not encoded alone
SUMMED = ("kernel_words",)  # systems that are solved from sums over the chunks, not trained in epochs
READ_WITHOUT_EPOCHS = ("model", "seed", "max_boxes", "negatives_per_positive", "loss")
MULTIPLIED = ("siamese", "graph_reasoning", "bag_of_words", "hsl")  # systems that multiply the vectors of a pair
COSINES = ("graph_reasoning", "bag_of_words")  # systems whose score is a scaled cosine


@dataclass(frozen=True, config=STRICT)
class RankerOptions:
    """A ranker: its system and how it is trained."""

    model: ModelOptions
    """The system and the sizes of its parts."""
    seed: Count | None = None
    """Seed of weights, shuffles and dropout; ``null``: the run's seed. Rankers that differ in the seed alone are a seed
    ensemble, whose scores ``evaluate.blends`` adds up."""
    start_from: str | None = None
    """Ranker that is trained first; the weights of the parts that both rankers have start from its weights."""
    max_boxes: Positive | None = None
    """Boxes read of a product, from the boxes that ``ingest`` has kept; ``null``: all."""
    drop_boxes: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the boxes that training leaves out of the products, drawn anew for each epoch (VSE-infinity: 0.2). A
    product keeps a box at least. Scoring leaves out none."""
    drop_words: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the words and tokens that training leaves out of the queries, drawn anew for each epoch. A query keeps a
    word at least; the language model's vector is always that of the whole query. Scoring leaves out none."""
    negatives: Mixture = field(default_factory=lambda: {"label_sharing": 1.0})
    """Kinds of wrong products, each with the weight with which it is drawn. An environment's kinds are added to those
    of ``conf/base``; the weight 0 takes a kind away."""
    negatives_at_end: Mixture | None = None
    """Weights in the last epoch; the epochs before move to them linearly. ``null``: the weights of ``negatives``."""
    negatives_per_positive: Count = 1
    """Wrong products drawn for each right product; 0 for losses that compare the pairs of a batch."""
    fresh_negatives: bool = True
    """Whether each epoch has a draw of its own; ``false``: all epochs have the first draw."""
    batches: Literal["shuffled", "same_last_word"] = "shuffled"
    """What a batch holds: any pairs of the chunk, or groups of queries with the same last word."""
    group_size: Positive = 16
    """Pairs in a group of queries with the same last word (WST)."""
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
        "ridge",
    ] = "cross_entropy"
    """Training loss. ``in_batch_*`` and ``multi_similarity`` compare every query of the batch with every product:
    systems that read a pair jointly then read ``batch_size`` squared pairs. ``likelihood`` takes the score as the
    log-probability of the query. ``tags_and_caption`` pre-trains ``image_tags``. ``in_batch_softmax`` with a margin is
    AM-softmax for scores that are scaled cosines (Wang et al. 2018). ``ridge`` solves ``kernel_words`` in closed form:
    of the training it reads ``seed`` and ``max_boxes`` alone."""
    margin: Annotated[float, Field(ge=0)] = 0.2
    """Margin by which a right score must beat a wrong score, in losses with a margin."""
    schedule: Literal["constant", "linear_warmup", "wavy_linear_warmup"] = "constant"
    """Learning rate over the training steps. ``linear_warmup`` rises over the first 10 % and then falls to 0;
    ``wavy_linear_warmup`` also swings by 30 % around ``linear_warmup`` (first place)."""
    epochs: Positive = 10
    """Passes over the training chunks."""
    steps: Positive | None = None
    """Length of the training in steps, in whole epochs, in place of ``epochs``: 10 epochs of few data are few steps.
    ``null``: ``epochs`` decides."""
    batch_size: Positive = 1000
    """Right and wrong pairs in a training step, over all processes."""
    optimiser: Literal["adam", "nadam"] = "adam"
    """Adam, or Adam with Nesterov's momentum."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Learning rate of the optimiser."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay (AdamW); 0 is plain Adam."""
    processes: Positive = 1
    """Processes, each with a GPU, that train the ranker data-parallel; each takes its share of every batch."""

    def __post_init__(self) -> None:
        kind, problem = self.model.kind, None
        if self.loss not in (*IN_BATCH_LOSSES, *OWN_LOSSES) and not self.negatives_per_positive:
            problem = "compares right pairs with drawn ones: set negatives_per_positive to 1 or more"
        elif self.loss == "multi_similarity" and kind not in COSINES:
            problem = f"needs cosines, and the score of {kind} is no cosine: name in_batch_softmax"
        elif self.loss in OWN_LOSSES and kind != OWN_LOSSES[self.loss]:
            problem = f"is for {OWN_LOSSES[self.loss]} alone, and the model is {kind}: name another loss"
        elif kind in SUMMED and self.loss != "ridge":
            problem = f"trains in epochs, and {kind} is solved in closed form: set loss to ridge"
        elif self.loss == "ridge" and self.negatives_per_positive:
            problem = "takes no wrong products: set negatives_per_positive to 0"
        elif self.loss == "ridge" and (unread := self._unread()):
            problem = f"has no epochs and reads no {', '.join(unread)}: leave these options out"
        if problem:
            raise ValueError(f"the loss {self.loss} {problem}")
        if empty := self._without_kinds():
            raise ValueError(
                f"{' and '.join(empty)} names no kind with a weight above 0, and negatives_per_positive is "
                f"{self.negatives_per_positive}. Name a kind, such as random: 1"
            )
        right = max(1, self.batch_size // (1 + self.negatives_per_positive))
        if self.processes > right:
            raise ValueError(
                f"processes ({self.processes}) share the right pairs of a batch, and batch_size ({self.batch_size}) "
                f"with negatives_per_positive ({self.negatives_per_positive}) leaves {right} right pairs. Set "
                f"processes to {right} or less, or batch_size to {self.processes * (1 + self.negatives_per_positive)}"
            )

    def _without_kinds(self) -> list[str]:
        """Name the mixtures that draw nothing, where wrong products are to be drawn."""
        mixtures = {"negatives": self.negatives, "negatives_at_end": self.negatives_at_end}
        empty = [name for name, kinds in mixtures.items() if kinds is not None and not any(kinds.values())]
        return empty if self.negatives_per_positive else []

    def _unread(self) -> list[str]:
        """Name the options that differ from their default, and that a training without epochs does not read."""
        group = {option.name: option for option in fields(self) if option.name not in READ_WITHOUT_EPOCHS}
        defaults = {
            name: option.default_factory() if option.default is MISSING else option.default
            for name, option in group.items()
        }
        return [name for name, default in defaults.items() if getattr(self, name) != default]
