"""The best products of a catalogue for queries: by its index, or by scoring every product."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from kedro.io import CatalogProtocol

from multimodal_recall.config.layout import read_layout
from multimodal_recall.config.rankers import UNINDEXED
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.datasets.product_index import REMAKE, read_index_list
from multimodal_recall.runs.lineage import pinned
from multimodal_recall.runtime.progress import bar

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.index import ProductIndex
    from multimodal_recall.models.indexable import IndexableRanker
    from multimodal_recall.models.ranker import Ranker
    from multimodal_recall.models.saved import TrainedRanker

PAIRS_AT_ONCE = 1 << 20
"""Pairs of a query and a product that are scored at a time: bounds the memory for any number of queries."""
PRODUCT_COLUMNS = ["product_id", "title", "sku", "image_h", "image_w", "top", "left", "bottom", "right", "labels"]


@dataclass(frozen=True)
class ProductFilter:
    """Which products may be found."""

    labels: Collection[int] = ()
    """Products with a box of one of these labels; empty: of any label."""
    product_ids: np.ndarray | None = None
    """Products of this list; ``None``: all."""

    def allowed(self, products: ds.Dataset) -> np.ndarray | None:
        """List the ids of a chunk's products that may be found; ``None``: all."""
        if not self.labels and self.product_ids is None:
            return None
        table = products.to_table(columns=["product_id", "labels"]).combine_chunks()
        ids, labels = table["product_id"].to_numpy(), table["labels"].combine_chunks()
        kept = np.ones(len(ids), bool)
        if self.labels:
            product_of_box = np.repeat(np.arange(len(ids)), labels.value_lengths().to_numpy())
            shown = np.isin(labels.flatten().to_numpy(), list(self.labels))
            kept = np.bincount(product_of_box[shown], minlength=len(ids)) > 0
        return ids[kept] if self.product_ids is None else ids[kept & np.isin(ids, self.product_ids)]


def fresh_index(
    catalog: CatalogProtocol, ranker: str, model: "TrainedRanker", chunks: dict[str, ChunkTables]
) -> tuple["ProductIndex | None", str]:
    """Load the index of a ranker if it was made by this model and of these products.

    Returns:
        The index, or ``None``; and where the products' scores come from, in words.
    """
    if model.options.model.kind in UNINDEXED:
        return None, "every product was scored: it reads query and product together, and has no index"
    dataset = catalog.get(f"{ranker}.index")
    if not dataset.exists():
        return None, f"every product was scored: there is no index, which makes search faster: {REMAKE}"
    dataset = _index_of(catalog, dataset, f"{ranker}.index", model.folder.parent.name)
    listed, version = read_index_list(dataset.load_path()), dataset.load_path().parent.name
    if listed["model"] != model.folder.parent.name:
        return None, f"every product was scored: the index is of the model of {listed['model']}. Make it anew: {REMAKE}"
    versions = {name: facts["products"] for name, facts in listed["chunks"].items()}
    searched = {name: Path(tables["products"].files[0]).parent.name for name, tables in chunks.items()}
    if not searched.items() <= versions.items():
        return None, f"every product was scored: the index is of other products. Make it anew: {REMAKE}"
    return _with_cells(catalog, ranker, dataset.load(), f"by the index of {version}")


def _with_cells(catalog: CatalogProtocol, ranker: str, index: "ProductIndex", how: str) -> tuple["ProductIndex", str]:
    """Add the cells to an index where the options ask for approximate search and the cells are of this index."""
    if ranker not in read_layout().approximate:
        return index, how
    dataset = catalog.get(f"{ranker}.cells")
    if not dataset.exists():
        return index, f"{how}, exact: there are no cells for approximate search. Make them: {REMAKE}"
    cells = dataset.load()
    if not cells.is_of(index):
        return index, f"{how}, exact: the cells are of another index. Make them anew: {REMAKE}"
    return replace(index, approximate=cells.search), f"{how}, {cells} of valid"


def _index_of(catalog: CatalogProtocol, newest: AtomicDataset, name: str, model: str) -> AtomicDataset:
    """Find the newest version of an index that a model has made; without one, give the newest of all."""
    versions = [newest.pinned_version] if newest.pinned_version else newest.list_versions(full_path=False)
    datasets = (pinned(name, version, catalog) for version in versions)
    return next((made for made in datasets if read_index_list(made.load_path())["model"] == model), newest)


