"""Which wrong products to show beside a right one, drawn for all pairs of a chunk at once."""

import numpy as np
import pyarrow as pa

# After so many vectorised rounds, what is left has almost no product to draw and is searched exactly.
ROUNDS = 32


class NegativeError(Exception):
    """No wrong product can be drawn."""


class RightAnswers:
    """The right (query, product) pairs of a chunk, as row numbers."""

    def __init__(self, query_rows: np.ndarray, product_rows: np.ndarray, products: int) -> None:
        self.products = products
        self.keys = np.unique(query_rows.astype(np.int64) * products + product_rows)

    def hold(self, query_rows: np.ndarray, product_rows: np.ndarray) -> np.ndarray:
        """Whether each product (n,) is a right answer of the query text beside it (n,)."""
        keys = query_rows.astype(np.int64) * self.products + product_rows
        position = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return self.keys[position] == keys

    def of(self, query_row: int) -> np.ndarray:
        """The right products of one query."""
        start, end = np.searchsorted(self.keys, [query_row * self.products, (query_row + 1) * self.products])
        return self.keys[start:end] - query_row * self.products


class LabelSharing:
    """Draws products that share a box label with a given one, each such product with the same probability.

    A label of the given product is drawn with probability proportional to its postings, then one of its postings;
    a product that shares s labels would come up s times as often, so it is kept with probability 1/s.
    """

    def __init__(self, labels: pa.ListArray, label_count: int, ignored: list[int]) -> None:
        """Index the products by label.

        Args:
            labels: Box labels of each product.
            label_count: Labels are 0 to ``label_count - 1``.
            ignored: Labels that do not count.
        """
        products = np.repeat(np.arange(len(labels)), labels.value_lengths().to_numpy())
        self.has = np.zeros((len(labels), label_count), bool)
        self.has[products, labels.flatten().to_numpy()] = True
        self.has[:, ignored] = False
        label_of, self.postings = np.nonzero(self.has.T)
        self.starts = np.searchsorted(label_of, np.arange(label_count + 1))

    def draw(
        self, query_rows: np.ndarray, product_rows: np.ndarray, right: RightAnswers, random: np.random.Generator
    ) -> np.ndarray:
        """Draw one product for each pair.

        Args:
            query_rows: (n,) query of each pair.
            product_rows: (n,) its right product.
            right: The pairs that must not be drawn.
            random: The chunk's stream.

        Returns:
            (n,) product rows; -1 where every product that shares a label is a right answer, or none shares one.
        """
        drawn = np.full(len(query_rows), -1)
        # Products of a posting times whether the pair's product has the label: the mixture to draw a label from.
        weights = np.cumsum(self.has * np.diff(self.starts), axis=1)
        open_rows = np.flatnonzero(weights[product_rows, -1] > 0)
        for _ in range(ROUNDS):
            given = product_rows[open_rows]
            place = random.random(len(given)) * weights[given, -1]
            label = (weights[given] <= place[:, None]).sum(axis=1)
            before = np.where(label > 0, weights[given, label - 1], 0)
            candidate = self.postings[self.starts[label] + (place - before).astype(np.int64)]
            shared = (self.has[given] & self.has[candidate]).sum(axis=1)
            accepted = random.random(len(given)) * shared < 1
            accepted &= ~right.hold(query_rows[open_rows], candidate)
            drawn[open_rows[accepted]] = candidate[accepted]
            open_rows = open_rows[~accepted]
            if not len(open_rows):
                break
        for row in open_rows:  # a handful of rows; the loop is off the hot path
            sharing = np.flatnonzero((self.has & self.has[product_rows[row]]).any(axis=1))
            wrong = np.setdiff1d(sharing, right.of(query_rows[row]), assume_unique=True)
            drawn[row] = random.choice(wrong) if len(wrong) else -1
        return drawn


def draw_others(query_rows: np.ndarray, right: RightAnswers, random: np.random.Generator) -> np.ndarray:
    """Draw, for each query (n,), any product of the chunk that is no right answer of it.

    Raises:
        NegativeError: If all products of the chunk are right answers of a query.
    """
    drawn = random.integers(0, right.products, len(query_rows))
    for row in np.flatnonzero(right.hold(query_rows, drawn)):  # answers are a small share of a chunk
        wrong = np.setdiff1d(np.arange(right.products), right.of(query_rows[row]), assume_unique=True)
        if not len(wrong):
            raise NegativeError(
                f"all {right.products} products of the chunk are right answers of its query {query_rows[row]}: there "
                "is no wrong one to draw. Use fewer, larger chunks (chunks.train)"
            )
        drawn[row] = random.choice(wrong)
    return drawn
