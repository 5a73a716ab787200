"""The shape of an environment's pipelines: its splits and chunks, its rankers, and whether a shop is made."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal_recall.config.import_options import ImportOptions
from multimodal_recall.config.loader import current_configuration
from multimodal_recall.config.rankers import MULTIPLIED, SUMMED, UNINDEXED
from multimodal_recall.config.resolve import CATALOGUE, REQUIRED_SPLITS, SPLITS, LayoutError, listed, trained_rankers

SHOP_SPLITS = ("train", "valid", "testA")
SHOP_PRODUCTS = "shop_products"
"""The dataset of an own table of products, which the tables of the splits name."""


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
    given_scores: tuple[str, ...] = ()  # answered splits with a table of given scores
    given_runs: tuple[str, ...] = ()  # answered splits with a TREC run of given scores
    judged: tuple[str, ...] = ()  # answered splits with TREC qrels, which stand in for the answer file
    given_counts: bool = False  # whether a file gives the number of candidate lists of each product
    titled: bool = False  # whether a file gives product titles
    reclassifies: bool = False  # whether the rankers' vectors of the valid candidates are kept and classified
    trained: dict[str, str | None] = field(default_factory=dict)  # as `trained_rankers` of `resolve` gives it
    summed: tuple[str, ...] = ()  # the trained rankers that are solved from sums over the training chunks
    catalogue: int = 0  # number of chunks of the catalogue's own file; 0: it is the products of all splits
    indexed: tuple[str, ...] = ()  # the rankers that an index can be made for
    approximate: tuple[str, ...] = ()  # the rankers whose index is also parted into cells
    two_stages: tuple[str, tuple[str, ...]] | None = None  # the ranker that finds products, and those that order them
    tables: tuple[str, ...] = ()  # splits whose rows stand in a parquet table, as they have no TSV
    joined: bool = False  # whether the products of these tables stand in a table of their own
    import_chunks: int = 0  # number of chunks in which `import_shop` reads products; 0: no shop is imported
    embeds: bool = False  # whether a vision model, and not the weak descriptor, describes an imported shop's photos

    def sources_of(self, split: str) -> list[str]:
        """Name the datasets that hold a split's rows: its TSV or table, then maybe the table of the products."""
        if split not in self.tables:
            return [f"{split}_tsv"]
        if split == CATALOGUE and self.joined:
            return [SHOP_PRODUCTS]
        return [f"{split}_table", *([SHOP_PRODUCTS] if self.joined else [])]

    def chunks_of(self, split: str) -> list[Chunk]:
        """List all chunks of a split, in file order."""
        count = {**self.chunks, CATALOGUE: self.catalogue, "photos": self.import_chunks}[split]
        return [Chunk(split, number, count) for number in range(count)]

    def answers_of(self, split: str) -> str:
        """Name the dataset of a split's right products."""
        return f"{split}.answers" if split in self.judged else f"{split}_answers"

    def given_of(self, split: str) -> list[str]:
        """Name the datasets of a split's given scores."""
        tables = [f"{split}_given_scores"] if split in self.given_scores else []
        return tables + ([f"{split}_given_run"] if split in self.given_runs else [])

    @property
    def ranks_titles(self) -> bool:
        """Whether products may have titles to rank candidates by."""
        return bool(self.rankers) and (self.titled or bool(self.tables))

    @property
    def ranks_zero_shot(self) -> bool:
        """Whether a vision model has described the photos: its text tower ranks candidates, if it has one."""
        return bool(self.rankers and self.import_chunks and self.embeds)

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
        return [Chunk("language.queries", chunk.number, chunk.count) for chunk in self.chunks_of("train")]

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
    parameters = loader["parameters"]
    files, rankers = _Files(parameters, loader["catalog"], project), parameters["rankers"]
    given = {pattern: files.splits_of(pattern) for pattern in ("{split}_given_scores", "{split}_given_run")}
    run = files.splits_to_run() if rankers else [split for split in SPLITS if any(split in s for s in given.values())]
    if "valid" not in run:  # weights and stacks are fitted on valid
        scored = f" Scores of {', '.join(run)} alone cannot be evaluated." if run else ""
        raise LayoutError(
            f"There is nothing to run: rankers is empty, and {files.path_of('{split}_given_scores', 'valid')} does not "
            f"exist.{scored} Put scores of valid there (query_id, product_id, a column a model), or name a ranker."
        )
    judged = files.splits_of("{split}_qrels")
    with_answers = {"valid", *files.made, *judged, *files.splits_of("{split}_answers")}
    answered = tuple(split for split in run if split != "train" and split in with_answers)
    trained = trained_rankers(parameters)
    kinds = {ranker: parameters[ranker]["model"].get("kind") for ranker in trained}
    approximate = parameters["index"]["approximate"]
    return Layout(
        {split: parameters["chunks"][split] for split in run},
        answered,
        files.makes_shop,
        tuple(rankers),
        *(tuple(split for split in answered if split in splits) for splits in (*given.values(), judged)),
        given_counts=files.exists("given_list_counts"),
        titled=files.makes_shop or files.exists("titles"),
        reclassifies=parameters["evaluate"]["reclassify"],
        trained=trained,
        summed=tuple(ranker for ranker, kind in kinds.items() if kind in SUMMED),
        catalogue=parameters["chunks"].get(CATALOGUE, 0) if rankers and files.has_rows(CATALOGUE) else 0,
        indexed=tuple(ranker for ranker in rankers if kinds[ranker] not in UNINDEXED),
        approximate=tuple(ranker for ranker in rankers if approximate and kinds[ranker] in MULTIPLIED),
        two_stages=_two_stages(parameters),
        tables=tuple(split for split in (*run, CATALOGUE) if files.in_table(split)),
        joined=files.joined,
        import_chunks=files.imports.get("chunks", ImportOptions.chunks) if files.imports else 0,
        embeds=parameters["describe"]["embedder"] is not None,
    )