def search_by_index(
    index: "ProductIndex",
    ranker: "IndexableRanker",
    query_features: pa.Table,
    chunks: dict[str, ChunkTables],
    top: int,
    filter: ProductFilter = ProductFilter(),
    look_up: Callable[[np.ndarray], pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Find the best products for each query among the encoded products of some chunks; see ``best_products``.

    ``look_up`` gives a row of ``PRODUCT_COLUMNS`` for each of some product ids; by default it reads the chunks.
    """
    from multimodal_recall.data.examples import read_queries
    from multimodal_recall.models.index import search_index

    vectors, masked = ranker.query_vectors(read_queries(ds.dataset(query_features), ranker.reading)), []
    for name, tables in chunks.items():
        encoded, allowed = index.chunks[name], filter.allowed(tables["products"])
        masked.append((encoded, None if allowed is None else np.isin(encoded.product_ids, allowed)))
    with bar("search", sum(len(chunk.product_ids) for chunk, _ in masked), "products") as shown:
        find = index.approximate or search_index
        ids, scores = find(ranker, vectors, masked, top, shown.advance)
    best = (look_up or partial(read_shown, chunks))(ids.ravel())
    best["query_row"], best["score"] = np.repeat(np.arange(len(ids)), ids.shape[1]), scores.ravel()
    return _described(best, query_features)


def read_shown(chunks: dict[str, ChunkTables], product_ids: np.ndarray) -> pd.DataFrame:
    """Read size, boxes and labels of some products, in their order, each from the first chunk that has it."""
    wanted = ds.field("product_id").isin(np.unique(product_ids))
    found = [tables["products"].to_table(PRODUCT_COLUMNS, filter=wanted).to_pandas() for tables in chunks.values()]
    distinct = pd.concat(found, ignore_index=True).drop_duplicates("product_id").set_index("product_id")
    return distinct.loc[product_ids].reset_index()


def best_products(
    ranker: "Ranker",
    query_features: pa.Table,
    examples: dict[str, ChunkTables],
    top: int,
    filter: ProductFilter = ProductFilter(),
) -> pd.DataFrame:
    """Score every product for each query and find the best, with one chunk in memory at a time.

    A product of several chunks comes once, with its best score. Of equal scores the lower product id comes first.
    ``query_features`` has a column ``unknown_words``.

    Returns:
        As ``search``, ``labels`` as numbers.
    """
    from multimodal_recall.data.examples import read_chunk

    queries = len(query_features)
    counts = [tables["products"].count_rows() for tables in examples.values()]
    best = pd.DataFrame()
    with bar("search", sum(counts), "products") as shown:
        for tables in examples.values():
            products, allowed = (
                tables["products"].to_table(columns=PRODUCT_COLUMNS),
                filter.allowed(tables["products"]),
            )
            rows = np.arange(len(products))
            rows = rows if allowed is None else rows[np.isin(products["product_id"].to_numpy(), allowed)]
            if len(rows):
                arrays = read_chunk({**tables, "query_features": ds.dataset(query_features)}, ranker.reading)
                for block in np.array_split(rows, -(-len(rows) * queries // PAIRS_AT_ONCE)):
                    best = _best_of(best, _best_of_block(ranker, arrays, products, block, queries, top), top)
                    shown.advance(len(block))
                del arrays  # the next chunk must not be read while this one is in memory
    if best.empty:
        best = pd.DataFrame(columns=["query_row", "score", *PRODUCT_COLUMNS])
    return _described(best, query_features)


def _described(best: pd.DataFrame, query_features: pa.Table) -> pd.DataFrame:
    """Add rank, text and unknown words to the products that were found for each ``query_row``."""
    best["rank"] = best.groupby("query_row").cumcount() + 1
    for name in ("query", "unknown_words"):
        values = query_features[name].to_pylist()
        best[name] = [values[row] for row in best["query_row"]]
    return best[["query", "unknown_words", "rank", "product_id", "score", *PRODUCT_COLUMNS[1:]]].reset_index(drop=True)


def _best_of_block(
    ranker: "Ranker", arrays: Any, products: pa.Table, block: np.ndarray, queries: int, top: int
) -> pd.DataFrame:
    """Rank a block of a chunk's products for each query."""
    from multimodal_recall.data.pairs import Pairs

    pairs = Pairs(np.tile(np.arange(queries), len(block)), np.repeat(block, queries), np.zeros(len(block) * queries))
    with bar(type(ranker).__name__, len(pairs.query_rows), "pairs") as shown:
        scores = ranker.score(arrays, pairs, shown.advance).reshape(len(block), queries)  # each product is encoded once
    ids = products["product_id"].to_numpy()[block]
    order = np.stack([np.lexsort((ids, -scores[:, query]))[:top] for query in range(queries)])
    table = products.take(block[order.ravel()]).to_pandas()
    query_rows = np.repeat(np.arange(queries), order.shape[1])
    return table.assign(query_row=query_rows, score=scores[order.ravel(), query_rows])


def _best_of(first: pd.DataFrame, second: pd.DataFrame, top: int) -> pd.DataFrame:
    """Keep the best rows of both tables, each product of a query once."""
    both = pd.concat([first, second]).sort_values(["query_row", "score", "product_id"], ascending=[True, False, True])
    return both.drop_duplicates(["query_row", "product_id"]).groupby("query_row").head(top)
