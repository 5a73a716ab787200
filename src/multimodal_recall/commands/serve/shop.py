"""What is served: the products of a split, the rankers that rank them, and the queries with answers."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from kedro.io import CatalogProtocol

from multimodal_recall.commands.products import ProductsInMemory, SearchError, SplitProducts, open_products
from multimodal_recall.commands.search import default_split, first_ranker
from multimodal_recall.commands.searcher import Searcher, open_searcher
from multimodal_recall.config.layout import Layout, read_layout
from multimodal_recall.config.loader import current_configuration, in_project
from multimodal_recall.config.resolve import known_rankers
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.evaluation.report.drawings import box_colours, find_photo, short_label
from multimodal_recall.models.saved import read_card
from multimodal_recall.runs.lineage import pinned
from multimodal_recall.runtime.cores import usable_cores
from multimodal_recall.runtime.device import Hardware, choose_hardware

ID_BITS = 53
"""Bits of the id of a query that no split has: JavaScript and JSON hold such a number exactly."""


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
    """Products and rankers of an environment; each ranker is loaded once, when it is first asked for."""

    catalog: CatalogProtocol
    products: SplitProducts
    choices: dict[str, Choice]
    first: str
    """Name of the choice that ranks where none is named."""
    query_ids: dict[str, int]
    """The id of each query of a split with answers, by its text."""
    photos: Path | None
    hardware: Hardware
    only: Sequence[int] | None = None
    """Ids of the products that may be found; ``None``: all."""
    collection: str = ""
    """Folder name of the environment's outputs: judgements of one environment are kept apart from others'."""
    searchers: dict[str, Searcher] = field(default_factory=dict)
    opening: Lock = field(default_factory=Lock)

    def searcher(self, name: str) -> Searcher:
        """Give the ranker of a choice; the first call loads it, and further threads wait for that call."""
        if name not in self.searchers:
            with self.opening:
                if name not in self.searchers:
                    self.searchers[name] = self._open(self.choices[name])
        return self.searchers[name]

    def _open(self, choice: Choice) -> Searcher:
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

    def query_id(self, text: str) -> int:
        """Give the id of a cleaned query: that of the split with answers that has the text, else one of the text.

        The latter is the first 53 bits of the text's SHA-256 in UTF-8: positive, and the same on any machine.
        """
        return self.query_ids[text] if text in self.query_ids else id_of_text(text)

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


def id_of_text(text: str) -> int:
    """Make a positive number of 53 bits of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> (64 - ID_BITS) or 1


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


def _query_ids(catalog: CatalogProtocol, layout: Layout) -> dict[str, int]:
    """Number the queries of the splits with answers; of a text with several ids, that of the first chunk."""
    ids: dict[str, int] = {}
    for split in layout.answered:
        if catalog.get(f"{split}_examples").exists():
            for tables in catalog.load(f"{split}_examples").values():
                ids = {**_ids_of_chunk(tables), **ids}
    return ids


def _ids_of_chunk(tables: ChunkTables) -> dict[str, int]:
    queries = tables["pairs"].to_table(columns=["query", "query_id"]).group_by("query").aggregate([("query_id", "min")])
    return dict(zip(queries["query"].to_pylist(), queries["query_id_min"].to_pylist(), strict=True))
