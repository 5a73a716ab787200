"""What a ranker reads: the arrays of a chunk, and the batches that are cut from them by row number."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from multimodal_recall.data.pairs import Pairs, RightAnswers

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# A chunk's arrays are views on read-only parquet buffers; batches only read them.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


@dataclass(frozen=True)
class Reading:
    """What a ranker reads of a chunk besides vectors, words and boxes."""

    tokenizer: "Tokenizer | None" = None  # makes the tokens of a query; `None` for a ranker that reads no tokens
    max_boxes: int | None = None  # boxes to read of a product; `None`: all boxes that ingest has kept


@dataclass(frozen=True)
class Batch:
    """A set of pairs, which holds each distinct query and product once.

    Q queries of at most W words and T tokens, P products of at most B boxes, N pairs. Masks are True on padding.
    """

    query_vectors: Tensor  # (Q, D) of the language model, float16
    word_ids: Tensor  # (Q, W) rows of the word vectors
    word_mask: Tensor  # (Q, W)
    box_features: Tensor  # (P, B, F) float16
    box_positions: Tensor  # (P, B, 6) top, left, bottom, right, area as fractions of the image; height / width
    box_labels: Tensor  # (P, B) rows of the label vectors
    box_mask: Tensor  # (P, B)
    pair_queries: Tensor  # (N,) the row of each pair's query, 0 to Q - 1
    pair_products: Tensor  # (N,) the row of each pair's product, 0 to P - 1
    relevance: Tensor  # (N,) 1 right, 0 wrong
    token_ids: Tensor | None = None  # (Q, T) of the ranker's tokenizer; `None` for a ranker without a tokenizer
    token_mask: Tensor | None = None  # (Q, T)
    right: Tensor | None = None  # (Q, P) True where the product is a right answer; `None`: only pairs are compared
    negatives_per_positive: int | None = None  # as in `Pairs`

    def take_queries(self, rows: slice) -> Self:
        """Cut the arrays that a query encoder reads to some of the queries."""
        return self._take(rows, ("query_vectors", "word_ids", "word_mask", "token_ids", "token_mask"))

    def take_products(self, rows: slice) -> Self:
        """Cut the arrays that an image encoder reads to some of the products."""
        return self._take(rows, ("box_features", "box_positions", "box_labels", "box_mask"))

    def _take(self, rows: slice, names: tuple[str, ...]) -> Self:
        return replace(self, **{name: value[rows] for name, value in self._tensors().items() if name in names})

    def to(self, device: torch.device) -> Self:
        """Copy the batch to another device."""
        return replace(self, **{name: value.to(device) for name, value in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class ChunkArrays:
    """A chunk in memory: ragged arrays without padding, float16 features as on disk."""

    features: np.ndarray  # (boxes, F) float16, product after product
    positions: np.ndarray  # (boxes, 6) float32
    labels: np.ndarray  # (boxes,) int64
    box_counts: np.ndarray  # (products,) int64
    query_vectors: np.ndarray  # (queries, D) float16
    word_ids: np.ndarray  # (words,) int64, query after query
    word_counts: np.ndarray  # (queries,) int64
    last_words: np.ndarray  # (queries,) int64: the same number for the same last word
    token_ids: np.ndarray | None = None  # (tokens,) int64, query after query; `None` for a ranker that reads no tokens
    token_counts: np.ndarray | None = None  # (queries,) int64
    max_boxes: int | None = None  # how many of a product's boxes are read, from the first; `None`: all boxes
    box_rows: np.ndarray | None = None  # (boxes,) rows of `features`, `positions`, `labels`; `None`: all, in order

    def batch(self, pairs: Pairs, right: RightAnswers | None = None) -> Batch:
        """Gather the queries and products of some pairs, each once; ``right`` holds all right pairs of the chunk."""
        queries, pair_queries = np.unique(pairs.query_rows, return_inverse=True)
        products, pair_products = np.unique(pairs.product_rows, return_inverse=True)
        words, word_mask = _padded_rows(self.word_counts, queries)
        boxes, box_mask = self._boxes_of(products)
        optional = {}
        if self.token_ids is not None:
            tokens, token_mask = _padded_rows(self.token_counts, queries)
            optional = {"token_ids": _gather(self.token_ids, tokens), "token_mask": torch.from_numpy(token_mask)}
        if right is not None:
            optional["right"] = torch.from_numpy(right.hold(queries[:, None], products[None]))
        return Batch(
            query_vectors=_gather(self.query_vectors, queries),
            word_ids=_gather(self.word_ids, words),
            word_mask=torch.from_numpy(word_mask),
            box_features=_gather(self.features, boxes),
            box_positions=_gather(self.positions, boxes),
            box_labels=_gather(self.labels, boxes),
            box_mask=torch.from_numpy(box_mask),
            pair_queries=torch.from_numpy(pair_queries),
            pair_products=torch.from_numpy(pair_products),
            relevance=torch.from_numpy(pairs.relevance.astype(np.int64)),
            negatives_per_positive=pairs.negatives_per_positive,
            **optional,
        )

    def take_products(self, rows: np.ndarray) -> Self:
        """Copy some products in the order of ``rows``, with only the boxes that are read; the queries stay."""
        boxes, mask = self._boxes_of(rows)
        kept = boxes[~mask]
        copies = {name: getattr(self, name)[kept] for name in ("features", "positions", "labels")}
        return replace(self, **copies, box_counts=(~mask).sum(axis=1), box_rows=None)

    def _boxes_of(self, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the rows of the products' boxes (products, longest), and the mask, True on padding."""
        boxes, mask = _padded_rows(self.box_counts, products, self.max_boxes)
        return boxes if self.box_rows is None else self.box_rows[boxes], mask

    def batches_by_product(self, pairs: Pairs, size: int) -> Iterator[tuple[np.ndarray, Batch]]:
        """Cut pairs into batches in order of product, so that a product of many queries is encoded once.

        Yields:
            The positions of the batch's pairs among ``pairs``, and the batch.
        """
        order = np.argsort(pairs.product_rows, kind="stable")
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield rows, self.batch(pairs.take(rows))


def _padded_rows(counts: np.ndarray, rows: np.ndarray, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Give row numbers into a ragged array (rows, longest), at most ``most`` a row, and the mask, True on padding."""
    starts = np.cumsum(counts) - counts
    place = np.arange(counts[rows].max())[:most]
    mask = place >= counts[rows, None]
    return np.where(mask, 0, starts[rows, None] + place), mask


def _gather(array: np.ndarray, rows: np.ndarray) -> Tensor:
    # torch copies float16 rows on all cores, numpy's take on one core.
    tensor = torch.from_numpy(array)
    return tensor.index_select(0, torch.from_numpy(rows.ravel())).reshape(*rows.shape, *array.shape[1:])
