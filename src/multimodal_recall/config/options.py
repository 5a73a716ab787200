"""Every option of the project but the rankers': one frozen dataclass for each group of ``parameters_*.yml``.

Kedro builds those of the nodes that are to run from ``params:`` before the first of them (it reads their type hints),
so a misspelt key or a value out of range is one error at the start, not a surprise after an hour.
"""

from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
NegativeKind = Literal["random", "label_sharing", "similar_query", "same_last_word", "same_cluster"]


@dataclass(frozen=True, config=STRICT)
class HardwareOptions:
    """What a run computes with (``hardware``). The log says what ``auto`` has become, and why."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models train and score. auto: the GPU where torch sees one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products in training and in the language model; scores and losses are float32 in either. auto: bfloat16
    where the device multiplies it natively. A CPU that does not emulates it at a hundredth of the speed."""
    threads: Literal["auto"] | Positive = "auto"
    """CPU threads of torch; another number moves a trained ranker's figures as much as another seed. auto:
    ``OMP_NUM_THREADS`` where it is set, else the cores that this process may use, divided among the nodes that
    ``ThreadRunner`` or Dask runs at a time."""


@dataclass(frozen=True, config=STRICT)
class ShopOptions:
    """The made-up shop (``make_shop``)."""

    seed: int = 0
    """Seed of the whole shop; the same seed gives the same files."""
    train_rows: Positive = 6000
    """Rows of ``train.tsv``: (query, product) matches."""
    valid_queries: Positive = 120
    """Queries of ``valid.tsv``, about 30 candidates each."""
    test_queries: Positive = 120
    """Queries of ``testA.tsv``, about 30 candidates each."""
    signal: Annotated[float, Field(gt=0)] = 2.0
    """How strongly a box's feature shows an attribute, in standard deviations of its noise."""


@dataclass(frozen=True, config=STRICT)
class IngestOptions:
    """How TSV rows become chunks (``ingest``)."""

    max_boxes: Positive = 12
    """Boxes kept of an image (MAX_BOX of the seed system)."""
    box_order: Literal["file", "largest_first"] = "file"
    """Which boxes are kept: the first of the file (as published) or the largest."""
    feature_size: Positive = 2048
    """Numbers of a box's feature."""
    max_rejected_share: Share = 0.01
    """Share of malformed rows of a chunk above which the run fails."""
    max_rows_per_chunk: Positive = 150_000
    """Rows above which a chunk is refused, since memory is bounded by the chunk."""
    strip_leading_tokens: bool = False
    """First place's cleaning: drop a query's first token when it is a leftover such as ``'s`` or ``&``."""
    drop_possessive_queries: bool = False
    """Twelfth place's cleaning: drop training rows whose query starts with ``'s``."""
    drop_crowded_images: bool = False
    """Twelfth place's cleaning: drop training rows of images with more than 40 boxes."""


@dataclass(frozen=True, config=STRICT)
class LanguageModelOptions:
    """The model behind the query vectors (``language_model``): fetched, pre-trained further, or made anew."""

    start_from: str | None = None
    """Hub name or local folder of a transformers checkpoint; ``None`` makes a small ALBERT of the sizes below."""
    pretrain_epochs: Count = 3
    """Epochs of masked-word training on the training queries; 0 takes ``start_from`` as it is."""
    batch_size: Positive = 64
    """Queries a training step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Peak of a linear schedule with 10 % warm-up."""
    vocabulary_size: Positive = 2000
    """Sub-words of a new tokenizer."""
    strip_accents: bool = False
    """Whether a new tokenizer reads a letter without its accents (``appliqués`` as ``appliques``), as uncased BERTs do.
    That suits English; in most other languages it makes other words, and of some scripts it drops the vowels."""
    hidden_size: Positive = 128
    """Width of a new ALBERT, and of the query vector."""
    layers: Annotated[int, Field(ge=2)] = 3
    """Layers of a new ALBERT; the query vector is read below the last."""
    heads: Positive = 4
    """Attention heads of a new ALBERT."""
    checkpoint: str = "data/03_primary/language_model_checkpoint.safetensors"
    """File that keeps the state of a training under way, so that a killed one goes on."""

    def __post_init__(self) -> None:
        if self.start_from is None and self.pretrain_epochs == 0:
            raise ValueError(
                "language_model.pretrain_epochs is 0 and start_from is null: an untrained model has nothing to "
                "say. Name a checkpoint in start_from, or set pretrain_epochs to 1 or more"
            )
        if self.hidden_size % self.heads:
            raise ValueError(
                f"language_model.hidden_size ({self.hidden_size}) must be a multiple of heads ({self.heads})"
            )


@dataclass(frozen=True, config=STRICT)
class QueryOptions:
    """How a query becomes numbers (``featurize``)."""

    max_query_words: Positive = 14
    """Words of a query that get a word vector (MAX_QUERY_CHAR of the seed system); later ones are cut."""
    max_query_tokens: Positive = 64
    """Sub-word tokens of a query that the language model reads, special ones included."""
    tokens_per_batch: Positive = 4096
    """Tokens of one batch through the language model; all its queries have the same length."""


