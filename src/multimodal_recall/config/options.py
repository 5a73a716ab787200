"""The options of the stages: a frozen dataclass for each group of ``conf/<env>/<pipeline>/parameters.yml``.

Kedro reads the nodes' type hints and builds these dataclasses from ``params:`` before the first node runs, so that a
misspelt key or a value out of range stops the run at its start. ``docs/options.md`` is generated from the docstrings.
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
    """What a run computes with. The log names what ``auto`` has become, and why."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models train and score; ``auto``: the GPU if torch sees a GPU, else the CPU."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products in training and in the language model; scores and losses are always float32.
    ``auto``: bfloat16 where the device multiplies bfloat16 natively. Other CPUs emulate bfloat16 at a hundredth of the
    speed."""
    threads: Literal["auto"] | Positive = "auto"
    """CPU threads of torch; another number moves a trained ranker's figures as much as another seed. ``auto``:
    ``OMP_NUM_THREADS`` if it is set, else the cores that this process may use. ``ThreadRunner`` and Dask divide the
    cores among the nodes that run at a time."""


@dataclass(frozen=True, config=STRICT)
class ShopOptions:
    """The made-up shop; ``null`` where the raw files exist already."""

    seed: int = 0
    """Seed of the whole shop: the same seed gives the same files."""
    train_rows: Positive = 6000
    """Rows of ``train.tsv``, each a query with a right product."""
    valid_queries: Positive = 120
    """Queries of ``valid.tsv``, with about 30 candidates each."""
    test_queries: Positive = 120
    """Queries of ``testA.tsv``, with about 30 candidates each."""
    signal: Annotated[float, Field(gt=0)] = 2.0
    """How strongly a box's feature shows an attribute, in standard deviations of its noise."""


@dataclass(frozen=True, config=STRICT)
class IngestOptions:
    """How the rows of a TSV become chunks."""

    max_boxes: Positive = 12
    """Boxes kept of an image (``MAX_BOX`` of the seed system)."""
    box_order: Literal["file", "largest_first"] = "file"
    """Which boxes are kept of an image: the first in the file, as published, or the largest."""
    feature_size: Positive = 2048
    """Numbers of a box's feature."""
    max_rejected_share: Share = 0.01
    """Largest share of malformed rows in a chunk; a larger share stops the run."""
    max_rows_per_chunk: Positive = 150_000
    """Most rows of a chunk: a run needs memory for a chunk, so a larger chunk is refused."""
    max_line_bytes: Positive = 16_000_000
    """Longest line that is read: a longer line is rejected, and only its start is kept. A row of 91 boxes, the most of
    the official data, has 1,000,000 bytes."""
    strip_leading_tokens: bool = False
    """First place's cleaning: drop the first token of a query if the token is a leftover such as ``'s`` or ``&``."""
    drop_possessive_queries: bool = False
    """Twelfth place's cleaning: drop training rows whose query starts with ``'s``."""
    drop_crowded_images: bool = False
    """Twelfth place's cleaning: drop training rows of images with more than 40 boxes."""


@dataclass(frozen=True, config=STRICT)
class LanguageModelOptions:
    """The language model behind the query vectors: fetched, pre-trained further, or trained from scratch."""

    start_from: str | None = None
    """Folder of a transformers checkpoint, relative to the project, or its name on the hub; ``null``: a new small
    ALBERT of the sizes below."""
    pretrain_epochs: Count | None = None
    """Epochs of masked-word training on the training queries. ``null``: 3 for a new model, and 0 for that of
    ``start_from``, which 0 leaves as it is."""
    batch_size: Positive = 64
    """Queries in a training step."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of a linear schedule with 10 % warm-up. ``null``: 0.001 for a new model, and 0.00005 for that
    of ``start_from``, since at 0.001 a checkpoint forgets most of what it knows."""
    vocabulary_size: Positive = 2000
    """Sub-words of a new tokenizer."""
    strip_accents: bool = False
    """Whether a new tokenizer drops accents (``appliqués`` becomes ``appliques``), as uncased BERTs do. Dropped accents
    suit English, turn words of most other languages into different words, and remove the vowels of some scripts."""
    hidden_size: Positive = 128
    """Width of a new ALBERT and of the query vector."""
    layers: Annotated[int, Field(ge=2)] = 3
    """Layers of a new ALBERT; the query vector is the output of the second-to-last layer."""
    heads: Positive = 4
    """Attention heads of a new ALBERT."""

    def __post_init__(self) -> None:
        if self.start_from is None and self.pretrain_epochs == 0:
            raise ValueError(
                "language_model.pretrain_epochs is 0 and start_from is null: an untrained model encodes "
                "nothing. Name a checkpoint in start_from, or set pretrain_epochs to 1 or more"
            )
        if self.hidden_size % self.heads:
            raise ValueError(
                f"language_model.hidden_size ({self.hidden_size}) must be a multiple of heads ({self.heads})"
            )

    @property
    def epochs(self) -> int:
        """Give the epochs in force."""
        chosen = 3 if self.start_from is None else 0
        return chosen if self.pretrain_epochs is None else self.pretrain_epochs

    @property
    def peak_rate(self) -> float:
        """Give the peak learning rate in force."""
        chosen = 1e-3 if self.start_from is None else 5e-5
        return chosen if self.learning_rate is None else self.learning_rate


