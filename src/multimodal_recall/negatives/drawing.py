"""Draw wrong products for the right products of all pairs of a chunk at once, by several kinds of rules."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.random import Generator

from multimodal_recall.data.pairs import RightAnswers
from multimodal_recall.data.text import words_of
from multimodal_recall.negatives.relative_margin import RelativeMargin
from multimodal_recall.runtime.cores import usable_cores

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# A pair that is still open after 32 vectorised rounds has almost no product to draw and is searched exactly.
ROUNDS = 32


class NegativeError(Exception):
    """No wrong product can be drawn, or the drawn products are not what a ranker wants."""


def ignored_rows(labels: list[str], ignored: Sequence[str]) -> list[int]:
    """Number the labels that do not count as shared.

    Raises:
        NegativeError: If an ignored name is no label.
    """
    if unknown := sorted(set(ignored) - set(labels)):
        raise NegativeError(
            f"sample_negatives.ignored_labels names {unknown}, no label of {labels}. Name labels of the file, or set "
            "it to [] in conf/<env>/parameters.yml"
        )
    return [labels.index(name) for name in ignored]


class LabelSharing:
    """Draws products that share a box label with a given product, all with the same probability.

    A label of the given product is drawn with probability proportional to its postings, then one of the label's
    postings. A product that shares s labels would come up s times as often, so it is kept with probability 1/s.
    """

    def __init__(self, labels: pa.ListArray, label_count: int, ignored: list[int]) -> None:
        """Index the products by their box labels, 0 to ``label_count - 1``, without ``ignored`` labels."""
        products = np.repeat(np.arange(len(labels)), labels.value_lengths().to_numpy())
        self.has = np.zeros((len(labels), label_count), bool)
        self.has[products, labels.flatten().to_numpy()] = True
        self.has[:, ignored] = False
        label_of, self.postings = np.nonzero(self.has.T)
        self.starts = np.searchsorted(label_of, np.arange(label_count + 1))

    def draw(
        self, query_rows: np.ndarray, product_rows: np.ndarray, right: RightAnswers, random: Generator
    ) -> np.ndarray:
        """Draw a wrong product (n,) for each pair (n,), never one of ``right``; -1 where none shares a label."""
        # Products of a posting times whether the pair's product has the label: the mixture to draw a label from.
        weights = np.cumsum(self.has * np.diff(self.starts), axis=1)

        def propose(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            given = product_rows[rows]
            place = random.random(len(given)) * weights[given, -1]
            label = (weights[given] <= place[:, None]).sum(axis=1)
            before = np.where(label > 0, weights[given, label - 1], 0)
            candidate = self.postings[self.starts[label] + (place - before).astype(np.int64)]
            shared = (self.has[given] & self.has[candidate]).sum(axis=1)
            return candidate, (random.random(len(given)) * shared < 1) & ~right.hold(query_rows[rows], candidate)

        drawn, left = _draw_until_accepted(len(query_rows), np.flatnonzero(weights[product_rows, -1] > 0), propose)
        for row in left:  # a handful of rows
            sharing = np.flatnonzero((self.has & self.has[product_rows[row]]).any(axis=1))
            drawn[row] = _any_but(sharing, right.of(query_rows[row]), random)
        return drawn


class SimilarQueries:
    """Draws a product of a similar query text: any of the most similar texts, then any row of the text.

    Similarity is the cosine of binary tf-idf vectors (first place of the KDD Cup). The first place took three times as
    many texts as the most frequent text has rows, thousands because of a single frequent text; here the number of texts
    is an option.
    """

    def __init__(
        self,
        queries: list[str],
        query_rows: np.ndarray,
        product_rows: np.ndarray,
        similar: int,
        margin: RelativeMargin | None = None,
    ) -> None:
        """Index pairs (n,) by query text, and find the ``similar`` texts that each distinct text draws from.

        With a ``margin``, only products that it keeps are drawn.
        """
        self.products, self.starts = _index(query_rows, product_rows, len(queries))
        self.neighbours, self.neighbour_starts = most_similar(queries, similar)
        self.margin = margin

    def draw(
        self, query_rows: np.ndarray, product_rows: np.ndarray, right: RightAnswers, random: Generator
    ) -> np.ndarray:
        """Draw as ``LabelSharing.draw``; -1 where no similar text has a wrong product."""
        similar = np.diff(self.neighbour_starts)

        def propose(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            given = query_rows[rows]
            text = self.neighbours[self.neighbour_starts[given] + random.integers(similar[given])]
            candidate = self.products[random.integers(self.starts[text], self.starts[text + 1])]
            return candidate, ~right.hold(given, candidate) & self._keep(given, product_rows[rows], candidate)

        drawn, left = _draw_until_accepted(len(query_rows), np.flatnonzero(similar[query_rows] > 0), propose)
        for row in left:  # a handful of rows
            query = query_rows[row]
            texts = self.neighbours[self.neighbour_starts[query] : self.neighbour_starts[query + 1]]
            parts = [self.products[self.starts[text] : self.starts[text + 1]] for text in texts]
            products = np.unique(np.concatenate(parts))
            kept = self._keep(*(np.full(len(products), rows[row]) for rows in (query_rows, product_rows)), products)
            drawn[row] = _any_but(products[kept], right.of(query), random)
        return drawn

    def _keep(self, query_rows: np.ndarray, right_rows: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        if self.margin is None:
            return np.ones(len(candidates), bool)
        return self.margin.keep(query_rows, right_rows, candidates)


class SameGroup:
    """Draws a product of a query text of the same group, from all rows of the group with the same probability."""

    def __init__(self, groups: np.ndarray, query_rows: np.ndarray, product_rows: np.ndarray) -> None:
        """Index pairs (n,) by group; ``groups`` (texts,) is the group, from 0, of each distinct query text."""
        self.groups = groups
        self.products, self.starts = _index(groups[query_rows], product_rows, groups.max() + 1)

    def draw(self, query_rows: np.ndarray, _: np.ndarray, right: RightAnswers, random: Generator) -> np.ndarray:
        """Draw as ``LabelSharing.draw``; -1 where the group has no wrong product."""

        def propose(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            group = self.groups[query_rows[rows]]
            candidate = self.products[random.integers(self.starts[group], self.starts[group + 1])]
            return candidate, ~right.hold(query_rows[rows], candidate)

        drawn, left = _draw_until_accepted(len(query_rows), np.arange(len(query_rows)), propose)
        # A group of a single text holds right answers alone; there may be many such rows, which need no search.
        alone = np.bincount(self.groups) == 1
        for row in left[~alone[self.groups[query_rows[left]]]]:
            group = self.groups[query_rows[row]]
            products = np.unique(self.products[self.starts[group] : self.starts[group + 1]])
            drawn[row] = _any_but(products, right.of(query_rows[row]), random)
        return drawn


class Anywhere:
    """Draws any product of the chunk that is no right answer."""

    def draw(self, query_rows: np.ndarray, _: np.ndarray, right: RightAnswers, random: Generator) -> np.ndarray:
        """Draw as ``draw_others``."""
        return draw_others(query_rows, right, random)


def clusters(vectors: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Cluster query vectors (Q, D), scaled to length 1, by k-means, ``size`` in a cluster on average, -> (Q,)."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.preprocessing import normalize

    count = max(1, len(vectors) // size)
    means = MiniBatchKMeans(count, n_init=1, batch_size=4096, random_state=seed)
    return means.fit_predict(normalize(vectors.astype(np.float32))).astype(np.int64)


def text_cosines(queries: list[str], **options: Any) -> "csr_matrix":
    """Compute the largest cosines (Q, Q) of the texts' binary tf-idf vectors; the options are ``sp_matmul_topn``'s."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sparse_dot_topn import sp_matmul_topn

    vectors = TfidfVectorizer(analyzer=words_of, binary=True, dtype=np.float32).fit_transform(queries)
    return sp_matmul_topn(vectors, vectors.T.tocsr(), n_threads=usable_cores(), **options)


