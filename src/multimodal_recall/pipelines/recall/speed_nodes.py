"""Time encoding and searching. The figures are of this machine at this moment: nothing else follows from them."""

import logging
import time
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds

from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.datasets.product_index import REMAKE
from multimodal_recall.evaluation.scoring import build_for
from multimodal_recall.evaluation.search_speed import percentiles, time_cold_queries, time_queries

logger = logging.getLogger(__name__)

WARM, COLD, TOP = 200, 20, 10
ENCODED = 4096
LOGGED = ("ranker", "search", "recall@10", "p50 warm ms", "p50 cold ms")


def time_search(
    model: Any,
    index: Any,
    products: ds.Dataset,
    examples: dict[str, ChunkTables],
    hardware: HardwareOptions,
    cells: Any = None,
) -> list[dict[str, Any]]:
    """Time the search of the ten best products for up to 200 queries of a split, one at a time.

    Args:
        model: ``TrainedRanker``.
        index: Its ``ProductIndex``.
        products: First chunk, of which up to 4,096 products are encoded again.
        examples: Chunks of the split, of which all queries are taken.
        hardware: What computes.
        cells: ``Cells`` of the index, or ``None``.

    Returns:
        A row for exact search, and one for approximate search if there are cells: ``ranker``, ``search``, ``products``,
        ``queries``, ``recall@10`` of exact search, ``ms to encode`` and ``bytes`` of a product, and percentiles of a
        query's milliseconds: warm, and for exact search cold, with the index read from the disk.

    Raises:
        IndexMismatch: If another model made the index, or the cells are of another index.
    """
    from multimodal_recall.data.examples import read_queries
    from multimodal_recall.models.cells import share_found
    from multimodal_recall.models.index import IndexMismatch, search_index

    index.check_model(model.folder.parent.name)
    if cells is not None and not cells.is_of(index):
        raise IndexMismatch(f"the cells of {index.ranker} are of another index. Make them anew: {REMAKE}")
    ranker = build_for(model, examples, hardware).eval()
    features = ds.dataset([tables["query_features"] for tables in examples.values()])
    queries = ranker.query_vectors(read_queries(features, ranker.reading))[:WARM]
    facts = {"ranker": index.ranker, "products": len(index.product_ids()), "queries": len(queries)}
    facts["ms to encode"] = _time_encoding(ranker, products)
    rows = [{**facts, "search": "exact", "recall@10": 1.0, **_time_exact(ranker, index, queries)}]
    if cells is not None:
        chunks = [(chunk, None) for chunk in index.chunks.values()]
        found, best = (search(ranker, queries, chunks, TOP)[0] for search in (cells.search, search_index))
        warm = time_queries(lambda query: cells.search(ranker, query, chunks, TOP), queries)
        figures = {"bytes": cells.bytes_of_a_product, **percentiles(warm, "warm")}
        rows.append({**facts, "search": "approximate", "recall@10": share_found(found, best), **figures})
    return rows


def _time_encoding(ranker: Any, products: ds.Dataset) -> float:
    """Give the milliseconds in which a product is encoded, once its features are in memory."""
    from multimodal_recall.data.examples import read_products
    from multimodal_recall.models.index import encode_catalogue

    table = products.head(ENCODED)
    arrays = read_products(ds.dataset(table), ranker.reading)
    start = time.perf_counter()
    encode_catalogue(ranker, arrays, table["product_id"].to_numpy())
    return 1e3 * (time.perf_counter() - start) / max(1, len(table))


def _time_exact(ranker: Any, index: Any, queries: np.ndarray) -> dict[str, float]:
    """Time exact search: cold first, since a mapping in use keeps its file in memory."""
    from multimodal_recall.datasets.product_index import open_index_chunk
    from multimodal_recall.models.index import search_index

    folders = [chunk.folder for chunk in index.chunks.values()]

    def opened() -> Any:
        chunks = [(open_index_chunk(folder), None) for folder in folders]
        return lambda query: search_index(ranker, query, chunks, TOP)

    files = [file for folder in folders for file in folder.iterdir()]
    cold = time_cold_queries(opened, files, queries[:COLD])
    warm = time_queries(opened(), queries)
    size = sum(chunk.values.nbytes + chunk.product_ids.nbytes for chunk in index.chunks.values())
    count = sum(len(chunk.product_ids) for chunk in index.chunks.values())
    return {"bytes": size / count, **percentiles(warm, "warm"), **percentiles(cold, "cold")}


def list_search_speed(*rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Put the rows of all rankers into a table, and log it."""
    table = pd.DataFrame([row for of_ranker in rows for row in of_ranker]).round(3)
    shown = table.reindex(columns=LOGGED).to_string(index=False)
    logger.info("search in %s products:\n%s", f"{table['products'].max():,}", shown)
    return table
