"""An index: the encoded products of a catalogue, and exact search in it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.indexable import IndexableRanker

ENCODED_AT_ONCE = 1 << 12  # products
BLOCK_NUMBERS = 1 << 20
"""Numbers of encoded products that are float32 at a time: 4 MB, which a cache holds. With 16 MB, one query took 2.7
times as long (AMD EPYC, one core, 256 numbers a product)."""
BLOCK_PAIR_NUMBERS = 1 << 24  # of scores, or of the numbers that scores are made of: 64 MB
QUERIES_AT_ONCE = 256

Search = Callable[..., tuple[np.ndarray, np.ndarray]]
"""Takes and gives what ``search_index`` takes and gives."""


class EncodingError(Exception):
    """A ranker encodes products or queries as numbers that cannot be compared."""


class IndexMismatch(Exception):
    """An index was made by another model, or of other products."""


@dataclass(frozen=True)
class IndexChunk:
    """The encoded products of a chunk, in order of product id; read from a folder, the arrays are memory maps."""

    ranker: str
    model: str  # version of the ranker's model that has encoded them
    products: str  # version of the chunk's `products`
    product_ids: np.ndarray  # (P,) int64, ascending
    values: np.ndarray  # (P, D) float16, or word-major (words, P); tests take float32
    word_major: bool
    folder: Path | None = None  # that it was read from


@dataclass(frozen=True)
class ProductIndex:
    """The chunks of a catalogue, encoded by one model."""

    ranker: str
    model: str
    chunks: dict[str, IndexChunk]  # by namespace, `train.chunk_000`
    approximate: Search | None = None  # what searches in place of `search_index`

    def product_ids(self) -> np.ndarray:
        """List the distinct products, ascending."""
        return np.unique(np.concatenate([chunk.product_ids for chunk in self.chunks.values()]))

    def check_model(self, version: str) -> None:
        """Refuse vectors of another model than the one that encodes the queries.

        Raises:
            IndexMismatch: With both versions and the command that makes the index anew.
        """
        if version != self.model:
            raise IndexMismatch(
                f"the index of {self.ranker} was made by the model of {self.model}, not by that of {version}. "
                "Make the index anew: kedro run --pipelines=index"
            )


def encode_catalogue(
    ranker: IndexableRanker,
    arrays: ChunkArrays,
    product_ids: np.ndarray,
    dtype: type[np.floating] = np.float16,
    tell: Callable[[int], None] = lambda _: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Encode the products of a chunk; ``product_ids`` (P,) names them in the chunk's order.

    Returns:
        The ids in ascending order (P,), and the encoded products in the same order: (P, D), or (D, P) for a ranker that
        is ``word_major``.

    Raises:
        EncodingError: If a number is NaN or beyond ``dtype``.
    """
    order = np.argsort(product_ids)
    values = np.empty(0, dtype)
    for start in range(0, len(order), ENCODED_AT_ONCE):
        rows = order[start : start + ENCODED_AT_ONCE]
        vectors = ranker.product_vectors(arrays, Pairs(np.zeros_like(rows), rows, np.zeros_like(rows)), tell)
        if not values.size:
            shape = (len(order), vectors.shape[1])
            values = np.empty(shape[::-1] if ranker.word_major else shape, dtype)
        with np.errstate(over="ignore"):  # refused below
            (values.T if ranker.word_major else values)[start : start + len(rows)] = vectors
    if not np.isfinite(values).all():
        raise EncodingError(
            f"{type(ranker).__name__} encodes some of {len(order):,} products as NaN or beyond {dtype.__name__}: its "
            "training went wrong. Train again with a lower learning_rate"
        )
    return product_ids[order], values


