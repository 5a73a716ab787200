"""Rules that read the candidate lists instead of the images: the leak, see ``report.content.KIND_MEANINGS``.

Each takes ``scores`` (``query_id``, ``product_id``, ``score``; one row a candidate) and gives the rows that it keeps.
"""

import numpy as np
import pandas as pd

from multimodal_recall.evaluation.metrics import K

LEAK_POOR_UNIQUE = 12


def lists_with_product(candidates: pd.DataFrame) -> np.ndarray:
    """In how many of these candidate lists each candidate's product stands (n,)."""
    return candidates.groupby("product_id")["query_id"].transform("nunique").to_numpy()


def leak_poor_queries(candidates: pd.DataFrame, lists: np.ndarray) -> list[int]:
    """Queries with more than twelve candidates that stand in no other list, whose lists give little away."""
    unique = pd.Series(lists == 1).groupby(candidates["query_id"].to_numpy()).sum()
    return unique.index[unique > LEAK_POOR_UNIQUE].tolist()


def keep_once(scores: pd.DataFrame, lists: np.ndarray) -> pd.DataFrame:
    """Keep a query's products that stand in one list (first place); with fewer than five, in two, then three, ...

    Args:
        scores: The candidates.
        lists: (n,) in how many lists each one's product stands.
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


def beat_by_margin(scores: pd.DataFrame, margin: float = 0.92) -> pd.DataFrame:
    """Keep a product of several lists only in its best one, if it leads there by a margin (second place).

    A query that keeps fewer than five gets its whole list back.

    Args:
        scores: The candidates; scores are probabilities.
        margin: Least difference between a product's best two scores; 0.92 is the published one.
    """
    ordered = scores.sort_values(["product_id", "score"], ascending=[True, False], kind="stable")
    products = ordered.groupby("product_id")
    lead = ordered["score"] - products["score"].shift(-1)
    alone = products["score"].transform("size") == 1
    kept = alone | ((products.cumcount() == 0) & (lead > margin))
    few = kept.groupby(ordered["query_id"]).transform("sum") < K
    return scores[(kept | few).reindex(scores.index)]