def most_similar(queries: list[str], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find for each distinct text the ``count`` most similar texts that share a word with it.

    A text gets one neighbour more where too many texts have just its words, so that it is not among its own nearest.

    Returns:
        Row numbers of the neighbours, text after text, most similar first; and where each text's neighbours begin
        (Q + 1,).
    """
    found = text_cosines(queries, top_n=count + 1, sort=True)
    texts = np.repeat(np.arange(len(queries)), np.diff(found.indptr))
    other = found.indices != texts
    ends = np.cumsum(np.bincount(texts[other], minlength=len(queries)))
    return found.indices[other], np.concatenate([[0], ends])


def _index(groups: np.ndarray, products: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort the products of all rows by the group of the row; give where each of ``count`` groups begins."""
    order = np.argsort(groups, kind="stable")
    return products[order], np.searchsorted(groups[order], np.arange(count + 1))


def _draw_until_accepted(
    count: int, rows: np.ndarray, propose: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Propose products until each row has accepted one, at most ``ROUNDS`` times: (count,) or -1, and the open rows."""
    drawn = np.full(count, -1)
    for _ in range(ROUNDS):
        if not len(rows):
            break
        candidate, accepted = propose(rows)
        drawn[rows[accepted]] = candidate[accepted]
        rows = rows[~accepted]
    return drawn, rows


def _any_but(products: np.ndarray, right: np.ndarray, random: Generator) -> int:
    """Draw a wrong product from distinct ``products``; -1 if all are right."""
    wrong = np.setdiff1d(products, right, assume_unique=True)
    return int(random.choice(wrong)) if len(wrong) else -1


def draw_others(query_rows: np.ndarray, right: RightAnswers, random: Generator) -> np.ndarray:
    """Draw for each query (n,) any product of the chunk that is no right answer.

    Raises:
        NegativeError: If all products of the chunk are right answers of a query.
    """
    drawn = random.integers(0, right.products, len(query_rows))
    for row in np.flatnonzero(right.hold(query_rows, drawn)):  # few rows: right answers are a small share of a chunk
        drawn[row] = _any_but(np.arange(right.products), right.of(query_rows[row]), random)
        if drawn[row] < 0:
            raise NegativeError(
                f"all {right.products} products of the chunk are right answers of its query {query_rows[row]}: there "
                "is no wrong product to draw. Use fewer, larger chunks (chunks.train)"
            )
    return drawn
