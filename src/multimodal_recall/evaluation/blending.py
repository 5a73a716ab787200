"""Weighted sums of several models' scores, and the search of the weights that is scored out of fold.

Throughout: ``scores`` is the table that ``scales`` describes.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from multimodal_recall.evaluation.folds import OutOfFold, out_of_fold
from multimodal_recall.evaluation.metrics import IDS, K, answer_places, discounts, relevance_of
from multimodal_recall.evaluation.scales import Scale, normalise

STARTS = 4
STEPS = np.append(0, np.geomspace(0.02, 2, 12))
"""Weights tried for a model, as shares of the sum of all other models' weights."""
LEAST_GAIN = 1e-4
"""nDCG@5 that a round over all models must gain, or the search ends."""


def blend(scores: pd.DataFrame, models: list[str], scale: Scale) -> pd.DataFrame:
    """Sum the models' scores on one scale to ``query_id``, ``product_id``, ``score``; a mean gives the same ranking.

    Raises:
        MetricError: As ``normalise``.
    """
    normalised = normalise(scores, models, scale)
    return normalised[IDS].assign(score=normalised[models].to_numpy() @ np.ones(len(models)))


@dataclass(frozen=True)
class PaddedQueries:
    """Candidates of each query as padded arrays, to measure one blend after another.

    The candidates of a query stand in order of product id, so that the earlier of two equal scores ranks higher. The
    queries are the last axis: all other axes are short, and numpy is fast along a long last axis.
    """

    values: np.ndarray
    """(models, candidates, queries) scores, 0 where padded."""
    floor: np.ndarray
    """(candidates, queries) 0, -inf where padded."""
    right: np.ndarray
    """(answers, queries) place of each right candidate, 0 where padded."""
    earlier: np.ndarray
    """(candidates, answers, queries) whether the candidate stands before the right one."""
    share: np.ndarray
    """(answers, queries) 1 / (ideal DCG * queries) of each right candidate, 0 where padded."""

    @classmethod
    def pad(cls, normalised: pd.DataFrame, answers: dict[int, list[int]], models: list[str]) -> Self:
        """Pad the candidates; an answered query without candidates counts 0.

        Raises:
            MetricError: If a scored query has no answer.
        """
        ordered = normalised.sort_values(IDS, ignore_index=True)
        query = answer_places(ordered["query_id"].to_numpy(), answers)
        place = ordered.groupby("query_id").cumcount().to_numpy()
        values = np.zeros((len(models), place.max() + 1, len(answers)))
        values[:, place, query] = ordered[models].to_numpy().T
        floor = np.full(values.shape[1:], -np.inf)
        floor[place, query] = 0
        relevant, count = relevance_of(ordered["query_id"].to_numpy(), ordered["product_id"].to_numpy(), answers)
        place, query = place[relevant], query[relevant]
        nth = pd.Series(query).groupby(query).cumcount().to_numpy()
        right = np.zeros((nth.max(initial=0) + 1, len(answers)), np.int64)
        right[nth, query] = place
        ideal = np.cumsum(discounts(K))[np.minimum(count, K) - 1]
        share = np.zeros(right.shape)
        share[nth, query] = 1 / (ideal[query] * len(answers))
        return cls(values, floor, right, np.arange(len(floor))[:, None, None] < right, share)

    def ndcg(self, blended: np.ndarray) -> float:
        """Measure the mean nDCG@5 of scores (candidates, queries); equal to the mean of ``metrics.ndcg_at_5``."""
        blended = blended + self.floor
        right = np.take_along_axis(blended, self.right, axis=0)
        candidates = blended[:, None]
        rank = ((candidates > right) | ((candidates == right) & self.earlier)).sum(axis=0, dtype=np.uint16)
        return float((np.append(discounts(K), 0)[np.minimum(rank, K)] * self.share).sum())


def weigh_out_of_fold(
    scores: pd.DataFrame, answers: dict[int, list[int]], models: list[str], scale: Scale, *splits: int
) -> OutOfFold:
    """Blend the models with non-negative weights that are searched on the other folds; see ``out_of_fold``.

    All rows are put on the scale once, since this reads no answer.

    Args:
        splits: Folds, shuffles and seed.

    Raises:
        MetricError: As ``normalise`` and ``out_of_fold``.
    """
    normalised = normalise(scores, models, scale)
    values = normalised[models].to_numpy()

    def fit_and_score(
        fit: np.ndarray, score: np.ndarray, known: dict[int, list[int]], random: np.random.Generator
    ) -> np.ndarray:
        return values[score] @ _search(normalised.iloc[fit], known, models, random)

    return out_of_fold(scores, answers, *splits, fit_and_score)


def _search(
    normalised: pd.DataFrame, answers: dict[int, list[int]], models: list[str], random: np.random.Generator
) -> np.ndarray:
    """Average the weights of several ascents, which fits the queries less than the best ascent's weights do."""
    # In standard deviations, so that a step of weight means the same for each model.
    spread = normalised[models].std(ddof=0).where(lambda deviation: deviation > 0, 1.0)
    queries = PaddedQueries.pad(normalised.assign(**normalised[models] / spread), answers, models)
    starts = [np.ones(len(models)), *random.dirichlet(np.ones(len(models)), STARTS - 1)]
    weights = np.mean([_ascend(queries, start, random) for start in starts], axis=0) / spread.to_numpy()
    return weights / weights.sum()


def _ascend(queries: PaddedQueries, weights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Change one model's weight at a time to the best of ``STEPS``, until a round gains less than ``LEAST_GAIN``."""
    best = queries.ndcg(np.tensordot(weights, queries.values, 1))
    while True:
        before = best
        for model in random.permutation(len(weights)):
            others = np.where(np.arange(len(weights)) == model, 0, weights)
            if not others.any():
                continue
            rest = np.tensordot(others, queries.values, 1)
            tried = STEPS * others.sum()
            measured = [queries.ndcg(rest + weight * queries.values[model]) for weight in tried]
            if max(measured) > best:
                best, weights = max(measured), others
                weights[model] = tried[np.argmax(measured)]
        if best < before + LEAST_GAIN:
            return weights / weights.sum()
