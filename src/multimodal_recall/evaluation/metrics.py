"""Measures of a ranking, each a definition with its edge cases: one row a query first, means last.

Throughout: relevance is 0 or 1; equal scores are ordered by product id, smaller first, never by file order (a file
that lists right answers first would flatter a constant model); a query without scores counts 0. The official measure
is ours; the others are those of ir-measures (MacAvaney, Macdonald, Ounis, ECIR 2022), which runs TREC's own code.
"""

import itertools
from collections.abc import Mapping

import ir_measures
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

K = 5
DISCOUNTS = 1 / np.log2(np.arange(2, K + 2))
"""(5,) weights of the ranks in DCG: 1, 1/log2(3), ... (Järvelin and Kekäläinen 2002, base 2)."""
IR_MEASURES: Mapping[str, ir_measures.measures.Measure] = {
    "ndcg_at_10": ir_measures.nDCG @ 10,
    "reciprocal_rank": ir_measures.RR,
    "recall_at_5": ir_measures.R @ 5,
    "precision_at_5": ir_measures.P @ 5,
    "average_precision": ir_measures.AP,
}
MEASURES = ("ndcg_at_5", *IR_MEASURES)


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
            f"{nan.sum()} scores are NaN, first of query {row['query_id']:.0f}, product {row['product_id']:.0f}: "
            "give every candidate a score"
        )
    queries, products = (scores[name].to_numpy() for name in ("query_id", "product_id"))
    twice = pd.Series(_pair_keys(queries, products)).duplicated().to_numpy()
    if twice.any():
        row = scores[twice].iloc[0]
        raise MetricError(
            f"{twice.sum()} candidates stand twice, first query {row['query_id']:.0f}, product "
            f"{row['product_id']:.0f}: keep one row each"
        )
    # Arrow sorts a million grouped rows in 0.05 s, numpy's lexsort in 0.45 s.
    keys = pa.table([queries, scores["score"].to_numpy(), products], ["query", "score", "product"])
    order = pc.sort_indices(keys, [("query", "ascending"), ("score", "descending"), ("product", "ascending")])
    ordered = scores.iloc[order.to_numpy()].reset_index(drop=True)
    starts = _starts(ordered["query_id"].to_numpy())
    counts = np.diff(np.append(starts, len(ordered)))
    return ordered.assign(rank=np.arange(1, len(ordered) + 1) - np.repeat(starts, counts))


def _starts(sorted_ids: np.ndarray) -> np.ndarray:
    """Where each id of a sorted array begins."""
    return np.flatnonzero(np.diff(sorted_ids, prepend=sorted_ids[:1] - 1))


def _pair_keys(queries: np.ndarray, products: np.ndarray) -> np.ndarray:
    """One number a (query, product) pair (n,), equal for equal pairs."""
    query_codes, _ = pd.factorize(queries)
    product_codes, known = pd.factorize(products)
    return query_codes * len(known) + product_codes


def measure_queries(scores: pd.DataFrame, answers: dict[int, list[int]]) -> pd.DataFrame:
    """Measure each query's ranking.

    - ``ndcg_at_5``: see ``ndcg_at_5``. ``ndcg_at_10``: the same over the first ten.
    - ``reciprocal_rank``: 1 / rank of the first right product; 0 if none is a candidate.
    - ``recall_at_5``: share of the right products among the first five; with six of them at most 5/6.
    - ``precision_at_5``: share of right products among the first five places, filled or not.
    - ``average_precision``: mean over the right products of the precision at their ranks; 0 for those not ranked.

    Args:
        scores: ``query_id``, ``product_id``, ``score``; candidates without a score are simply not ranked.
        answers: Right products of each query to be measured; a query without scores counts 0.

    Returns:
        One row a query of ``answers``, in their order: ``query_id``, ``candidates``, ``answers``, the measures, and
        ``top_5``, a list of the first five products (none where the query has no scores).

    Raises:
        MetricError: As ``ndcg_at_5``.
    """
    ranked = rank_candidates(scores)
    queries, rank = ranked["query_id"].to_numpy(), ranked["rank"].to_numpy()
    starts = _starts(queries)
    place = pd.Index(answers).get_indexer(queries[starts])  # of each ranked query among the answers
    measured = _ndcg_at_5(ranked, answers)
    candidates = np.diff(np.append(starts, len(queries)))
    ends = np.append(0, np.cumsum(np.minimum(candidates, K))).astype(np.int32)
    # No 33,000 Python lists for a million candidates
    best = pa.ListArray.from_arrays(ends, ranked["product_id"].to_numpy()[rank <= K])
    ranked_place = np.full(len(measured), -1)
    ranked_place[place] = np.arange(len(place))
    top = best.take(pa.array(ranked_place, mask=ranked_place < 0))
    measured.insert(1, "candidates", np.bincount(np.repeat(place, candidates), minlength=len(measured)))
    return measured.assign(**_by_trec(ranked, answers), top_5=pd.Series(top, dtype=pd.ArrowDtype(top.type)))


