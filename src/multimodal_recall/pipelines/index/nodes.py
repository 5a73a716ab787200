"""Encode the products of a chunk with a ranker, and list the chunks that are searched together.

torch takes seconds to import: functions import what imports it, and what has its types has no type hint. ``model`` is a
``TrainedRanker``.
"""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import HardwareOptions, IndexOptions
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.evaluation.scoring import build_for
from multimodal_recall.runtime.device import use_hardware
from multimodal_recall.runtime.progress import bar, rate

logger = logging.getLogger(__name__)

MEASURED = 10  # products a query of which the cells' recall is measured


def index_chunk(model: Any, products: ds.Dataset, hardware: HardwareOptions, ranker: str, chunk: Chunk) -> Any:
    """Encode the products of a chunk: an ``IndexChunk``; one chunk's features are in memory."""
    from multimodal_recall.data.examples import read_products
    from multimodal_recall.models.index import IndexChunk, encode_catalogue

    module, start = model.build().to(use_hardware(hardware).device), time.perf_counter()
    ids = products.to_table(columns=["product_id"])["product_id"].to_numpy()
    with bar(f"index {chunk.title}", len(ids), "products") as shown:
        ids, values = encode_catalogue(module, read_products(products, module.reading), ids, tell=shown.advance)
    size = values.nbytes // max(1, len(ids))
    logger.info("index %s by %s: %s, %d bytes each", chunk.title, ranker, rate(len(ids), start), size)
    version = Path(products.files[0]).parent.name
    return IndexChunk(ranker, model.folder.parent.name, version, ids, values, module.word_major)


def list_index(*chunks: Any, names: tuple[str, ...]) -> Any:
    """Put each ``IndexChunk`` into a ``ProductIndex``; the saved list records their versions and digests.

    Raises:
        IndexMismatch: If two models have encoded them.
    """
    from multimodal_recall.models.index import IndexMismatch, ProductIndex

    models = {chunk.model: name for name, chunk in zip(names, chunks, strict=True)}
    ranker = chunks[0].ranker
    if len(models) > 1:
        found = "; ".join(f"{name} by that of {model}" for model, name in sorted(models.items()))
        raise IndexMismatch(
            f"several models of {ranker} have encoded the products: {found}. Encode all with one: "
            f"kedro run --pipelines=index --namespaces={ranker}"
        )
    index = ProductIndex(ranker, chunks[0].model, dict(zip(names, chunks, strict=True)))
    logger.info("index of %s: %s products in %d chunks", ranker, f"{len(index.product_ids()):,}", len(chunks))
    return index


def part_index(
    model: Any, index: Any, valid_examples: dict[str, ChunkTables], options: IndexOptions, hardware: HardwareOptions
) -> Any:
    """Part the products of a ``ProductIndex`` into ``Cells``, and measure what they find for the queries of valid.

    Raises:
        CellsError: If faiss is not installed, or the index has no product.
        IndexMismatch: If another model made the index.
    """
    from multimodal_recall.data.examples import read_queries
    from multimodal_recall.models.cells import build_cells, share_found
    from multimodal_recall.models.index import search_index

    index.check_model(model.folder.parent.name)
    ranker, start = build_for(model, valid_examples, hardware), time.perf_counter()
    cells = build_cells(index, options)
    vectors = len(cells.product_ids)
    logger.info("cells of %s: %s vectors, %s", index.ranker, f"{vectors:,}", rate(vectors, start))
    features = ds.dataset([tables["query_features"] for tables in valid_examples.values()])
    queries = ranker.query_vectors(read_queries(features, ranker.reading))
    chunks = [(chunk, None) for chunk in index.chunks.values()]
    found, best = (search(ranker, queries, chunks, MEASURED)[0] for search in (cells.search, search_index))
    cells = replace(cells, recall=share_found(found, best), queries=len(queries))
    logger.info("cells of %s: %s of valid", index.ranker, cells)
    return cells
