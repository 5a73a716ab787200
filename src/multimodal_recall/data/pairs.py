"""(query, product) pairs of a chunk, and the right pairs among them."""

from typing import NamedTuple, Self

import numpy as np


class Pairs(NamedTuple):
    """(query, product) pairs of a chunk as row numbers, each array (n,)."""

    query_rows: np.ndarray
    product_rows: np.ndarray
    relevance: np.ndarray  # 1 right, 0 wrong; 0 throughout where the relevance is unknown
    negatives_per_positive: int | None = None  # k, where each right pair is followed by its k wrong pairs; else `None`

    @classmethod
    def grouped(cls, query_rows: np.ndarray, product_rows: np.ndarray) -> Self:
        """Make training pairs from queries (right pairs,) and products (right pairs, 1 + k), right product first."""
        right, group = product_rows.shape
        relevance = np.tile(np.array([1] + [0] * (group - 1), np.int8), right)
        return cls(np.repeat(query_rows, group), product_rows.ravel(), relevance, group - 1)

    def take(self, rows: np.ndarray) -> Self:
        """Select single pairs by row number, in the order of ``rows`` (n,)."""
        return type(self)(self.query_rows[rows], self.product_rows[rows], self.relevance[rows])

    def take_groups(self, rows: np.ndarray) -> Self:
        """Select right pairs together with their wrong pairs, by row numbers (right pairs, 1 + k)."""
        return self.take(rows.ravel())._replace(negatives_per_positive=self.negatives_per_positive)


class RightAnswers:
    """The right (query, product) pairs of a chunk, as row numbers."""

    def __init__(self, query_rows: np.ndarray, product_rows: np.ndarray, products: int) -> None:
        self.products = products
        self.keys = np.unique(query_rows.astype(np.int64) * products + product_rows)

    @classmethod
    def among(cls, pairs: Pairs, products: int) -> Self:
        """Collect the right pairs among ``pairs``."""
        right = pairs.relevance == 1
        return cls(pairs.query_rows[right], pairs.product_rows[right], products)

    def hold(self, query_rows: np.ndarray, product_rows: np.ndarray) -> np.ndarray:
        """Tell whether each product is a right answer of the query beside it; the two arrays broadcast."""
        keys = query_rows.astype(np.int64) * self.products + product_rows
        position = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return self.keys[position] == keys

    def of(self, query_row: int) -> np.ndarray:
        """List the right products of a query."""
        start, end = np.searchsorted(self.keys, [query_row * self.products, (query_row + 1) * self.products])
        return self.keys[start:end] - query_row * self.products