def ndcg_at_5(scores: pd.DataFrame, answers: dict[int, list[int]]) -> pd.DataFrame:
    """Measure each query's ranking by the official measure alone, in a twentieth of the time of all.

    DCG over the first five, divided by that of min(5, answers) ones: right products count toward the ideal whether
    they are candidates or not.

    Returns:
        One row a query of ``answers``, in their order: ``query_id``, ``answers`` (distinct ones), ``ndcg_at_5``.

    Raises:
        MetricError: As ``rank_candidates``, and if a scored query has no answer.
    """
    return _ndcg_at_5(rank_candidates(scores), answers)


def _ndcg_at_5(ranked: pd.DataFrame, answers: dict[int, list[int]]) -> pd.DataFrame:
    queries, products, rank = (ranked[name].to_numpy() for name in ("query_id", "product_id", "rank"))
    place = pd.Index(answers).get_indexer(queries)
    if (place < 0).any():
        unknown = pd.unique(queries[place < 0])
        raise MetricError(
            f"{len(unknown)} scored queries have no answer, first {unknown[0]}: take the same split's answers, or "
            "leave these queries out"
        )
    relevant, count = relevance_of(queries, products, answers)
    listed = relevant & (rank <= K)
    gains = np.bincount(place[listed], DISCOUNTS[rank[listed] - 1], minlength=len(count))
    ideal = np.cumsum(DISCOUNTS)[np.minimum(count, K) - 1]
    return pd.DataFrame({"query_id": np.fromiter(answers, np.int64), "answers": count, "ndcg_at_5": gains / ideal})


def _by_trec(ranked: pd.DataFrame, answers: dict[int, list[int]]) -> dict[str, np.ndarray]:
    """The measures (queries,) that TREC's evaluation defines as we do; ties are gone, since ranks are handed over."""
    starts = np.append(_starts(ranked["query_id"].to_numpy()), len(ranked))
    products, scores = ranked["product_id"].astype(str).to_numpy(), -ranked["rank"].to_numpy(np.float64)
    run = {
        str(query): dict(zip(products[start:end].tolist(), scores[start:end].tolist(), strict=True))
        for query, start, end in zip(
            ranked["query_id"].to_numpy()[starts[:-1]].tolist(), starts[:-1], starts[1:], strict=True
        )
    }
    right = {str(query): dict.fromkeys(map(str, products), 1) for query, products in answers.items()}
    rows = {query: row for row, query in enumerate(right)}
    found = {name: np.zeros(len(right)) for name in IR_MEASURES}
    names = {measure: name for name, measure in IR_MEASURES.items()}
    for metric in ir_measures.iter_calc(list(IR_MEASURES.values()), right, run):
        found[names[metric.measure]][rows[metric.query_id]] = metric.value
    return found


def relevance_of(
    queries: np.ndarray, products: np.ndarray, answers: dict[int, list[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each candidate (n,) is a right answer, and the number of distinct right answers of each query (Q,)."""
    lengths = np.fromiter(map(len, answers.values()), np.int64)
    right = np.fromiter(itertools.chain.from_iterable(answers.values()), np.int64)
    answered = np.repeat(np.fromiter(answers, np.int64), lengths)
    keys = _pair_keys(np.concatenate([queries, answered]), np.concatenate([products, right]))
    candidate_keys, right_keys = np.split(keys, [len(queries)])
    distinct = ~pd.Series(right_keys).duplicated().to_numpy()
    count = np.bincount(np.repeat(np.arange(len(answers)), lengths)[distinct], minlength=len(answers))
    return pd.Series(candidate_keys).isin(right_keys).to_numpy(), count