@dataclass(frozen=True, config=STRICT)
class QueryOptions:
    """How a query becomes word ids and a vector."""

    max_query_words: Positive = 14
    """Words of a query that get a word vector (``MAX_QUERY_CHAR`` of the seed system); later words are cut."""
    max_query_tokens: Positive = 64
    """Sub-word tokens of a query that the language model reads, special tokens included; where the model itself reads
    fewer, so many."""
    tokens_per_batch: Positive = 4096
    """Tokens in a batch of the language model; all queries of a batch have the same length."""


@dataclass(frozen=True, config=STRICT)
class WordVectorOptions:
    """The word vectors: read from a GloVe text file, or trained on the training queries."""

    glove_file: str | None = None
    """GloVe or fastText text file (``glove.840B.300d.txt``, ``cc.de.300.vec``), relative to the project; ``null``:
    word2vec is trained on the training queries and the label names."""
    size: Positive = 300
    """Width of a word vector; the vectors of a GloVe file must have this width."""
    epochs: Positive = 30
    """Epochs of word2vec training."""


@dataclass(frozen=True, config=STRICT)
class NegativeOptions:
    """How wrong products are drawn for a query."""

    kinds: tuple[NegativeKind, ...] | None = get_args(NegativeKind)
    """Kinds to draw; each ranker says how it mixes the kinds. ``null``: the kinds that the run's rankers mix.
    ``random``: any product. ``label_sharing``: a product that shares a box label with the right product (seed system).
    The other kinds are products of another query: with much the same words (``similar_query``, first place), with the
    same last word (``same_last_word``, tenth place), in the same k-means cluster (``same_cluster``, tenth place)."""
    negatives_per_positive: Positive | None = 1
    """Wrong products of each kind for each right product. ``null``: the largest number that a ranker takes."""
    epochs: Positive = 10
    """Draws made ahead, a draw for each epoch; a longer training starts over with the first draw."""
    ignored_labels: tuple[str, ...] = ("others",)
    """Labels that do not count as shared: 67 % of the official boxes are ``others``. Published: no such label."""
    similar_queries: Positive = 100
    """Most similar queries of the chunk from whose products ``similar_query`` draws."""
    relative_margin: Share | None = None
    """Share by which a product that ``similar_query`` draws must score below the right product (NV-Retriever: 0.05). A
    score is the tf-idf cosine of the query with the words of all queries of the product in the chunk. ``null``: any
    product that is no right answer."""
    queries_per_cluster: Positive = 50
    """Average number of the chunk's queries in a cluster of ``same_cluster``."""

    def __post_init__(self) -> None:
        if self.kinds is not None and (not self.kinds or len(set(self.kinds)) < len(self.kinds)):
            raise ValueError(f"sample_negatives.kinds is {list(self.kinds)}: name one kind or more, each once")