@torch.inference_mode()
def search_index(
    ranker: IndexableRanker,
    queries: np.ndarray,
    chunks: Iterable[tuple[IndexChunk, np.ndarray | None]],
    top: int,
    tell: Callable[[int], None] = lambda _: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Score every product for each query, and find the best; memory holds blocks of products, whatever their number.

    A product of several chunks comes once, with its best score. Of equal scores the lower product id comes first.

    Args:
        ranker: The ranker that has encoded the products, on the device that computes.
        queries: (Q, Dq) of ``query_vectors``.
        chunks: The index; with each chunk a mask (P,), True for products that may be found; ``None``: all.
        top: Products a query.
        tell: Called with the number of products of each block.

    Returns:
        Product ids and scores, both (Q, k) and best first; k is ``top``, or the number of products if it is lower.

    Raises:
        EncodingError: If a query is encoded as NaN or infinite.
    """
    ranker.eval()
    check_queries(ranker, queries)
    encoded = torch.from_numpy(queries).to(next(ranker.parameters()).device)
    parts = encoded.split(QUERIES_AT_ONCE)
    found = [(np.empty((len(part), 0), np.int64), np.empty((len(part), 0), np.float32)) for part in parts]
    for chunk, mask in chunks:
        for number, part in enumerate(parts):
            for ids, scores in _search_chunk(ranker, part, chunk, mask, top, tell if number == 0 else lambda _: None):
                found[number] = _merge(found[number], (ids, scores), top)
    ids, scores = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    kept = np.isfinite(scores).all(axis=0)  # a product that the mask leaves out scores minus infinity
    return ids[:, kept], scores[:, kept]


def check_queries(ranker: IndexableRanker, queries: np.ndarray) -> None:
    """Refuse encoded queries (Q, Dq) that cannot be compared.

    Raises:
        EncodingError: If a query is encoded as NaN or infinite.
    """
    if not np.isfinite(queries).all():
        raise EncodingError(
            f"{type(ranker).__name__} encodes a query as NaN or infinite: its training went wrong. Train again with a "
            "lower learning_rate"
        )


def _search_chunk(
    ranker: IndexableRanker,
    queries: Tensor,
    chunk: IndexChunk,
    mask: np.ndarray | None,
    top: int,
    tell: Callable[[int], None],
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Give the ids and scores (Q, k) of the best products of each block, in any order."""
    words = queries.any(dim=0).nonzero().flatten() if chunk.word_major else None
    queries = queries if words is None else queries[:, words]
    size = max(1, BLOCK_PAIR_NUMBERS // len(queries))
    for start in range(0, len(chunk.product_ids), size):
        ids = chunk.product_ids[start : start + size]
        scores = _score(ranker, queries, chunk, words, range(start, start + len(ids)))
        if mask is not None:
            allowed = torch.from_numpy(mask[start : start + size]).to(scores.device)
            scores = scores.masked_fill(~allowed, -torch.inf)
        values, columns = (part.cpu().numpy() for part in _best(scores, top))
        yield ids[columns], values
        tell(len(ids))


def _score(
    ranker: IndexableRanker, queries: Tensor, chunk: IndexChunk, words: Tensor | None, products: range
) -> Tensor:
    """Score some products of a chunk (Q, P) block by block; ``words`` are the rows to read of a word-major chunk."""
    scores = queries.new_empty(len(queries), len(products))
    pairs = len(queries) * ranker.numbers_of_a_pair
    size = max(1, min(BLOCK_NUMBERS // max(1, queries.shape[1]), BLOCK_PAIR_NUMBERS // pairs))
    for start in range(0, len(products), size):
        rows = slice(products.start + start, products.start + min(start + size, len(products)))
        if words is None:
            block = torch.from_numpy(chunk.values[rows])
        else:
            block = torch.from_numpy(chunk.values[:, rows]).index_select(0, words.cpu()).T
        scores[:, start : start + size] = ranker.compare(queries, block.to(queries.device).float())
    return scores


def _best(scores: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Find the ``top`` highest scores (Q, P) of each row and their columns, of equal scores the first columns."""
    top = min(top, scores.shape[1])
    values, columns = scores.topk(top, dim=1)
    lowest = values[:, -1:]
    # Of the products with the lowest score, topk takes any: taken again in the rows where there is a choice.
    for row in ((scores >= lowest).sum(dim=1) > top).nonzero().flatten().tolist():
        above = (scores[row] > lowest[row]).nonzero().flatten()
        equal = (scores[row] == lowest[row]).nonzero().flatten()
        columns[row] = torch.cat([above, equal[: top - len(above)]])
        values[row] = scores[row, columns[row]]
    return values, columns


def _merge(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the best ids and scores (Q, k) of both; see ``keep_best``."""
    return keep_best(*(np.concatenate(arrays, axis=1) for arrays in zip(first, second, strict=True)), top)


def keep_best(ids: np.ndarray, scores: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep ``top`` ids and scores (Q, k) of each query, best first and each id once, with its best score.

    Of equal scores the lower id comes first. If an id stands twice, each query has ``top`` distinct ids, or all queries
    have the same number of them.
    """
    order = np.lexsort((ids, -scores))
    ids, scores = (np.take_along_axis(array, order, axis=1) for array in (ids, scores))
    if (np.diff(np.sort(ids, axis=1), axis=1) == 0).any():
        kept = [np.sort(np.unique(row, return_index=True)[1]) for row in ids]
        least = min(map(len, kept))  # rows with more have them beyond ``top``, or all rows have as many
        order = np.stack([places[:least] for places in kept])
        ids, scores = (np.take_along_axis(array, order, axis=1) for array in (ids, scores))
    return ids[:, :top], scores[:, :top]
