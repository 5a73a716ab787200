"""Several models' scores of the same candidates as one: put on one scale, summed, and the weights searched.

Throughout: ``scores`` has ``query_id``, ``product_id`` and one column of scores a model, higher is better; one row a
candidate, in any order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pandas as pd

from multimodal_recall.evaluation.metrics import DISCOUNTS, K, ndcg_at_5, relevance_of
from multimodal_recall.runtime.progress import bar

Scale = Literal["probability", "logit", "rank", "z_score"]
FitAndScore = Callable[[np.ndarray, np.ndarray, dict[int, list[int]], np.random.Generator], np.ndarray]

EPSILON = 1e-15  # a probability of just 0 or 1 has log-odds of +-34.5 rather than infinite ones
STARTS = 4
STEPS = np.append(0, np.geomspace(0.02, 2, 12))  # weights tried for a model, in sums of the others' weights
LEAST_GAIN = 1e-4  # nDCG@5 that a round over all models must gain, or the search ends


class BlendError(ValueError):
    """Scores cannot be blended."""


def normalise(scores: pd.DataFrame, models: list[str], kind: Scale) -> pd.DataFrame:
    """Put the scores of all models on one scale.

    A model whose scores all lie in [0, 1] is taken to give probabilities, any other to give log-odds: that is what
    ``probability`` and ``logit`` convert from. ``rank`` and ``z_score`` are within the query and assume nothing.

    - ``probability``, ``logit``: as they say.
    - ``rank``: 1 for the query's worst candidate, 2 for the next; equal ones get their mean.
    - ``z_score``: standard deviations above the mean of the query's candidates; 0 where all are equal.

    Args:
        scores: The models' scores.
        models: The columns to put on one scale.
        kind: The scale.

    Returns:
        ``query_id``, ``product_id`` and the models; the same rows in the same order.

    Raises:
        BlendError: If a model is missing, a score is not a finite number, or a candidate stands twice.
    """
    values = _check(scores, models)
    if kind in ("probability", "logit"):
        probable = ((values.min() >= 0) & (values.max() <= 1)).to_numpy()
        columns = values.columns[~probable if kind == "probability" else probable]
        given = values[columns]
        values[columns] = _probability(given) if kind == "probability" else _log_odds(given)
    elif kind == "rank":
        values = values.groupby(scores["query_id"]).rank()
    else:
        of_query = values.groupby(scores["query_id"])
        deviation = of_query.transform("std", ddof=0)
        values = ((values - of_query.transform("mean")) / deviation).where(deviation > 0, 0.0)
    return pd.concat([scores[["query_id", "product_id"]], values], axis=1)


def _probability(log_odds: pd.DataFrame) -> pd.DataFrame:
    return np.exp(-np.logaddexp(0, -log_odds))


def _log_odds(probability: pd.DataFrame) -> pd.DataFrame:
    clipped = probability.clip(EPSILON, 1 - EPSILON)
    return np.log(clipped) - np.log1p(-clipped)


def _check(scores: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """The models' columns as float64."""
    missing = [model for model in models if model not in scores]
    if missing or not models:
        asked = f"no model {missing[0]!r} in the scores" if missing else "no model to blend is named"
        there = ", ".join(map(str, scores.columns.drop(["query_id", "product_id"])))
        raise BlendError(f"{asked}; the scores have: {there}")
    values = scores[models].astype(float)
    bad = ~np.isfinite(values.to_numpy())
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise BlendError(
            f"{bad.sum()} scores are no finite number, first of model {models[column]!r}, {_name(scores, row)}: "
            f"a blend needs every model's score of every candidate; score the rest, or leave the model out"
        )
    twice = scores.duplicated(["query_id", "product_id"]).to_numpy()
    if twice.any():
        first = _name(scores, int(twice.argmax()))
        raise BlendError(f"{twice.sum()} candidates stand twice, first {first}: keep one row each")
    return values


def _name(scores: pd.DataFrame, row: int) -> str:
    candidate = scores.iloc[row]
    return f"query {candidate['query_id']:.0f}, product {candidate['product_id']:.0f}"


def blend(
    scores: pd.DataFrame, models: list[str], kind: Scale, weights: dict[str, float] | None = None
) -> pd.DataFrame:
    """Sum the models' scores on one scale; their mean gives the same ranking.

    Args:
        scores: The models' scores.
        models: The models to sum.
        kind: Their scale; see ``normalise``.
        weights: What each model's scores are multiplied by; 1 by default.

    Returns:
        ``query_id``, ``product_id``, ``score``; the same rows in the same order.

    Raises:
        BlendError: As ``normalise``, and if a model has no weight.
    """
    normalised = normalise(scores, models, kind)
    if weights is None:
        weights = dict.fromkeys(models, 1.0)
    if set(weights) != set(models):
        raise BlendError(f"weights of {sorted(weights)} for a blend of {sorted(models)}: name the same models")
    return _sum(normalised, weights)


