"""Rules that read the candidate lists instead of the images: the leak, see ``report.content.KIND_MEANINGS``.

Each rule takes ``scores`` (``query_id``, ``product_id``, ``score``; one row a candidate) and returns the rows to keep.
``lists`` (n,) is the number of candidate lists that hold each candidate's product.
"""

import numpy as np
import pandas as pd

from multimodal_recall.evaluation.metrics import K

LEAK_POOR_UNIQUE = 12
"""A query with more unique candidates than this is leak-poor."""


def lists_with_product(candidates: pd.DataFrame) -> np.ndarray:
    """Count the candidate lists that hold each candidate's product (n,)."""
    return candidates.groupby("product_id")["query_id"].transform("nunique").to_numpy()


def leak_poor_queries(candidates: pd.DataFrame, lists: np.ndarray) -> list[int]:
    """Find the queries whose lists give little away: more than twelve of their candidates are in no other list."""
    unique = pd.Series(lists == 1).groupby(candidates["query_id"].to_numpy()).sum()
    return unique.index[unique > LEAK_POOR_UNIQUE].tolist()


def keep_once(scores: pd.DataFrame, lists: np.ndarray) -> pd.DataFrame:
    """Keep the query's products that one list alone holds (first place).

    Where fewer than five remain, the products of two lists are kept as well, then of three, and so on.
    """
    queries = scores["query_id"].to_numpy()
    in_order = pd.Series(lists).sort_values(kind="stable")
    by_query = in_order.groupby(queries[in_order.index])
    fifth = by_query.nth(K - 1)
    limit = pd.Series(fifth.to_numpy(), queries[fifth.index]).reindex(queries)
    return scores[~(lists > limit.to_numpy())]  # a query with fewer than five candidates has no limit


def best_query_only(scores: pd.DataFrame) -> pd.DataFrame:
    """Keep a product only where it scores highest (second place)."""
    return scores[scores["score"] == scores.groupby("product_id")["score"].transform("max")]


def beat_by_margin(scores: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Keep a product of several lists in the list of its best score alone, if a margin is exceeded (second place).

    A query that keeps fewer than five products gets its whole list back.

    Args:
        scores: Probabilities.
        margin: The product's best score must exceed its second best by more than this; published as 0.92.
    """
    ordered = scores.sort_values(["product_id", "score"], ascending=[True, False], kind="stable")
    products = ordered.groupby("product_id")
    lead = ordered["score"] - products["score"].shift(-1)
    alone = products["score"].transform("size") == 1
    kept = alone | ((products.cumcount() == 0) & (lead > margin))
    few = kept.groupby(ordered["query_id"]).transform("sum") < K
    return scores[(kept | few).reindex(scores.index)]
