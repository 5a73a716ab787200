"""The products of a split or of the catalogue, which a search ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from kedro.io import CatalogProtocol

from multimodal_recall.commands.find_products import PRODUCT_COLUMNS, read_shown
from multimodal_recall.config.layout import CATALOGUE, SPLITS, Layout, read_layout
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.evaluation.report.drawings import short_label


class SearchError(ValueError):
    """Query, split, ranker, label, product or the record of the training is missing."""


@dataclass(frozen=True)
class SplitProducts:
    """The products of a split or of the catalogue."""

    split: str
    chunks: dict[str, ChunkTables]
    """``products`` of each chunk by its namespace, ``train.chunk_000``."""
    labels: list[str]
    """Names of the labels, by number."""

    @cached_property
    def product_ids(self) -> np.ndarray:
        """The distinct products, ascending."""
        tables = [chunk["products"].to_table(columns=["product_id"]) for chunk in self.chunks.values()]
        return np.unique(np.concatenate([table["product_id"].to_numpy() for table in tables]))

    def look_up(self, product_ids: np.ndarray) -> pd.DataFrame:
        """Read a row of ``PRODUCT_COLUMNS`` for each of some products."""
        return read_shown(self.chunks, product_ids)

    @property
    def filtered(self) -> dict[str, ChunkTables]:
        """``product_id`` and ``labels`` of each chunk's products, for a ``ProductFilter``."""
        return self.chunks


class ProductsInMemory(SplitProducts):
    """The products with what is shown of them in memory, where many searches follow: some hundred bytes each."""

    @cached_property
    def shown(self) -> pa.Table:
        """Give ``PRODUCT_COLUMNS`` of the distinct products, in ascending order."""
        tables = [chunk["products"].to_table(columns=PRODUCT_COLUMNS) for chunk in self.chunks.values()]
        table = pa.concat_tables(tables).combine_chunks()
        return table.take(np.unique(table["product_id"].to_numpy(), return_index=True)[1])

    def look_up(self, product_ids: np.ndarray) -> pd.DataFrame:
        """Give a row of ``PRODUCT_COLUMNS`` for each of some products."""
        return self.shown.take(np.searchsorted(self.product_ids, product_ids)).to_pandas()

    @cached_property
    def filtered(self) -> dict[str, ChunkTables]:
        """``product_id`` and ``labels`` of each chunk's products, for a ``ProductFilter``."""
        tables = {
            name: chunk["products"].to_table(columns=["product_id", "labels"]) for name, chunk in self.chunks.items()
        }
        return {name: {"products": ds.dataset(table)} for name, table in tables.items()}


def open_products(catalog: CatalogProtocol, split: str, kind: type[SplitProducts] = SplitProducts) -> SplitProducts:
    """Open the products of a split, or of ``catalogue``: all.

    Raises:
        SearchError: If the split has no products.
    """
    layout = read_layout()
    _check_split(catalog, layout, split)
    return kind(split, _chunks_of(catalog, layout, split), catalog.load("labels"))


def _check_split(catalog: CatalogProtocol, layout: Layout, split: str) -> None:
    splits = [name for name in SPLITS if catalog.get(f"{name}_examples").exists()]
    if all(catalog.get(f"{chunk.namespace}.products").exists() for chunk in layout.catalogue_chunks):
        splits.append(CATALOGUE)
    if not splits:
        raise SearchError(
            "this environment's data has no products. Make them first: kedro run; or name another environment as --env"
        )
    if split not in splits:
        raise SearchError(
            f"there are no products of {split!r}; this environment's data has the splits {splits}. Name one of these "
            "with --split, or make the products first: kedro run"
        )


def _chunks_of(catalog: CatalogProtocol, layout: Layout, split: str) -> dict[str, ChunkTables]:
    """Open the products of a split or of the catalogue by the namespace of their chunk."""
    if split == CATALOGUE:
        names = [chunk.namespace for chunk in layout.catalogue_chunks]
        return {name: {"products": catalog.load(f"{name}.products")} for name in names}
    examples = catalog.load(f"{split}_examples")
    return {f"{split}.{chunk}": {"products": tables["products"]} for chunk, tables in examples.items()}


def numbers_of(labels: Sequence[str], names: list[str]) -> set[int]:
    """Look up labels by their names, or by what stands before a bracket or comma."""
    numbers = {}
    for label in labels:
        found = {number for number, name in enumerate(names) if label in (name, short_label(name))}
        if not found:
            near = get_close_matches(label, [*names, *map(short_label, names)], 1, 0.0)[0]
            raise SearchError(f"there is no label {label!r}. Did you mean {near!r}?")
        numbers |= dict.fromkeys(found)
    return {*numbers}
