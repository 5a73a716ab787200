"""Which wrong products to show beside a right one, drawn for all pairs of a chunk at once."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from multimodal_recall.data.pairs import RightAnswers
from multimodal_recall.data.text import words_of
from multimodal_recall.runtime.cores import usable_cores

# After so many vectorised rounds, what is left has almost no product to draw and is searched exactly.
ROUNDS = 32


class NegativeError(Exception):
    """No wrong product can be drawn, or those that were drawn are not what a ranker wants."""


def ignored_rows(labels: list[str], ignored: Sequence[str]) -> list[int]:
    """Numbers of the labels that do not count as shared.

    Raises:
        NegativeError: If one is no label.
    """
    if unknown := sorted(set(ignored) - set(labels)):
        raise NegativeError(
            f"sample_negatives.ignored_labels names {unknown}, no label of {labels}. Name labels of the file, or set "
            "it to [] in conf/<env>/parameters.yml"
        )
    return [labels.index(name) for name in ignored]


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
        for row in left:  # a handful of rows; the loop is off the hot path
            sharing = np.flatnonzero((self.has & self.has[product_rows[row]]).any(axis=1))
            drawn[row] = _any_but(sharing, right.of(query_rows[row]), random)
        return drawn


class SimilarQueries:
    """Draws a product of a query text like the given one: any of the most similar texts, then any of its rows.

    Similarity is the cosine of binary tf-idf vectors (first place of the KDD Cup). It took three times as many texts as
    the most frequent one has rows, which one frequent text makes thousands; here their number is given.
    """

    def __init__(self, queries: list[str], query_rows: np.ndarray, product_rows: np.ndarray, similar: int) -> None:
        """Index the rows by text and find each text's neighbours.

        Args:
            queries: The distinct texts of the chunk.
            query_rows: (n,) text of each pair.
            product_rows: (n,) its right product.
            similar: Texts to draw from.
        """
        order = np.argsort(query_rows, kind="stable")
        self.products = product_rows[order]
        self.starts = np.searchsorted(query_rows[order], np.arange(len(queries) + 1))
        self.neighbours, self.neighbour_starts = most_similar(queries, similar)

    def draw(
        self, query_rows: np.ndarray, product_rows: np.ndarray, right: RightAnswers, random: np.random.Generator
    ) -> np.ndarray:
        """Draw one product for each pair; as ``LabelSharing.draw``, -1 where no similar text has a wrong product."""
        del product_rows
        similar = np.diff(self.neighbour_starts)

        def propose(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            given = query_rows[rows]
            text = self.neighbours[self.neighbour_starts[given] + random.integers(similar[given])]
            candidate = self.products[random.integers(self.starts[text], self.starts[text + 1])]
            return candidate, ~right.hold(given, candidate)

        drawn, left = _draw_until_accepted(len(query_rows), np.flatnonzero(similar[query_rows] > 0), propose)
        for row in left:  # as rare as above
            query = query_rows[row]
            texts = self.neighbours[self.neighbour_starts[query] : self.neighbour_starts[query + 1]]
            products = np.concatenate([self.products[self.starts[text] : self.starts[text + 1]] for text in texts])
            drawn[row] = _any_but(np.unique(products), right.of(query), random)
        return drawn


class SameGroup:
    """Draws a product of a query text of the same group, any of the group's rows with the same probability."""

    def __init__(self, groups: np.ndarray, query_rows: np.ndarray, product_rows: np.ndarray) -> None:
        """Index the rows by group.

        Args:
            groups: (texts,) group of each distinct text of the chunk, from 0.
            query_rows: (n,) text of each pair.
            product_rows: (n,) its right product.
        """
        of_row = groups[query_rows]
        self.groups, self.products = groups, product_rows[np.argsort(of_row, kind="stable")]
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(of_row, minlength=groups.max() + 1))])

    def draw(
        self, query_rows: np.ndarray, product_rows: np.ndarray, right: RightAnswers, random: np.random.Generator
    ) -> np.ndarray:
        """Draw one product for each pair; as ``LabelSharing.draw``, -1 where the group has no wrong product."""
        del product_rows

        def propose(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            group = self.groups[query_rows[rows]]
            candidate = self.products[random.integers(self.starts[group], self.starts[group + 1])]
            return candidate, ~right.hold(query_rows[rows], candidate)

        drawn, left = _draw_until_accepted(len(query_rows), np.arange(len(query_rows)), propose)
        # Many rows where many groups hold one text alone: its own rows are all that there is.
        alone = np.bincount(self.groups) == 1
        for row in left[~alone[self.groups[query_rows[left]]]]:
            group = self.groups[query_rows[row]]
            products = np.unique(self.products[self.starts[group] : self.starts[group + 1]])
            drawn[row] = _any_but(products, right.of(query_rows[row]), random)
        return drawn


class Anywhere:
    """Draws any product of the chunk that is no right answer."""

    def draw(
        self, query_rows: np.ndarray, product_rows: np.ndarray, right: RightAnswers, random: np.random.Generator
    ) -> np.ndarray:
        """Draw one product for each pair; see ``draw_others``."""
        del product_rows
        return draw_others(query_rows, right, random)


def clusters(vectors: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Cluster the query vectors (Q, D) by k-means, scaled to length 1.

    Args:
        vectors: Of the language model.
        size: Vectors to a cluster, on average.
        seed: Of the k-means.

    Returns:
        (Q,) the cluster of each.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.preprocessing import normalize

    count = max(1, len(vectors) // size)
    means = MiniBatchKMeans(count, n_init=1, batch_size=4096, random_state=seed)
    return means.fit_predict(normalize(vectors.astype(np.float32))).astype(np.int64)


def most_similar(queries: list[str], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the texts most like each of the distinct ``queries`` (Q,), among those that share a word with it.

    Args:
        queries: The texts.
        count: How many for each; one more where so many have just its words that it is not among its own nearest.

    Returns:
        Row numbers, text after text, most similar first, and where each text's begin (Q + 1,).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sparse_dot_topn import sp_matmul_topn

    vectors = TfidfVectorizer(analyzer=words_of, binary=True, dtype=np.float32).fit_transform(queries)
    found = sp_matmul_topn(vectors, vectors.T.tocsr(), top_n=count + 1, sort=True, n_threads=usable_cores())
    of = np.repeat(np.arange(len(queries)), np.diff(found.indptr))
    others = found.indices != of
    ends = np.cumsum(np.bincount(of[others], minlength=len(queries)))
    return found.indices[others], np.concatenate([[0], ends])


def _draw_until_accepted(
    count: int, rows: np.ndarray, propose: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Propose products for the rows until each is accepted, at most ``ROUNDS`` times.

    Returns:
        (count,) products, -1 where there is none, and the rows that are still open.
    """
    drawn = np.full(count, -1)
    for _ in range(ROUNDS):
        if not len(rows):
            break
        candidate, accepted = propose(rows)
        drawn[rows[accepted]] = candidate[accepted]
        rows = rows[~accepted]
    return drawn, rows


def _any_but(products: np.ndarray, right: np.ndarray, random: np.random.Generator) -> int:
    """Draw one of some distinct products that is not right; -1 where there is none."""
    wrong = np.setdiff1d(products, right, assume_unique=True)
    return int(random.choice(wrong)) if len(wrong) else -1


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
