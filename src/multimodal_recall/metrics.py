"""Measures of a ranking, each a definition with its edge cases: one row a query first, means last.

Throughout: relevance is 0 or 1; equal scores are ordered by product id, smaller first, never by file order (a file
that lists right answers first would flatter a constant model).
"""

import numpy as np
import pandas as pd

K = 5
DISCOUNTS = 1 / np.log2(np.arange(2, K + 2))
"""(5,) weights of the ranks in DCG: 1, 1/log2(3), ... (Järvelin and Kekäläinen 2002, base 2)."""
MEASURES = ("ndcg_at_5", "reciprocal_rank", "recall_at_5")


class MetricError(ValueError):
    """Scores or answers cannot be measured."""


def rank_candidates(scores: pd.DataFrame) -> pd.DataFrame:
    """Order each query's candidates, best first.

    Args:
        scores: ``query_id``, ``product_id``, ``score``; one row a candidate.

    Returns:
        The rows in order of query and rank, with ``rank`` added, 1 the best.

    Raises:
        MetricError: If a score is NaN, or a candidate stands twice.
    """
    nan = scores["score"].isna()
    if nan.any():
        row = scores[nan].iloc[0]
        raise MetricError(
            f"{nan.sum()} scores are NaN, first of query {row['query_id']:.0f}, product {row['product_id']:.0f}"
        )
    twice = scores.duplicated(["query_id", "product_id"])
    if twice.any():
        row = scores[twice].iloc[0]
        raise MetricError(
            f"{twice.sum()} candidates stand twice, first query {row['query_id']:.0f}, product {row['product_id']:.0f}"
        )
    order = np.lexsort([scores["product_id"], -scores["score"].to_numpy(), scores["query_id"]])
    ordered = scores.iloc[order].reset_index(drop=True)
    return ordered.assign(rank=ordered.groupby("query_id").cumcount() + 1)


def measure_queries(scores: pd.DataFrame, answers: dict[int, list[int]]) -> pd.DataFrame:
    """Measure each query's ranking.

    - ``ndcg_at_5``: DCG over the first five, divided by that of min(5, answers) ones: right products count toward the
      ideal whether they are candidates or not. The official measure.
    - ``reciprocal_rank``: 1 / rank of the first right product; 0 if none is a candidate.
    - ``recall_at_5``: share of the right products among the first five; with six of them at most 5/6.

    Args:
        scores: ``query_id``, ``product_id``, ``score``; candidates without a score are simply not ranked.
        answers: Right products of each query to be measured; a query without scores counts 0.

    Returns:
        One row a query of ``answers``, in their order: ``query_id``, ``candidates``, ``answers``, the three measures,
        and ``top_5``, the first five products.

    Raises:
        MetricError: As ``rank_candidates``, and if a scored query has no answer.
    """
    ranked = rank_candidates(scores)
    unknown = np.setdiff1d(ranked["query_id"], list(answers))
    if len(unknown):
        raise MetricError(f"{len(unknown)} scored queries have no answer, first {unknown[0]}: another split's answers?")
    right = pd.DataFrame(
        {
            "query_id": np.repeat(list(answers), [len(set(products)) for products in answers.values()]),
            "product_id": [product for products in answers.values() for product in dict.fromkeys(products)],
            "relevance": 1.0,
        }
    )
    ranked = ranked.merge(right, how="left", on=["query_id", "product_id"]).fillna({"relevance": 0.0})
    first = ranked[ranked["rank"] <= K]
    gains = first["relevance"] * DISCOUNTS[first["rank"] - 1]
    queries = pd.Index(answers, name="query_id")
    count = right.groupby("query_id").size().reindex(queries)
    ideal = np.cumsum(DISCOUNTS)[np.minimum(count, K) - 1]
    hits = ranked[ranked["relevance"] > 0]

    def per_query(values: pd.Series, table: pd.DataFrame) -> pd.Series:
        return values.groupby(table["query_id"]).sum().reindex(queries, fill_value=0)

    return pd.DataFrame(
        {
            "candidates": ranked.groupby("query_id").size().reindex(queries, fill_value=0),
            "answers": count,
            "ndcg_at_5": per_query(gains, first) / ideal,
            "reciprocal_rank": 1 / hits.groupby("query_id")["rank"].min().reindex(queries, fill_value=np.inf),
            "recall_at_5": per_query(first["relevance"], first) / count,
            "top_5": first.groupby("query_id")["product_id"].agg(list).reindex(queries),
        }
    ).reset_index()


def bootstrap_interval(
    values: np.ndarray, draws: int, confidence: float, random: np.random.Generator
) -> tuple[float, float]:
    """Confidence interval of a mean over queries, by the percentile bootstrap.

    Args:
        values: (queries,) a measure of each query.
        draws: How often the queries are resampled.
        confidence: Share of the resampled means between the ends.
        random: Stream of the resampling.
    """
    counts = random.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)  # (draws, queries)
    low, high = np.quantile(counts @ values / len(values), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
