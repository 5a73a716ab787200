"""Measures of a ranking, query by query, each defined with its edge cases.

Throughout: relevance is 0 or 1. Equal scores are ordered by product id, smaller first, never by file order: a file that
lists right answers first would flatter a constant model. A query without scores counts 0. A test compares each measure
with ir-measures (MacAvaney, Macdonald, Ounis, ECIR 2022), which runs TREC's own code, query by query.
``scores`` has ``query_id``, ``product_id``, ``score``, one row a candidate; ``answers`` the right products by query.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

IDS = ["query_id", "product_id"]
K = 5


def discounts(k: int) -> np.ndarray:
    """Give the weights of the first k ranks in DCG: 1, 1/log2(3), ... (Järvelin and Kekäläinen 2002, base 2)."""
    return 1 / np.log2(np.arange(2, k + 2))


class Hits(NamedTuple):
    """The right products among the ranked candidates, query by query and best first."""

    place: np.ndarray  # (hits,) row of the query
    rank: np.ndarray  # (hits,) from 1
    answers: np.ndarray  # (queries,) distinct right products, ranked or not

    def total(self, values: np.ndarray) -> np.ndarray:
        """Add up the values of hits (hits,) query by query (queries,)."""
        return np.bincount(self.place, values, minlength=len(self.answers))

    def numbers(self) -> np.ndarray:
        """Number the hits of each query from 1 (hits,)."""
        starts = np.flatnonzero(np.diff(self.place, prepend=-1))
        return np.arange(1, len(self.place) + 1) - np.repeat(starts, np.diff(np.append(starts, len(self.place))))


def ndcg(hits: Hits, k: int) -> np.ndarray:
    """Divide the DCG of the first k products by that of min(k, answers) right products (queries,).

    Right products count toward the ideal whether they are candidates or not.
    """
    gains = hits.total(np.append(discounts(k), 0)[np.minimum(hits.rank, k + 1) - 1])
    return gains / np.cumsum(discounts(k))[np.minimum(hits.answers, k) - 1]


def reciprocal_rank(hits: Hits) -> np.ndarray:
    """Give 1 / rank of the first hit; 0 if there is none (queries,)."""
    return hits.total((hits.numbers() == 1) / hits.rank)


def recall(hits: Hits, k: int) -> np.ndarray:
    """Give the share of the right products that stand among the first k; of k + 1 at most k of them (queries,)."""
    return hits.total(hits.rank <= k) / hits.answers


def precision(hits: Hits, k: int) -> np.ndarray:
    """Give the share of right products among the first k places, filled or not (queries,)."""
    return hits.total(hits.rank <= k) / k


def average_precision(hits: Hits) -> np.ndarray:
    """Average the precision at each right product's rank; 0 for products that are not ranked (queries,)."""
    return hits.total(hits.numbers() / hits.rank) / hits.answers


MEASURES: Mapping[str, Callable[[Hits], np.ndarray]] = {
    "ndcg_at_5": partial(ndcg, k=K),
    "ndcg_at_10": partial(ndcg, k=10),
    "reciprocal_rank": reciprocal_rank,
    "recall_at_5": partial(recall, k=5),
    "precision_at_5": partial(precision, k=5),
    "average_precision": average_precision,
}


class MetricError(ValueError):
    """Scores or answers cannot be measured, compared or blended."""


def refuse_candidates(scores: pd.DataFrame, bad: np.ndarray, fault: str, remedy: str) -> None:
    """Refuse scores of which some rows are bad.

    Args:
        scores: ``query_id``, ``product_id``; one row a candidate.
        bad: (rows,) whether a row is bad.
        fault: What is wrong with the bad rows, in the plural.
        remedy: What to do.

    Raises:
        MetricError: With the number of bad rows and the candidate of the first one.
    """
    if bad.any():
        query, product = scores.loc[bad, IDS].iloc[0]
        raise MetricError(f"{bad.sum()} {fault}, first of query {query}, product {product}: {remedy}")


def refuse_duplicates(scores: pd.DataFrame, source: str = "the scores") -> None:
    """Refuse scores in which a candidate has two rows.

    Raises:
        MetricError: With the source, the number of such rows and the first one's candidate.
    """
    twice = pd.Series(_pair_keys(*(scores[name].to_numpy() for name in IDS))).duplicated().to_numpy()
    refuse_candidates(scores, twice, f"rows of {source} repeat a candidate", "keep one row each")


def rank_candidates(scores: pd.DataFrame) -> pd.DataFrame:
    """Order each query's candidates, best first; the rows get a ``rank``, 1 the best.

    Raises:
        MetricError: If a score is NaN, or a candidate has two rows.
    """
    refuse_candidates(scores, scores["score"].isna().to_numpy(), "scores are NaN", "give every candidate a score")
    refuse_duplicates(scores)
    # Arrow sorts a million grouped rows in 0.05 s, numpy's lexsort in 0.45 s.
    columns = [*IDS, "score"]
    keys = pa.table([scores[name].to_numpy() for name in columns], columns)
    order = pc.sort_indices(keys, [("query_id", "ascending"), ("score", "descending"), ("product_id", "ascending")])
    ordered = scores.iloc[order.to_numpy()].reset_index(drop=True)
    starts = _starts(ordered["query_id"].to_numpy())
    counts = np.diff(np.append(starts, len(ordered)))
    return ordered.assign(rank=np.arange(1, len(ordered) + 1) - np.repeat(starts, counts))


