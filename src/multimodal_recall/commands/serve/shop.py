"""What is served: the products of a split, the rankers that rank them, and the ids of the queries that are judged."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from kedro.io import CatalogProtocol

from multimodal_recall.commands.products import ProductsInMemory, SearchError, SplitProducts, open_products
from multimodal_recall.commands.search import default_split, first_ranker
from multimodal_recall.commands.searcher import Searcher, open_searcher
from multimodal_recall.config.layout import Layout, read_layout
from multimodal_recall.config.loader import current_configuration, in_project
from multimodal_recall.config.resolve import known_rankers
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.data.text import normal_form
from multimodal_recall.evaluation.report.drawings import box_colours, find_photo, short_label
from multimodal_recall.models.saved import read_card
from multimodal_recall.runs.lineage import pinned
from multimodal_recall.runtime.cores import usable_cores
from multimodal_recall.runtime.device import Hardware, choose_hardware

ID_BITS = 53
"""Bits of the id of a text: JavaScript and JSON hold such a number exactly."""
MOST_LOADED = 4
"""Rankers that are in memory at a time: a page shows two."""


@dataclass(frozen=True)
class Choice:
    """A version of a ranker's model that can be chosen."""

    name: str
    """In links: the ranker's name, for an older version with ``@`` and the version."""
    ranker: str
    version: str
    valid_ndcg_at_5: float

    def facts(self) -> dict[str, Any]:
        """Give all but the name, as JSON values."""
        return {"ranker": self.ranker, "version": self.version, "valid_ndcg_at_5": self.valid_ndcg_at_5}


@dataclass
class Shop:
    """Products and rankers of an environment; a ranker is loaded when it is asked for, ``MOST_LOADED`` are kept."""

    catalog: CatalogProtocol
    products: SplitProducts
    choices: dict[str, Choice]
    first: str
    """Name of the choice that ranks where none is named."""
    query_ids: dict[str, dict[str, list[int]]]
    """The ids of each query by its ``judged_form``, by split with candidates: ids of different splits may be equal."""
    photos: Path | None
    hardware: Hardware
    only: Sequence[int] | None = None
    """Ids of the products that may be found; ``None``: all."""
    collection: str = ""
    """Folder name of the environment's outputs: judgements of one environment are kept apart from others'."""
    searchers: dict[str, Searcher] = field(default_factory=dict)
    """The rankers that are loaded."""
    used: dict[str, float] = field(default_factory=dict)
    """When a ranker was last asked for, in seconds."""
    opening: Lock = field(default_factory=Lock)

    def searcher(self, name: str) -> Searcher:
        """Give the ranker of a choice, loaded if it is not; further threads wait for the one that loads."""
        self.used[name] = time.monotonic()
        searcher = self.searchers.get(name)
        if searcher is None:
            with self.opening:
                searcher = self.searchers.get(name) or self._open(self.choices[name])
        return searcher

    def _open(self, choice: Choice) -> Searcher:
        """Load a ranker; that which was not asked for the longest goes, once the searches that it is in have ended."""
        while len(self.searchers) >= MOST_LOADED:
            del self.searchers[min(self.searchers, key=lambda name: self.used.get(name, 0))]
        self.searchers[choice.name] = searcher = self._load(choice)
        return searcher

    def _load(self, choice: Choice) -> Searcher:
        searcher = open_searcher(self.catalog, choice.ranker, self.products, self.hardware, choice.version)
        searcher.encode(["first"])  # before other threads call it
        return searcher

    def find(self, name: str, query: str, top: int, labels: Sequence[str]) -> pd.DataFrame:
        """Rank the products for a query, as ``kedro search``."""
        return self.searcher(name).find([query], top, labels, self.only)

    @cached_property
    def served(self) -> np.ndarray:
        """The distinct products that may be found, ascending."""
        ids = self.products.product_ids
        return ids if self.only is None else ids[np.isin(ids, np.array(self.only, np.int64))]

    def knows(self, product_id: int) -> bool:
        """Whether a product is served."""
        place = np.searchsorted(self.served, product_id)
        return place < len(self.served) and self.served[place] == product_id

    def product(self, product_id: int) -> dict[str, Any] | None:
        """Look up what is shown of a product, labels as names; ``None`` for an unknown product."""
        if not self.knows(product_id):
            return None
        row = self.products.look_up(np.array([product_id])).to_dict("records")[0]
        return {**row, "labels": [self.products.labels[label] for label in row["labels"]]}

    def photo(self, product_id: int) -> Path | None:
        """Find the photo of a product that is served; ``None`` for an unknown product."""
        return find_photo(product_id, self.photos) if self.knows(product_id) else None

    def ids_of(self, text: str) -> dict[str, list[int]]:
        """Give the ids of a cleaned query in each split that has it: all that a judgement of the text is about."""
        form = judged_form(text)
        return {split: ids[form] for split, ids in self.query_ids.items() if form in ids}

    @cached_property
    def colours(self) -> dict[str, str]:
        """A colour for each label."""
        return box_colours([self.products.labels])

    @cached_property
    def labels(self) -> list[str]:
        """The labels that a product has, by their short names, in the order of the alphabet."""
        columns = (chunk["products"].to_table(columns=["labels"])["labels"] for chunk in self.products.chunks.values())
        numbers = {number for column in columns for number in pc.unique(pc.list_flatten(column)).to_pylist()}
        return sorted({short_label(self.products.labels[number]) for number in numbers})


