"""Scores without training: the cosine of a query and a photo by the two towers of one model (SigLIP2, CLIP)."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.data.schemas import TABLES, ChunkTables, distinct_queries
from multimodal_recall.models.vision.embedder import Embedder
from multimodal_recall.models.vision.weak import EmbedderAndWeak

PRODUCTS_PER_BATCH = 1024


class OtherFeatures(ValueError):
    """The products' features are not those of the embedder."""


def score_zero_shot(chunks: Iterable[ChunkTables], embedder: Embedder, batch_size: int) -> pa.Table:
    """Score the candidates of each chunk by the cosine of the query's text and the product's first box, its photo.

    Args:
        chunks: ``pairs`` and ``products`` of each chunk.
        embedder: The model that the products' features are from; it reads texts.
        batch_size: Texts in a batch.

    Returns:
        ``zero_shot_scores``.

    Raises:
        OtherFeatures: If the features have another width than the embedder's.
    """
    return pa.concat_tables(_score_chunk(tables, embedder, batch_size) for tables in chunks)


def _score_chunk(tables: ChunkTables, embedder: Embedder, batch_size: int) -> pa.Table:
    pairs = tables["pairs"].to_table()
    texts = embedder.embed_text(distinct_queries(pairs), batch_size)
    photos = _first_boxes(tables["products"], embedder)
    query_rows, product_rows = (pairs[f"{name}_row"].to_numpy() for name in ("query", "product"))
    scores = np.einsum("pf,pf->p", texts[query_rows], photos[product_rows])
    return pa.table([pairs["query_id"], pairs["product_id"], scores], TABLES["zero_shot_scores"])


def _first_boxes(products: ds.Dataset, embedder: Embedder) -> np.ndarray:
    """Read the feature of each product's first box, (products, F) float32 of length 1."""
    found, widths = [], (embedder.width, EmbedderAndWeak(embedder).width)
    for batch in products.to_batches(["features", "labels"], batch_size=PRODUCTS_PER_BATCH):
        for features, labels in zip(batch["features"], batch["labels"], strict=True):
            vectors = np.frombuffer(features.as_buffer(), "<f2").reshape(len(labels), -1)
            if vectors.shape[1] not in widths:
                raise OtherFeatures(
                    f"the products' features hold {vectors.shape[1]} numbers, and those of describe.embedder, "
                    f"{embedder.name}, {embedder.width}, with colours and edges {widths[1]}. Describe the photos "
                    "again: kedro import-shop"
                )
            found.append(vectors[0, : embedder.width].astype(np.float32))
    photos = np.stack(found)
    return photos / np.linalg.norm(photos, axis=1, keepdims=True)
