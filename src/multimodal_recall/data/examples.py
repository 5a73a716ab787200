"""From the tables of a chunk to the arrays that a ranker's batches are cut from."""

import logging
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset as ds

from multimodal_recall.data.batch import ChunkArrays, Reading
from multimodal_recall.data.boxes import relative_positions
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.data.text import last_word_groups

if TYPE_CHECKING:
    from tokenizers import Tokenizer


logger = logging.getLogger(__name__)

PLAIN = Reading()
Tokens = tuple[np.ndarray, np.ndarray]
"""Token ids of all queries, one query after the other, and how many each query has."""


def read_chunk(tables: dict[str, ds.Dataset], reading: Reading = PLAIN, tokens: Tokens | None = None) -> ChunkArrays:
    """Read a chunk's products and query features into memory, features as the float16 they are stored in.

    Args:
        tables: ``products`` and ``query_features`` of the chunk.
        reading: What else the ranker reads; ``Ranker.reading``.
        tokens: What ``tokenise`` made of the chunk's queries before; made here if ``None``.
    """
    products = tables["products"].to_table().combine_chunks()
    queries = tables["query_features"].to_table(columns=["query", "vector", "word_ids"]).combine_chunks()
    texts = queries["query"].to_pylist()
    labels = list_column(products, "labels")
    boxes = labels.value_lengths().to_numpy()
    sides = np.column_stack([_values(products, side) for side in ("top", "left", "bottom", "right")])
    sizes = (np.repeat(products[name].to_numpy(), boxes) for name in ("image_h", "image_w"))
    words = list_column(queries, "word_ids")
    if tokens is None and reading.tokenizer is not None:
        tokens = tokenise(texts, reading.tokenizer)
    token_ids, token_counts = tokens or (None, None)
    return ChunkArrays(
        features=_features(products, int(boxes.sum())),
        positions=relative_positions(sides, *sizes),
        labels=labels.flatten().to_numpy().astype(np.int64),
        box_counts=boxes.astype(np.int64),
        query_vectors=_values(queries, "vector").reshape(queries.num_rows, -1),
        word_ids=words.flatten().to_numpy().astype(np.int64),
        word_counts=words.value_lengths().to_numpy().astype(np.int64),
        last_words=last_word_groups(texts),
        token_ids=token_ids,
        token_counts=token_counts,
        max_boxes=reading.max_boxes,
    )


def tokenise(texts: list[str], tokenizer: "Tokenizer") -> Tokens:
    """Token ids of all texts, one after the other, and how many each has."""
    found = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    counts = np.array([len(ids) for ids in found], np.int64)
    return np.fromiter(chain.from_iterable(found), np.int64, counts.sum()), counts


def read_candidates(tables: dict[str, ds.Dataset]) -> tuple[pa.Table, Pairs]:
    """Read the candidates of a valid or test chunk: their ids and texts, and their rows (relevance unknown, 0)."""
    table = tables["pairs"].to_table()
    rows = (table[name].to_numpy() for name in ("query_row", "product_row"))
    return table, Pairs(*rows, np.zeros(table.num_rows, np.int8))


def read_split(examples: dict[str, dict[str, ds.Dataset]], reading: Reading = PLAIN) -> tuple[ChunkArrays, Pairs]:
    """Read all chunks of a valid or test split as if they were one: a query's candidates may lie in several.

    All box features of the split are in memory then, 4 kB a box of 2048 numbers, and twice while chunks are joined.

    Args:
        examples: The split's chunks, in file order.
        reading: See ``read_chunk``.

    Returns:
        Products and queries of the chunks, one chunk's after the other's, and the candidates' rows in them.
    """
    parts, queries, products = [], 0, 0
    for tables in examples.values():
        pairs = read_candidates(tables)[1]
        parts.append(Pairs(pairs.query_rows + queries, pairs.product_rows + products, pairs.relevance))
        queries += tables["query_features"].count_rows()
        products += tables["products"].count_rows()
    together = {
        kind: ds.dataset([tables[kind] for tables in examples.values()]) for kind in ("products", "query_features")
    }
    return read_chunk(together, reading), Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def _features(products: pa.Table, boxes: int) -> np.ndarray:
    """All box features (boxes, F), a view on the column's buffer."""
    column = products["features"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(column.buffers()[2], "<f2")[offsets[0] // 2 : offsets[-1] // 2].reshape(boxes, -1)


def list_column(table: pa.Table, name: str) -> pa.ListArray:
    """A column of lists as one array."""
    column = table[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _values(table: pa.Table, name: str) -> np.ndarray:
    return list_column(table, name).flatten().to_numpy()