def _starts(sorted_ids: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(sorted_ids, prepend=sorted_ids[:1] - 1))


def _pair_keys(queries: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Number the (query, product) pairs (n,): equal pairs get equal numbers."""
    query_codes, _ = pd.factorize(queries)
    product_codes, known = pd.factorize(products)
    return query_codes * len(known) + product_codes


def measure_queries(scores: pd.DataFrame, answers: dict[int, list[int]]) -> pd.DataFrame:
    """Measure each query's ranking by all ``MEASURES``.

    Returns:
        One row a query of ``answers``, in their order: ``query_id``, ``candidates``, ``answers``, the measures, and
        ``top_5``, a list of the first five products (missing where the query has no scores).

    Raises:
        MetricError: As ``ndcg_at_5``.
    """
    ranked = rank_candidates(scores)
    queries, rank = ranked["query_id"].to_numpy(), ranked["rank"].to_numpy()
    starts = _starts(queries)
    place = answer_places(queries[starts], answers)
    measured = _measure(ranked, answers, MEASURES)
    candidates = np.diff(np.append(starts, len(queries)))
    ends = np.append(0, np.cumsum(np.minimum(candidates, K))).astype(np.int32)
    # An Arrow list column: a million candidates would need 33,000 Python lists.
    best = pa.ListArray.from_arrays(ends, ranked["product_id"].to_numpy()[rank <= K])
    ranked_place = np.full(len(measured), -1)
    ranked_place[place] = np.arange(len(place))
    top = best.take(pa.array(ranked_place, mask=ranked_place < 0))
    measured.insert(1, "candidates", np.bincount(np.repeat(place, candidates), minlength=len(measured)))
    return measured.assign(top_5=pd.Series(top, dtype=pd.ArrowDtype(top.type)))


def ndcg_at_5(scores: pd.DataFrame, answers: dict[int, list[int]]) -> pd.DataFrame:
    """Measure each query's ranking by the official measure alone, see ``ndcg``.

    Returns:
        One row a query of ``answers``, in their order: ``query_id``, ``answers`` (distinct ones), ``ndcg_at_5``.

    Raises:
        MetricError: As ``rank_candidates``, and if a scored query has no answer.
    """
    return _measure(rank_candidates(scores), answers, ["ndcg_at_5"])


def _measure(ranked: pd.DataFrame, answers: dict[int, list[int]], names: Iterable[str]) -> pd.DataFrame:
    queries, products, rank = (ranked[name].to_numpy() for name in ("query_id", "product_id", "rank"))
    right, count = relevance_of(queries, products, answers)
    hits = Hits(answer_places(queries, answers)[right], rank[right], count)
    values = {name: MEASURES[name](hits) for name in names}
    return pd.DataFrame({"query_id": np.fromiter(answers, np.int64), "answers": count, **values})


def answer_places(queries: np.ndarray, answers: dict[int, list[int]]) -> np.ndarray:
    """Find the place of each scored query (n,) among the answers (n,).

    Raises:
        MetricError: If a scored query has no answer.
    """
    places = pd.Index(answers).get_indexer(queries)
    unknown = pd.unique(queries[places < 0])
    if len(unknown):
        raise MetricError(
            f"{len(unknown)} scored queries have no answer, first {unknown[0]}: take the same split's answers, or "
            "leave these queries out"
        )
    return places


def is_right(scores: pd.DataFrame, answers: dict[int, list[int]]) -> np.ndarray:
    """Tell of each candidate (rows,) whether it is a right answer of its query; all six of six answers are."""
    return relevance_of(scores["query_id"].to_numpy(), scores["product_id"].to_numpy(), answers)[0]


def relevance_of(
    queries: np.ndarray, products: np.ndarray, answers: dict[int, list[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Tell which candidates (n,) are right answers, and count the distinct right answers of each query (Q,)."""
    lengths = np.fromiter(map(len, answers.values()), np.int64)
    right = np.fromiter(itertools.chain.from_iterable(answers.values()), np.int64)
    answered = np.repeat(np.fromiter(answers, np.int64), lengths)
    keys = _pair_keys(np.concatenate([queries, answered]), np.concatenate([products, right]))
    candidate_keys, right_keys = np.split(keys, [len(queries)])
    distinct = ~pd.Series(right_keys).duplicated().to_numpy()
    count = np.bincount(np.repeat(np.arange(len(answers)), lengths)[distinct], minlength=len(answers))
    return pd.Series(candidate_keys).isin(right_keys).to_numpy(), count