def _sum(normalised: pd.DataFrame, weights: dict[str, float]) -> pd.DataFrame:
    total = normalised[list(weights)].to_numpy() @ np.array(list(weights.values()))
    return normalised[["query_id", "product_id"]].assign(score=total)


@dataclass(frozen=True)
class PaddedQueries:
    """Candidates of each query as padded arrays, to measure one blend after another.

    The candidates of a query stand in order of product id, so that of two with equal scores the earlier ranks higher.
    The queries are the last axis: the others are short, and numpy is fast along a long last one.
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
        """Pad the candidates; an answered query without any counts 0.

        Raises:
            BlendError: If a scored query has no answer.
        """
        ordered = normalised.sort_values(["query_id", "product_id"], ignore_index=True)
        query = pd.Index(list(answers)).get_indexer(ordered["query_id"])
        unknown = ordered["query_id"][query < 0].unique()
        if len(unknown):
            raise BlendError(
                f"{len(unknown)} scored queries have no answer, first {unknown[0]}: take the same split's answers, "
                "or leave these queries out"
            )
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
        ideal = np.cumsum(DISCOUNTS)[np.minimum(count, K) - 1]
        share = np.zeros(right.shape)
        share[nth, query] = 1 / (ideal[query] * len(answers))
        return cls(values, floor, right, np.arange(len(floor))[:, None, None] < right, share)

    def ndcg(self, blended: np.ndarray) -> float:
        """Mean nDCG@5 of scores (candidates, queries); equal to the mean of ``metrics.ndcg_at_5``."""
        blended = blended + self.floor
        right = np.take_along_axis(blended, self.right, axis=0)
        others = blended[:, None]
        rank = ((others > right) | ((others == right) & self.earlier)).sum(axis=0, dtype=np.uint16)
        return float((np.append(DISCOUNTS, 0)[np.minimum(rank, K)] * self.share).sum())


def is_right(scores: pd.DataFrame, answers: dict[int, list[int]]) -> np.ndarray:
    """Whether each candidate (rows,) is a right answer of its query: all of them are, the sixth too."""
    return relevance_of(scores["query_id"].to_numpy(), scores["product_id"].to_numpy(), answers)[0]


def search_weights(
    scores: pd.DataFrame,
    answers: dict[int, list[int]],
    models: list[str],
    kind: Scale,
    random: np.random.Generator,
) -> dict[str, float]:
    """Find non-negative weights of the models that give a high nDCG@5.

    Args:
        scores: The models' scores of queries with answers.
        answers: Right products of each query.
        models: The models to weigh.
        kind: Their scale; see ``normalise``.
        random: Stream of the starts.

    Returns:
        A weight for each model; they sum to 1. Measured on the same queries they flatter: see
        ``weigh_out_of_fold``.

    Raises:
        BlendError: As ``normalise``.
    """
    return _search(normalise(scores, models, kind), answers, models, random)


def _search(
    normalised: pd.DataFrame, answers: dict[int, list[int]], models: list[str], random: np.random.Generator
) -> dict[str, float]:
    """Mean of the weights that ascents from several starts end at: less fitted to the queries than the best of them."""
    # In standard deviations, so that a step of weight means the same for each model.
    spread = normalised[models].std(ddof=0).where(lambda deviation: deviation > 0, 1.0)
    queries = PaddedQueries.pad(normalised.assign(**normalised[models] / spread), answers, models)
    starts = [np.ones(len(models)), *random.dirichlet(np.ones(len(models)), STARTS - 1)]
    weights = np.mean([_ascend(queries, start, random) for start in starts], axis=0) / spread.to_numpy()
    return dict(zip(models, (weights / weights.sum()).tolist(), strict=True))


def _ascend(queries: PaddedQueries, weights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Change one model's weight at a time to the best of ``STEPS``, until a round gains next to nothing."""
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


def grouped_folds(query_ids: np.ndarray, folds: int, random: np.random.Generator) -> list[np.ndarray]:
    """Deal the distinct queries into folds, sizes equal within one.

    Args:
        query_ids: (n,) queries; all candidates of a query are in its fold.
        folds: How many.
        random: Stream of the dealing.

    Returns:
        The query ids of each fold.

    Raises:
        BlendError: If there are fewer than two folds, or fewer queries than folds.
    """
    distinct = np.unique(query_ids)
    if not 2 <= folds <= len(distinct):
        advice = f"set evaluate.folds to 2 to {len(distinct)}" if len(distinct) > 1 else "add a query with answers"
        raise BlendError(f"{folds} folds of {len(distinct)} queries, where each fold needs one: {advice}")
    return np.array_split(random.permutation(distinct), folds)