def judged_form(text: str) -> str:
    """Give the form in which two texts are one query to a judge: small letters, with a space between the words.

    Signs count: a product may be right for "phone 6+" and wrong for "phone 6".
    """
    return " ".join(normal_form(text).lower().split())


def id_of_text(text: str) -> int:
    """Make an id of a query: the first 53 bits of the SHA-256 of its ``judged_form`` in UTF-8.

    It is positive, and the same on any machine.
    """
    return int.from_bytes(hashlib.sha256(judged_form(text).encode()).digest()[:8]) >> (64 - ID_BITS) or 1


def open_shop(
    catalog: CatalogProtocol, split: str | None = None, ranker: str | None = None, only: Sequence[int] | None = None
) -> Shop:
    """Open the products of a split and the rankers of an environment, and load the first ranker.

    Args:
        catalog: The environment's.
        split: As in ``commands.search.search``.
        ranker: Name of the ranker that ranks where none is named; by default the first of ``rankers``.
        only: Ids of the products that may be found; ``None``: all.

    Raises:
        SearchError: If there are no products, no model, or no product of ``only``.
    """
    layout = read_layout()
    ranker = ranker or first_ranker(layout)
    products = open_products(catalog, split or default_split(catalog, layout, ranker), ProductsInMemory)
    hardware = choose_hardware(catalog.load("params:hardware"))
    shop = Shop(
        catalog=catalog,
        products=products,
        choices={choice.name: choice for choice in _choices(catalog, [ranker, *layout.rankers])},
        first=ranker,
        query_ids=_query_ids(catalog, layout),
        photos=in_project(catalog.load("params:evaluate").photos),
        hardware=hardware.divided(usable_cores()),
        only=only,
        collection=current_configuration()[0]["globals"]["collection"],
    )
    if ranker not in shop.choices:
        open_searcher(catalog, ranker, products, hardware)  # says what is missing
    if not len(shop.served):
        raise SearchError(f"no product of {products.split} has an id of the list. Name others, or another --split")
    shop.searcher(ranker)
    return shop


def _choices(catalog: CatalogProtocol, first: Sequence[str]) -> Iterator[Choice]:
    """List each trained ranker with its older versions, those named ``first`` before the others."""
    known = known_rankers(current_configuration()[0]["parameters"])
    for ranker in dict.fromkeys([*first, *known]):
        dataset = catalog.get(f"{ranker}.model")
        if not dataset.exists():
            continue
        current = dataset.resolve_load_version()
        versions = dataset.list_versions(full_path=False)
        for version in [current, *(other for other in versions if other != current)]:
            name = ranker if version == current else f"{ranker}@{version}"
            card = read_card(pinned(f"{ranker}.model", version, catalog).load_path())
            yield Choice(name, ranker, version, card["valid_ndcg_at_5"])


def _query_ids(catalog: CatalogProtocol, layout: Layout) -> dict[str, dict[str, list[int]]]:
    """List the ids of the queries of each split with candidates: judgements may be the first answers of a split."""
    splits = [split for split in layout.candidate_splits if catalog.get(f"{split}_examples").exists()]
    return {split: ids_of_split(catalog.load(f"{split}_examples")) for split in splits}


def ids_of_split(examples: dict[str, ChunkTables]) -> dict[str, list[int]]:
    """List the ids of the queries of a split, ascending, by their ``judged_form``."""
    tables = [tables["pairs"].to_table(columns=["query", "query_id"]) for tables in examples.values()]
    queries = pa.concat_tables(tables).group_by(["query_id", "query"]).aggregate([]).sort_by("query_id")
    ids = defaultdict(list)
    for query_id, text in zip(queries["query_id"].to_pylist(), queries["query"].to_pylist(), strict=True):
        ids[judged_form(text)].append(query_id)
    return {form: list(dict.fromkeys(of_form)) for form, of_form in ids.items()}