class _Files:
    """Which raw files an environment has, and which of them a pipeline makes."""

    def __init__(self, parameters: dict[str, Any], catalog: dict[str, Any], project: Path) -> None:
        self.chunks, self.catalog, self.project = parameters["chunks"], catalog, project
        self.makes_shop, self.imports = parameters.get("make_shop") is not None, parameters.get("import_shop")
        self.made = SHOP_SPLITS if self.makes_shop or self.imports else ()
        self.joined = bool(self.imports) or self.exists(SHOP_PRODUCTS)

    def path_of(self, pattern: str, split: str = "") -> Path:
        # As in Kedro, a name goes before a pattern.
        entry = self.catalog.get(pattern.format(split=split), self.catalog[pattern])
        return self.project / entry["filepath"].format(split=split)

    def exists(self, pattern: str, split: str = "") -> bool:
        return self.path_of(pattern, split).exists()

    def splits_of(self, pattern: str) -> list[str]:
        """List the splits but ``train`` that have a file."""
        return [split for split in SPLITS[1:] if self.exists(pattern, split)]

    def in_table(self, split: str) -> bool:
        """Whether a split's rows stand in a parquet table."""
        if self.imports or self.exists("{split}_tsv", split):
            return bool(self.imports)
        return self.exists("{split}_table", split) or (split == CATALOGUE and self.joined)

    def has_rows(self, split: str) -> bool:
        return self.exists("{split}_tsv", split) or self.in_table(split)

    def splits_to_run(self) -> list[str]:
        """List the splits with queries that are made, required or there."""
        sure = {*REQUIRED_SPLITS, *self.made}
        return [s for s in SPLITS if s in self.chunks and (s in sure or (not self.imports and self.has_rows(s)))]


def _two_stages(parameters: dict[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    stages = parameters["evaluate"].get("recall")
    return None if stages is None or not parameters["rankers"] else (stages["first"], tuple(listed(stages["second"])))


def options_of_models(names: Iterable[str]) -> list[str]:
    """Name the options of each ranker whose model is among the named datasets: ``params:mcan`` for ``mcan.model``."""
    return [f"params:{name.removesuffix('.model')}" for name in names if name.endswith(".model")]