@dataclass(frozen=True)
class OutOfFold:
    """Scores by models that did not see the query, and how good they are."""

    scores: pd.DataFrame
    """``query_id``, ``product_id``, ``score``: mean over the shuffles of the within-query z-scores."""
    folds: pd.DataFrame
    """One row a shuffle and fold: ``shuffle``, ``fold``, ``queries``, ``ndcg_at_5`` of the fold's ranking."""

    def summarise(self, answers: dict[int, list[int]]) -> dict[str, float]:
        """nDCG@5 of the mean scores, and the mean and spread of that of single shuffles and folds.

        Args:
            answers: Right products of each query.

        Returns:
            - ``ndcg_at_5``: of ``scores``, an ensemble of as many models as there are shuffles.
            - ``one_shuffle``: mean over the shuffles of the nDCG@5 over all queries: of one model.
            - ``over_shuffles``: standard deviation of that over the shuffles (NaN of one shuffle): what the luck of the
              folds and of the fits does.
            - ``over_folds``: standard deviation over the folds of a shuffle, mean over the shuffles: what the choice of
              queries does.
        """
        weighted = self.folds.assign(total=self.folds["ndcg_at_5"] * self.folds["queries"]).groupby("shuffle")
        shuffles = weighted["total"].sum() / weighted["queries"].sum()
        return {
            "ndcg_at_5": float(ndcg_at_5(self.scores, answers)["ndcg_at_5"].mean()),
            "one_shuffle": float(shuffles.mean()),
            "over_shuffles": float(shuffles.std()),
            "over_folds": float(weighted["ndcg_at_5"].std().mean()),
        }


def out_of_fold(
    scores: pd.DataFrame,
    answers: dict[int, list[int]],
    folds: int,
    shuffles: int,
    seed: int,
    fit_and_score: FitAndScore,
) -> OutOfFold:
    """Fit on all folds of the queries but one, score that one; for each fold, and for several groupings into folds.

    No score of a candidate comes from a model that was fitted on its query, in any shuffle, so neither does their mean.
    Scores are compared within a query only, and z-scores put those of the shuffles on one scale first.

    Args:
        scores: ``query_id``, ``product_id``; one row a candidate.
        answers: Right products of each query.
        folds: Folds of a shuffle.
        shuffles: Groupings of the queries into folds, each another.
        seed: Seed of the groupings and of the fits.
        fit_and_score: Takes the row numbers to fit on, those to score, the answers of the queries to fit on (no other
            answers ever reach it) and a random stream; returns a score for each row to score.

    Returns:
        The mean scores, and the measure of every fold.

    Raises:
        BlendError: As ``grouped_folds``.
        MetricError: If a scored query has no answer, a candidate stands twice, or a fit gives a NaN.
    """
    candidates = scores[["query_id", "product_id"]].reset_index(drop=True)
    total, measured = np.zeros(len(scores)), []
    with bar("fit out of fold", shuffles * folds, "fits") as shown:
        for shuffle in range(shuffles):
            random = np.random.default_rng([seed, shuffle])
            groups = grouped_folds(np.fromiter(answers, np.int64), folds, random)
            found = np.full(len(scores), np.nan)
            for group in groups:
                scored = candidates["query_id"].isin(group).to_numpy()
                held_out = set(group.tolist())
                known = {query: right for query, right in answers.items() if query not in held_out}
                fit_rows, score_rows = np.flatnonzero(~scored), np.flatnonzero(scored)
                found[score_rows] = fit_and_score(fit_rows, score_rows, known, random)
                shown.advance()
            queries = ndcg_at_5(candidates.assign(score=found), answers).set_index("query_id")["ndcg_at_5"]
            measured += [
                {"shuffle": shuffle, "fold": fold, "queries": len(group), "ndcg_at_5": queries.loc[group].mean()}
                for fold, group in enumerate(groups)
            ]
            total += normalise(candidates.assign(score=found), ["score"], "z_score")["score"].to_numpy()
    return OutOfFold(candidates.assign(score=total / shuffles), pd.DataFrame(measured))


def weigh_out_of_fold(
    scores: pd.DataFrame,
    answers: dict[int, list[int]],
    models: list[str],
    kind: Scale,
    folds: int,
    shuffles: int,
    seed: int,
) -> OutOfFold:
    """Blend with weights searched on the other folds; see ``out_of_fold``.

    Args:
        scores: The models' scores.
        answers: Right products of each query.
        models: The models to weigh.
        kind: Their scale, found once for all rows: it reads no answer.
        folds: Folds of a shuffle.
        shuffles: Groupings of the queries into folds.
        seed: Seed of the groupings and searches.
    """
    normalised = normalise(scores, models, kind)

    def fit_and_score(
        fit: np.ndarray, score: np.ndarray, known: dict[int, list[int]], random: np.random.Generator
    ) -> np.ndarray:
        weights = _search(normalised.iloc[fit], known, models, random)
        return _sum(normalised.iloc[score], weights)["score"].to_numpy()

    return out_of_fold(scores, answers, folds, shuffles, seed, fit_and_score)
