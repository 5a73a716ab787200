"""The shape of an environment's pipelines: its splits and chunks, its rankers, and whether a shop is made."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal_recall.config.loader import current_configuration
from multimodal_recall.config.rankers import SUMMED, UNINDEXED
from multimodal_recall.config.resolve import CATALOGUE, REQUIRED_SPLITS, SPLITS, LayoutError, trained_rankers

SHOP_SPLITS = ("train", "valid", "testA")


@dataclass(frozen=True)
class Chunk:
    """Chunk ``number`` of the ``count`` byte ranges of a split's TSV."""

    split: str
    number: int
    count: int

    @property
    def name(self) -> str:
        """Name inside the split, ``chunk_007``."""
        return f"chunk_{self.number:03d}"

    @property
    def namespace(self) -> str:
        """Kedro namespace of the chunk's nodes and datasets, ``train.chunk_007``."""
        return f"{self.split}.{self.name}"

    @property
    def title(self) -> str:
        """Name in log lines, ``train.chunk_007 (8 of 30)``."""
        return f"{self.namespace} ({self.number + 1} of {self.count})"


@dataclass(frozen=True)
class Layout:
    """The shape of one environment's pipelines."""

    chunks: dict[str, int]  # number of chunks of each split with queries that is run
    answered: tuple[str, ...]  # splits with an answer file, which are measured
    makes_shop: bool  # whether `make_shop` makes the raw files
    rankers: tuple[str, ...]  # names of the rankers to train and evaluate; empty: given scores alone are evaluated
    given_scores: tuple[str, ...] = ()  # answered splits with a file of given scores
    given_counts: bool = False  # whether a file gives the number of candidate lists of each product
    titled: bool = False  # whether a file gives product titles
    reclassifies: bool = False  # whether the rankers' vectors of the valid candidates are kept and classified
    trained: dict[str, str | None] = field(default_factory=dict)  # as `trained_rankers` of `resolve` gives it
    summed: tuple[str, ...] = ()  # the trained rankers that are solved from sums over the training chunks
    catalogue: int = 0  # number of chunks of the catalogue's own file; 0: it is the products of all splits
    indexed: tuple[str, ...] = ()  # the rankers that an index can be made for
    two_stages: tuple[str, str] | None = None  # the ranker that finds products, and the ranker that orders them

    def chunks_of(self, split: str) -> list[Chunk]:
        """List all chunks of a split, in file order."""
        count = self.catalogue if split == CATALOGUE else self.chunks[split]
        return [Chunk(split, number, count) for number in range(count)]

    @property
    def ingested(self) -> tuple[str, ...]:
        """Splits whose TSV is read: those with queries, and the catalogue if it has a file of its own."""
        return (*self.chunks, CATALOGUE) if self.catalogue else tuple(self.chunks)

    @property
    def catalogue_chunks(self) -> list[Chunk]:
        """The chunks that hold all products; a product may stand in several."""
        splits = (CATALOGUE,) if self.catalogue else self.chunks
        return [chunk for split in splits for chunk in self.chunks_of(split)]

    @property
    def query_chunks(self) -> list[Chunk]:
        """Equal parts of the distinct training queries, as many as ``train`` has chunks."""
        return [Chunk("queries", chunk.number, chunk.count) for chunk in self.chunks_of("train")]

    @property
    def candidate_splits(self) -> tuple[str, ...]:
        """Splits whose candidates are ranked: all but ``train``."""
        return tuple(split for split in self.chunks if split != "train")


def read_layout() -> Layout:
    """Read the shape of the pipelines from the current environment's configuration.

    Raises:
        LayoutError: If the parameters do not fit (see ``resolve``), or if there is neither a ranker nor a file of
            given scores of valid.
    """
    loader, project = current_configuration()
    parameters, catalog = loader["parameters"], loader["catalog"]
    chunks, rankers = parameters["chunks"], parameters["rankers"]

    def path_of(pattern: str, split: str = "") -> Path:
        return project / catalog[pattern]["filepath"].format(split=split)

    def exists(pattern: str, split: str = "") -> bool:
        return path_of(pattern, split).exists()

    makes_shop = parameters.get("make_shop") is not None
    shop = SHOP_SPLITS if makes_shop else ()
    scored = tuple(split for split in SPLITS[1:] if exists("{split}_given_scores", split))
    if rankers:
        run = [s for s in SPLITS if s in chunks and (s in REQUIRED_SPLITS or s in shop or exists("{split}_tsv", s))]
    else:
        run = list(scored)
    if "valid" not in run:  # weights and stacks are fitted on valid
        given = f" Scores of {', '.join(run)} alone cannot be evaluated." if run else ""
        raise LayoutError(
            f"There is nothing to run: rankers is empty, and {path_of('{split}_given_scores', 'valid')} does not "
            f"exist.{given} Put scores of valid there (query_id, product_id, a column a model), or name a ranker."
        )
    answered = [s for s in run if s != "train" and (s in shop or s == "valid" or exists("{split}_answers", s))]
    trained = trained_rankers(parameters)
    kinds = {ranker: parameters[ranker]["model"].get("kind") for ranker in trained}
    return Layout(
        {split: chunks[split] for split in run},
        tuple(answered),
        makes_shop,
        tuple(rankers),
        tuple(split for split in scored if split in answered),
        exists("given_list_counts"),
        makes_shop or exists("titles"),
        parameters["evaluate"]["reclassify"],
        trained,
        tuple(ranker for ranker, kind in kinds.items() if kind in SUMMED),
        chunks.get(CATALOGUE, 0) if rankers and exists("{split}_tsv", CATALOGUE) else 0,
        tuple(ranker for ranker in rankers if kinds[ranker] not in UNINDEXED),
        _two_stages(parameters),
    )


def _two_stages(parameters: dict[str, Any]) -> tuple[str, str] | None:
    stages = parameters["evaluate"].get("recall")
    return None if stages is None or not parameters["rankers"] else (stages["first"], stages["second"])


def options_of_models(names: Iterable[str]) -> list[str]:
    """Name the options of each ranker whose model is among the named datasets: ``params:mcan`` for ``mcan.model``."""
    return [f"params:{name.removesuffix('.model')}" for name in names if name.endswith(".model")]
