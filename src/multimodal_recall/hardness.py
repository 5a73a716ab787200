"""How false and how hard drawn negatives are."""

import numpy as np
import pandas as pd

from multimodal_recall.metrics import ndcg_at_5
from multimodal_recall.negatives import RightAnswers
from multimodal_recall.runtime.cores import usable_cores
from multimodal_recall.text import words_of

NEAR = 0.8
"""Cosine of binary tf-idf vectors from which on two query texts ask for much the same."""


MOST = 200
"""Texts near one that are looked at, the nearest first."""


def near_identical(queries: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Find all pairs of distinct texts (Q,) that ask for much the same, both ways round.

    Returns:
        Two arrays of row numbers (pairs,).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sparse_dot_topn import sp_matmul_topn

    vectors = TfidfVectorizer(analyzer=words_of, binary=True, dtype=np.float32).fit_transform(queries)
    found = sp_matmul_topn(vectors, vectors.T.tocsr(), top_n=MOST, threshold=NEAR, n_threads=usable_cores()).tocoo()
    others = found.row != found.col
    return found.row[others], found.col[others]


def are_false(
    queries: list[str], right: tuple[np.ndarray, np.ndarray], wrong: tuple[np.ndarray, np.ndarray], products: int
) -> np.ndarray:
    """Tell which drawn negatives are right answers of a near-identical query, so most likely of this one too.

    Args:
        queries: The chunk's distinct texts.
        right: Query and product row of each right pair.
        wrong: The same of each drawn negative, (n,) and (n,).
        products: Products of the chunk.

    Returns:
        (n,) bools.
    """
    one, other = near_identical(queries)
    pairs = pd.DataFrame({"other": right[0], "product": right[1]})
    near = pd.DataFrame({"one": one, "other": other}).merge(pairs, on="other")
    if near.empty:
        return np.zeros(len(wrong[0]), bool)
    return RightAnswers(near["one"].to_numpy(), near["product"].to_numpy(), products).hold(*wrong)


def hardness(scores: np.ndarray) -> dict[str, float]:
    """How a ranker copes with negatives.

    Args:
        scores: (pairs, 1 + draws): of the right product, then of the wrong ones drawn for it.

    Returns:
        ``beaten``: share of negatives that score above their right product; ``ndcg_at_5`` of the right product among
        its negatives, ties lost.
    """
    pairs, candidates = scores.shape
    table = pd.DataFrame(
        {
            "query_id": np.repeat(np.arange(pairs), candidates),
            # The right product's id is the highest, so that it loses ties.
            "product_id": np.tile(np.arange(candidates)[::-1], pairs),
            "score": scores.ravel(),
        }
    )
    answers = {pair: [candidates - 1] for pair in range(pairs)}
    ndcg = ndcg_at_5(table, answers)["ndcg_at_5"].mean()
    return {"beaten": float((scores[:, 1:] > scores[:, :1]).mean()), "ndcg_at_5": float(ndcg)}
