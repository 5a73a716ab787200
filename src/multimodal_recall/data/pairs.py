"""(query, product) pairs of a chunk, and the right ones among them."""

from typing import NamedTuple

import numpy as np


class Pairs(NamedTuple):
    """(query, product) pairs of a chunk as row numbers, each array (n,)."""

    query_rows: np.ndarray
    product_rows: np.ndarray
    relevance: np.ndarray
    """1 right, 0 wrong; 0 throughout where it is to be found out."""

    def take(self, rows: np.ndarray) -> "Pairs":
        """The pairs of some rows, in their order."""
        return Pairs(*(array[rows] for array in self))


class RightAnswers:
    """The right (query, product) pairs of a chunk, as row numbers."""

    def __init__(self, query_rows: np.ndarray, product_rows: np.ndarray, products: int) -> None:
        self.products = products
        self.keys = np.unique(query_rows.astype(np.int64) * products + product_rows)

    @classmethod
    def among(cls, pairs: "Pairs", products: int) -> "RightAnswers":
        """The right ones of some pairs."""
        right = pairs.relevance == 1
        return cls(pairs.query_rows[right], pairs.product_rows[right], products)

    def hold(self, query_rows: np.ndarray, product_rows: np.ndarray) -> np.ndarray:
        """Whether each product is a right answer of the query text beside it; two arrays that broadcast."""
        keys = query_rows.astype(np.int64) * self.products + product_rows
        position = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return self.keys[position] == keys

    def of(self, query_row: int) -> np.ndarray:
        """The right products of one query."""
        start, end = np.searchsorted(self.keys, [query_row * self.products, (query_row + 1) * self.products])
        return self.keys[start:end] - query_row * self.products
