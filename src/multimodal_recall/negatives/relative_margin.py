"""Positive-aware mining (NV-Retriever, arXiv 2407.15831): no negatives that score almost as the right product does."""

import numpy as np

from multimodal_recall.data.text import words_of

PAIRS_AT_ONCE = 1 << 16


class RelativeMargin:
    """Tells which products score low enough for a query to be negatives.

    A score is the cosine of two binary tf-idf vectors: the query's words, and the words of all the chunk's queries that
    the product is right for. The right product has all words of its query, and scores below 1 where its other queries
    add words. The publication scores by a trained retrieval model; before any training, words are all there is to
    score by.

    Memory: a number for each word of each text, one for each word of each product, and ``PAIRS_AT_ONCE`` pairs.
    """

    def __init__(
        self, queries: list[str], query_rows: np.ndarray, product_rows: np.ndarray, products: int, margin: float
    ) -> None:
        """Index distinct texts (Q,) and the right pairs (n,) of a chunk of so many products."""
        from scipy.sparse import csr_matrix
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

        words = CountVectorizer(analyzer=words_of, binary=True, dtype=np.float32).fit_transform(queries)
        has = csr_matrix((np.ones(len(query_rows), np.float32), (product_rows, query_rows)), (products, len(queries)))
        of_products = has @ words
        of_products.data[:] = 1
        weigh = TfidfTransformer().fit(words)
        self.queries, self.products = weigh.transform(words), weigh.transform(of_products)
        self.margin = margin

    def score(self, query_rows: np.ndarray, product_rows: np.ndarray) -> np.ndarray:
        """Score each product for the query beside it, (n,) from 0 to 1."""
        scores = np.empty(len(query_rows), np.float32)
        for start in range(0, len(scores), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            shared = self.queries[query_rows[part]].multiply(self.products[product_rows[part]])
            scores[part] = np.asarray(shared.sum(axis=1)).ravel()
        return scores

    def keep(self, query_rows: np.ndarray, right_rows: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Tell whether each candidate (n,) scores below (1 - margin) times the right product of its pair (n,)."""
        return self.score(query_rows, candidates) < (1 - self.margin) * self.score(query_rows, right_rows)
