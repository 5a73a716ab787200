"""From the tables of a chunk to the arrays that a ranker's batches are cut from."""

import logging
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset as ds

from multimodal_recall.boxes import relative_positions
from multimodal_recall.datasets.chunk_list import ChunkTables
from multimodal_recall.models.batch import ChunkArrays, Pairs, Reading
from multimodal_recall.negatives import NegativeError, last_word_groups
from multimodal_recall.ranker_options import RankerOptions
from multimodal_recall.tables import way_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer


logger = logging.getLogger(__name__)

PLAIN = Reading()
PARTS = {"language_model": "language model", "words": "list of words"}


class WayError(Exception):
    """Queries became numbers in another way than those that a ranker was, or is to be, trained on."""


def check_way(examples: dict[str, ChunkTables], way: dict[str, str], whose: str) -> None:
    """Refuse chunks whose queries became numbers in another way; warn of those in another precision.

    Args:
        examples: Lazy tables of each chunk.
        way: What it should have been; see ``tables.way_of``.
        whose: What went that way, for the error.

    Raises:
        WayError: With the file, and what was another: equal numbers would not stand for equal words.
    """
    for tables in examples.values():
        found = way_of(tables["query_features"])
        if others := [part for key, part in PARTS.items() if found[key] != way[key]]:
            raise WayError(
                f"{tables['query_features'].files[0]} was made with another {' and '.join(others)} than {whose}. Make "
                "all query features, and what follows from them, alike: kedro run "
                "--pipelines=featurize,sample_negatives,train,evaluate"
            )
        if found["precision"] != way["precision"]:
            logger.warning(
                "%s holds query vectors made in %s, beside %s in %s: figures may move in the third digit. To make all "
                "alike, set hardware.precision and run --pipelines=featurize,sample_negatives,train,evaluate",
                *(tables["query_features"].files[0], found["precision"], whose, way["precision"]),
            )


def read_chunk(tables: dict[str, ds.Dataset], reading: Reading = PLAIN) -> ChunkArrays:
    """Read a chunk's products and query features into memory, features as the float16 they are stored in.

    Args:
        tables: ``products`` and ``query_features`` of the chunk.
        reading: What else the ranker reads; ``Ranker.reading``.
    """
    products = tables["products"].to_table().combine_chunks()
    queries = tables["query_features"].to_table(columns=["query", "vector", "word_ids"]).combine_chunks()
    texts = queries["query"].to_pylist()
    labels = _list(products, "labels")
    boxes = labels.value_lengths().to_numpy()
    sides = np.column_stack([_values(products, side) for side in ("top", "left", "bottom", "right")])
    sizes = (np.repeat(products[name].to_numpy(), boxes) for name in ("image_h", "image_w"))
    words = _list(queries, "word_ids")
    token_ids, token_counts = (None, None) if reading.tokenizer is None else tokenise(texts, reading.tokenizer)
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


def tokenise(texts: list[str], tokenizer: "Tokenizer") -> tuple[np.ndarray, np.ndarray]:
    """Token ids of all texts, one after the other, and how many each has."""
    found = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    counts = np.array([len(ids) for ids in found], np.int64)
    return np.fromiter(chain.from_iterable(found), np.int64, counts.sum()), counts


def read_samples(
    tables: dict[str, ds.Dataset], epoch: int, options: RankerOptions, random: np.random.Generator
) -> Pairs:
    """Read one epoch's right and wrong pairs of a training chunk; epochs beyond the last draw start over.

    Args:
        tables: ``samples`` of the chunk.
        epoch: From 0.
        options: How the kinds of negatives are mixed, and how many are taken.
        random: Of the mixing.

    Returns:
        Each right pair, followed by its ``negatives_per_positive`` wrong ones.

    Raises:
        NegativeError: If a kind was not drawn, or not often enough.
    """
    samples, k = tables["samples"], options.negatives_per_positive
    draws = int(pa.compute.max(samples.to_table(columns=["epoch"])["epoch"]).as_py()) + 1
    drawn = samples.to_table(filter=ds.field("epoch") == (epoch % draws if options.fresh_negatives else 0))
    wrong = {kind: _wrong_rows(drawn, kind, k) for kind in pa.compute.unique(drawn["kind"]).to_pylist()}
    weights = mixture(options, epoch) if k else {next(iter(wrong)): 1.0}
    if unknown := sorted(set(weights) - set(wrong)):
        raise NegativeError(
            f"the ranker's negatives name {unknown}, but the samples hold {sorted(wrong)}. Add it to "
            "sample_negatives.kinds, then: kedro run --pipelines=sample_negatives,train,evaluate"
        )
    first = drawn.filter(pa.compute.equal(drawn["kind"], next(iter(wrong))))
    query_rows, product_rows = (first[name].to_numpy() for name in ("query_row", "product_row"))
    kinds = random.choice(len(weights), (len(first), k), p=np.array(list(weights.values())))
    mixed = np.stack([wrong[kind] for kind in weights])[kinds, np.arange(len(first))[:, None], np.arange(k)]
    together = np.column_stack([product_rows, mixed])
    return Pairs(np.repeat(query_rows, k + 1), together.ravel(), np.tile(np.array([1] + [0] * k, np.int8), len(first)))


def _wrong_rows(drawn: pa.Table, kind: str, wanted: int) -> np.ndarray:
    """The first ``wanted`` wrong products of each pair (n, wanted)."""
    rows = _list(drawn.filter(pa.compute.equal(drawn["kind"], kind)), "wrong_rows")
    wrong = rows.flatten().to_numpy().reshape(len(rows), -1)
    if wrong.shape[1] < wanted:
        raise NegativeError(
            f"the ranker takes {wanted} negatives a right pair, but {wrong.shape[1]} were drawn. Set "
            f"sample_negatives.negatives_per_positive to {wanted}, then: kedro run "
            "--pipelines=sample_negatives,train,evaluate"
        )
    return wrong[:, :wanted]


def mixture(options: RankerOptions, epoch: int) -> dict[str, float]:
    """Share of each kind of negatives in an epoch, from ``negatives`` in the first to ``negatives_at_end``."""
    ends = [options.negatives, options.negatives if options.negatives_at_end is None else options.negatives_at_end]
    done = epoch / max(options.epochs - 1, 1)
    shares = [{kind: weight / sum(end.values()) for kind, weight in end.items()} for end in ends]
    mixed = {
        kind: (1 - done) * shares[0].get(kind, 0) + done * shares[1].get(kind, 0) for kind in {**ends[0], **ends[1]}
    }
    return {kind: share for kind, share in mixed.items() if share > 0}


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


def _list(table: pa.Table, name: str) -> pa.ListArray:
    column = table[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _values(table: pa.Table, name: str) -> np.ndarray:
    return _list(table, name).flatten().to_numpy()