@dataclass(frozen=True, config=STRICT)
class RerankOptions:
    """Further rankings of each query's candidates, from the scores of a ranker."""

    smooth_boxes: bool = True
    """Whether the ranker also scores the candidates with smoothed box features: each is mixed with its nearest features
    among all boxes of the query's candidates (twelfth place). Every candidate is scored a second time. Memory: the box
    features of the split, and copies for 4,096 candidates or for the longest candidate list, if longer."""
    k_reciprocal: bool = True
    """Whether the candidates are also re-ranked by the neighbours that candidate and query share (WST); only for
    rankers with product vectors. Memory: the box features of the split."""


@dataclass(frozen=True, config=STRICT)
class IndexOptions:
    """How an index is searched. Exact search compares every product with the query."""

    approximate: bool = False
    """Whether the products are also parted into cells, of which a search visits some alone. For rankers that multiply
    vectors (``siamese``, ``graph_reasoning``, ``bag_of_words``, ``hsl``); the others are searched exactly. Needs faiss:
    ``pip install -e ".[index]"``."""
    cells: Positive | None = None
    """Cells; ``null``: twice the square root of the number of products."""
    probes: Positive = 64
    """Cells that a search visits: more find more of the best products, and take longer."""


@dataclass(frozen=True, config=STRICT)
class RecallOptions:
    """Search in two stages: a ranker with an index finds candidates among all products, another ranker orders them."""

    first: str
    """Ranker whose index is searched; one of ``rankers``."""
    second: str | tuple[str, ...]
    """Ranker that scores what the first has found; one of ``rankers``, with an index or without. Of several, the
    z-scores within the query are summed, as in ``evaluate.blends``."""
    candidates: Positive = 500
    """Products of the first stage that the second stage scores."""


@dataclass(frozen=True, config=STRICT)
class EvaluateOptions:
    """How rankings are measured, blended and compared."""

    bootstrap_draws: Positive = 1000
    """Bootstrap resamplings of the queries behind each confidence interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of the bootstrap distribution inside a confidence interval."""
    models: tuple[str, ...] | None = None
    """Models (rankers, columns of given scores) to evaluate and blend; ``null``: all models with scores."""
    blends: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Further blends by name, each the sum of the z-scores of the named models."""
    ranking: str | None = None
    """Headline model (a ranker or a column of given scores): the other models are compared with it, the rules on
    candidate lists are applied to it, and the report shows it. ``null``: the first model."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Folds of queries in which blend weights and stacks are fitted and scored."""
    shuffles: Annotated[int, Field(ge=2)] = 3
    """Random partitions of the queries into folds; the spread over the partitions is reported."""
    reclassify: bool = False
    """Whether LightGBM also classifies the valid candidates as right or wrong by each ranker's pair vectors (first
    place). Each shuffle fits 100 trees in each fold: 25 s of one core for a ranker of the default run."""
    photos: str = "data/01_raw/photos"
    """Folder of ``<product_id>.jpg``, ``.jpeg``, ``.png`` or ``.webp``, relative to the project; report and search show
    the photos that exist. ``conf/base`` sets the folder ``photos`` beside the environment's raw files."""
    margin: Share = 0.92
    """Margin of the second place's rule, by which a product's best score must beat its second best score."""
    recall: RecallOptions | None = None
    """Search in two stages (below), which the pipeline ``recall`` measures beside each ranker; ``null``: none."""

    def __post_init__(self) -> None:
        for name, models in self.blends.items():
            if len(models) < 2 or len(set(models)) < len(models):
                raise ValueError(f"evaluate.blends.{name} is {list(models)}: name two models or more, each once")

    def check_models(self, known: Sequence[str]) -> None:
        """Refuse names of models that are not in ``known``, the models that have scores.

        Raises:
            UnknownModelError: With the option, and the names that are allowed.
        """
        evaluated = [model for model in known if self.models is None or model in self.models]
        named = [("models", self.models or (), list(known))]
        named += [("ranking", () if self.ranking is None else (self.ranking,), evaluated)]
        named += [(f"blends.{name}", models, evaluated) for name, models in self.blends.items()]
        for option, models, scored in named:
            if absent := [model for model in models if model not in scored]:
                raise UnknownModelError(
                    f"evaluate.{option} names {absent}, but the models with scores are {scored}: name some of these"
                )


class UnknownModelError(ValueError):
    """The options of ``evaluate`` name a model that has no scores."""
