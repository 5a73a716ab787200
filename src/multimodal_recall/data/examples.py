"""Read the tables of a chunk into the arrays that batches are cut from."""

import mmap
from collections.abc import Container
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.data.batch import ChunkArrays, Reading
from multimodal_recall.data.boxes import SIDES, relative_positions
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.data.schemas import TABLES, ChunkTables
from multimodal_recall.data.text import last_word_groups, normal_form

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PLAIN = Reading()
PRODUCT_COLUMNS = ["image_h", "image_w", "top", "left", "bottom", "right", "labels"]
ROWS_AT_ONCE = 256  # products whose features are copied at a time: some 4 MB
NO_QUERY = pa.Table.from_pylist([{"query": "", "vector": [0.0], "word_ids": [0]}], TABLES["query_features"])
BOX = {side: [0.0] for side in SIDES}
NO_PRODUCT = pa.Table.from_pylist(
    [{"product_id": 0, "image_h": 1, "image_w": 1, **BOX, "labels": [0], "features": bytes(2)}], TABLES["products"]
)
"""A stand-in for what an encoder of the other side does not read: a batch has a query and a product."""
Tokens = tuple[np.ndarray, np.ndarray]  # token ids of all queries, query after query, and how many each query has


def read_chunk(tables: ChunkTables, reading: Reading = PLAIN, tokens: Tokens | None = None) -> ChunkArrays:
    """Read a chunk's ``products`` and ``query_features`` into memory, features as the float16 they are stored in.

    ``tokens`` is what ``tokenise`` made of the chunk's queries before; made here if ``None``.
    """
    products = tables["products"].to_table(columns=PRODUCT_COLUMNS).combine_chunks()
    queries = tables["query_features"].to_table(columns=["query", "vector", "word_ids"]).combine_chunks()
    texts = queries["query"].to_pylist()
    labels = products["labels"].combine_chunks()
    boxes = labels.value_lengths().to_numpy()
    sides = np.column_stack([_flat_values(products, side) for side in ("top", "left", "bottom", "right")])
    sizes = (np.repeat(products[name].to_numpy(), boxes) for name in ("image_h", "image_w"))
    words = queries["word_ids"].combine_chunks()
    if tokens is None and reading.tokenizer is not None:
        tokens = tokenise(texts, reading.tokenizer)
    token_ids, token_counts = tokens or (None, None)
    return ChunkArrays(
        features=_read_features(tables["products"], boxes),
        positions=relative_positions(sides, *sizes),
        labels=labels.flatten().to_numpy().astype(np.int64),
        box_counts=boxes.astype(np.int64),
        query_vectors=_flat_values(queries, "vector").reshape(queries.num_rows, -1),
        word_ids=words.flatten().to_numpy().astype(np.int64),
        word_counts=words.value_lengths().to_numpy().astype(np.int64),
        last_words=last_word_groups(texts),
        token_ids=token_ids,
        token_counts=token_counts,
        max_boxes=reading.max_boxes,
    )


def read_products(products: ds.Dataset, reading: Reading = PLAIN) -> ChunkArrays:
    """Read products alone, for an encoder of products."""
    return read_chunk({"products": products, "query_features": ds.dataset(NO_QUERY)}, reading)


def read_queries(query_features: ds.Dataset, reading: Reading = PLAIN) -> ChunkArrays:
    """Read queries alone, for an encoder of queries."""
    return read_chunk({"products": ds.dataset(NO_PRODUCT), "query_features": query_features}, reading)


def tokenise(texts: list[str], tokenizer: "Tokenizer") -> Tokens:
    """Give the token ids of all texts, text after text, and the number of tokens of each text."""
    found = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(map(normal_form, texts)))]
    counts = np.array([len(ids) for ids in found], np.int64)
    return np.fromiter(chain.from_iterable(found), np.int64, counts.sum()), counts


def read_candidates(tables: ChunkTables) -> tuple[pa.Table, Pairs]:
    """Read the candidates of a valid or test chunk: their ids and texts, and their rows with unknown relevance."""
    table = tables["pairs"].to_table()
    rows = (table[name].to_numpy() for name in ("query_row", "product_row"))
    return table, Pairs(*rows, np.zeros(table.num_rows, np.int8))


def read_split_queries(examples: dict[str, ChunkTables], wanted: Container[int]) -> tuple[np.ndarray, pa.Table]:
    """Read the queries of a split whose ids are wanted: the ids (Q,), and ``query_features``, a row an id."""
    rows: dict[int, pa.Table] = {}
    for tables in examples.values():
        pairs = tables["pairs"].to_table(columns=["query_id", "query_row"]).to_pandas().drop_duplicates("query_id")
        new = pairs[[query in wanted and query not in rows for query in pairs["query_id"]]]
        features = tables["query_features"].to_table()
        rows |= {query: features.slice(row, 1) for query, row in new.itertuples(index=False)}
    if not rows:
        return np.empty(0, np.int64), NO_QUERY.slice(0, 0)
    return np.fromiter(rows, np.int64), pa.concat_tables(rows.values()).combine_chunks()


def read_split(examples: dict[str, ChunkTables], reading: Reading = PLAIN) -> tuple[ChunkArrays, Pairs]:
    """Read all chunks of a valid or test split as a single chunk: a query's candidates may lie in several chunks.

    All box features of the split are in memory: 4 kB a box of 2048 numbers, twice that while the chunks are joined.

    Args:
        examples: The split's chunks, in file order.

    Returns:
        The products and queries of all chunks, chunk after chunk, and the candidates as their row numbers.
    """
    parts, queries, products = [], 0, 0
    for tables in examples.values():
        pairs = read_candidates(tables)[1]
        parts.append((pairs.query_rows + queries, pairs.product_rows + products, pairs.relevance))
        queries += tables["query_features"].count_rows()
        products += tables["products"].count_rows()
    kinds = ("products", "query_features")
    joined = {kind: ds.dataset([tables[kind] for tables in examples.values()]) for kind in kinds}
    return read_chunk(joined, reading), Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def _read_features(products: ds.Dataset, boxes: np.ndarray) -> np.ndarray:
    """Read all box features (boxes, F) into one array, a few products at a time, so that memory holds them once.

    ``boxes`` (products,) counts those of each product. Read as a whole table, a chunk took three times its size.

    Raises:
        ValueError: If products do not have as many numbers as their boxes.
    """
    ends = np.cumsum([0, *boxes])
    found, row = np.empty((0, 0), np.float16), 0
    ahead = {"batch_readahead": 2, "fragment_readahead": 1}
    for batch in products.to_batches(columns=["features"], batch_size=ROWS_AT_ONCE, **ahead):
        if not batch.num_rows:
            continue
        start, end = ends[[row, row + batch.num_rows]]
        values = _numbers(batch.column(0)).reshape(end - start, -1)
        if not found.size:
            found = _own_memory(int(ends[-1]), values.shape[1])
        found[start:end] = values
        row += batch.num_rows
    return found


def _own_memory(boxes: int, width: int) -> np.ndarray:
    """Give room for features (boxes, width) float16 outside of the heap, which they would break up when they go."""
    return np.frombuffer(mmap.mmap(-1, max(1, 2 * boxes * width)), np.float16, boxes * width).reshape(boxes, width)


def _numbers(column: pa.Array) -> np.ndarray:
    """View the float16 numbers of all rows of a binary column, row after row, without a copy."""
    offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(column.buffers()[2], "<f2")[offsets[0] // 2 : offsets[-1] // 2]


def _flat_values(table: pa.Table, name: str) -> np.ndarray:
    return table[name].combine_chunks().flatten().to_numpy()