@dataclass(frozen=True, config=STRICT)
class WordVectorOptions:
    """The word vectors (``word_vectors``): read from a GloVe text file, or trained on the training queries."""

    glove_file: str | None = None
    """GloVe or fastText text file (``glove.840B.300d.txt``, ``cc.de.300.vec``); ``None`` trains word2vec on queries and
    label names."""
    size: Positive = 300
    """Width of a word vector; a GloVe file must have just this one."""
    epochs: Positive = 30
    """Epochs of word2vec training."""


@dataclass(frozen=True, config=STRICT)
class NegativeOptions:
    """How wrong products are drawn for a query (``sample_negatives``)."""

    kinds: tuple[NegativeKind, ...] | None = get_args(NegativeKind)
    """Kinds to draw; each ranker says how it mixes them. ``None``: those that the run's rankers mix. random: any
    product; label_sharing: one that shares a box label with the right one (seed system); similar_query: one of a query
    with much the same words (first place); same_last_word: one of a query with the same last word, same_cluster: one of
    a query whose vector is of the same k-means cluster (both tenth place)."""
    negatives_per_positive: Positive | None = 1
    """Wrong products of each kind for each right one; a ranker may take fewer. ``None``: the most that one takes."""
    epochs: Positive = 10
    """Draws made ahead, one an epoch; longer training starts over with the first draw."""
    ignored_labels: tuple[str, ...] = ("others",)
    """Labels that do not count as shared: 67 % of the official boxes are "others". Empty: the published way."""
    similar_queries: Positive = 100
    """Most similar query texts of the chunk that a wrong product of the kind similar_query is drawn from."""
    queries_per_cluster: Positive = 50
    """Query texts of the chunk to a cluster, on average."""

    def __post_init__(self) -> None:
        if self.kinds is not None and (not self.kinds or len(set(self.kinds)) < len(self.kinds)):
            raise ValueError(f"sample_negatives.kinds is {list(self.kinds)}: name one kind or more, each once")


@dataclass(frozen=True, config=STRICT)
class RerankOptions:
    """What else is made of a ranker's scores, inside each query's candidate list (``evaluate``)."""

    smooth_boxes: bool = True
    """Whether the ranker also scores the candidates with box features that are mixed with their nearest ones among all
    boxes of the query's candidates (twelfth place). Scores every candidate a second time; the box features of the split
    are in memory then, and copies of those of some 4,096 candidates, or of the longest list where that is longer."""
    k_reciprocal: bool = True
    """Whether the candidates are also ranked anew by the neighbours that they share with the query (WST); not for a
    ranker that has no product vectors. The box features of the split are in memory then."""


@dataclass(frozen=True, config=STRICT)
class EvaluateOptions:
    """How rankings are measured (``evaluate``)."""

    bootstrap_draws: Positive = 1000
    """Resamplings of the queries behind each confidence interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of the bootstrap distribution between the interval's ends."""
    models: tuple[str, ...] | None = None
    """Models (rankers, columns of given scores) to evaluate and blend; ``None``: all that have scores."""
    blends: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Further rankings by name: the models whose z-scores each adds up, beside the sums of all models."""
    ranking: str | None = None
    """Model (a ranker, or a column of given scores) that others are compared with, that the rules on candidate lists
    are applied to and that the report draws; ``None``: the first."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Folds of queries in which weights and stacks are fitted and scored."""
    shuffles: Annotated[int, Field(ge=2)] = 3
    """Different ways to part the queries into folds; the spread over them is reported."""
    reclassify: bool = False
    """Whether LightGBM is also fitted to tell right candidates of valid from wrong ones by each ranker's pair vectors
    (first place). Each shuffle fits 100 trees a fold: 25 s of one core for a ranker of the default run."""
    photos: str = "data/01_raw/photos"
    """Folder of ``<product_id>.jpg`` that the report shows behind the boxes, where they are there."""
    margin: Share = 0.92
    """Of the second place's rule: a product's best score must beat its second best by so much."""

    def __post_init__(self) -> None:
        for name, models in self.blends.items():
            if len(models) < 2 or len(set(models)) < len(models):
                raise ValueError(f"evaluate.blends.{name} is {list(models)}: name two models or more, each once")

    def check_models(self, known: Sequence[str]) -> None:
        """Refuse names of models that are not there.

        Args:
            known: The models that have scores.

        Raises:
            UnknownModelError: With the option, and the models that it may name.
        """
        evaluated = [model for model in known if self.models is None or model in self.models]
        named = [("models", self.models or (), list(known))]
        named += [("ranking", () if self.ranking is None else (self.ranking,), evaluated)]
        named += [(f"blends.{name}", models, evaluated) for name, models in self.blends.items()]
        for option, models, there in named:
            if absent := [model for model in models if model not in there]:
                raise UnknownModelError(
                    f"evaluate.{option} names {absent}, but the models with scores are {there}: name some of these"
                )


class UnknownModelError(ValueError):
    """The options of ``evaluate`` name a model that has no scores."""
