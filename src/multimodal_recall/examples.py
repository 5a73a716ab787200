"""From the tables of a chunk to the arrays that a ranker's batches are cut from."""

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.boxes import relative_positions
from multimodal_recall.models.batch import ChunkArrays, Pairs


def read_chunk(tables: dict[str, ds.Dataset]) -> ChunkArrays:
    """Read a chunk's products and query features into memory, features as the float16 they are stored in."""
    products = tables["products"].to_table().combine_chunks()
    queries = tables["query_features"].to_table(columns=["vector", "word_ids"]).combine_chunks()
    labels = _list(products, "labels")
    boxes = labels.value_lengths().to_numpy()
    sides = np.column_stack([_values(products, side) for side in ("top", "left", "bottom", "right")])
    sizes = (np.repeat(products[name].to_numpy(), boxes) for name in ("image_h", "image_w"))
    words = _list(queries, "word_ids")
    return ChunkArrays(
        features=_features(products, int(boxes.sum())),
        positions=relative_positions(sides, *sizes),
        labels=labels.flatten().to_numpy().astype(np.int64),
        box_counts=boxes.astype(np.int64),
        query_vectors=_values(queries, "vector").reshape(queries.num_rows, -1),
        word_ids=words.flatten().to_numpy().astype(np.int64),
        word_counts=words.value_lengths().to_numpy().astype(np.int64),
    )


def read_samples(tables: dict[str, ds.Dataset], epoch: int) -> Pairs:
    """Read one epoch's right and wrong pairs of a training chunk; epochs beyond the last draw start over."""
    samples = tables["samples"]
    draws = int(pa.compute.max(samples.to_table(columns=["epoch"])["epoch"]).as_py()) + 1
    table = samples.to_table(filter=ds.field("epoch") == epoch % draws)
    return Pairs(*(table[name].to_numpy() for name in ("query_row", "product_row", "relevance")))


def read_candidates(tables: dict[str, ds.Dataset]) -> tuple[pa.Table, Pairs]:
    """Read the candidates of a valid or test chunk: their ids and texts, and their rows (relevance unknown, 0)."""
    table = tables["pairs"].to_table()
    rows = (table[name].to_numpy() for name in ("query_row", "product_row"))
    return table, Pairs(*rows, np.zeros(table.num_rows, np.int8))


def _features(products: pa.Table, boxes: int) -> np.ndarray:
    """All box features (boxes, F), a view on the column's buffer."""
    column = products["features"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(column.buffers()[2], np.float16)[offsets[0] // 2 : offsets[-1] // 2].reshape(boxes, -1)


def _list(table: pa.Table, name: str) -> pa.ListArray:
    column = table[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _values(table: pa.Table, name: str) -> np.ndarray:
    return _list(table, name).flatten().to_numpy()
