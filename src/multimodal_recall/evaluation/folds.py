"""Fits on one part of the queries that score the other part: every query is scored by models that did not see it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from multimodal_recall.evaluation.metrics import IDS, MetricError, answer_places, ndcg_at_5
from multimodal_recall.evaluation.scales import normalise
from multimodal_recall.runtime.progress import bar

FitAndScore = Callable[[np.ndarray, np.ndarray, dict[int, list[int]], np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class OutOfFold:
    """Scores by models that did not see the query, and the measure of every fold."""

    scores: pd.DataFrame
    """``query_id``, ``product_id``, ``score``: mean over the shuffles of the within-query z-scores."""
    folds: pd.DataFrame
    """One row a shuffle and fold: ``shuffle``, ``fold``, ``queries``, ``ndcg_at_5`` of the fold's ranking."""

    def summarise(self, answers: dict[int, list[int]]) -> dict[str, float]:
        """Measure the mean scores, and the mean and spread of single shuffles and folds, by nDCG@5.

        Returns:
            - ``ndcg_at_5``: of ``scores``, an ensemble of as many models as there are shuffles.
            - ``one_shuffle``: of a single model: mean over the shuffles of the nDCG@5 over all queries.
            - ``over_shuffles``: standard deviation over the shuffles of their nDCG@5 (NaN of one shuffle): the luck of
              the folds and of the fits.
            - ``over_folds``: standard deviation over the folds of a shuffle, mean over the shuffles: the luck of the
              choice of queries.
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
    """Score each fold of the queries by a fit on all other folds, in several shuffles of the queries into folds.

    No shuffle scores a candidate by a model that was fitted on its query, so neither does the mean over the shuffles.
    The scores of different fits are comparable within a query only: within-query z-scores put them on one scale.

    Args:
        scores: ``query_id``, ``product_id``; one row a candidate.
        answers: Right products of each query.
        folds: Folds of a shuffle; their numbers of queries are equal within one.
        shuffles: Shuffles of the queries into folds.
        seed: Of the shuffles and of the fits.
        fit_and_score: Takes the row numbers to fit on, the row numbers to score, the answers of the queries to fit on
            (no other answers ever reach it) and a random stream; returns a score for each row to score.

    Raises:
        MetricError: If there are fewer than two folds, fewer queries than folds, a scored query without an answer, a
            candidate with two rows, or a fit that gives a NaN.
    """
    from sklearn.model_selection import GroupKFold

    queries = np.fromiter(answers, np.int64)
    if not 2 <= folds <= len(queries):
        advice = f"set evaluate.folds to 2 to {len(queries)}" if len(queries) > 1 else "add a query with answers"
        raise MetricError(f"{folds} folds of {len(queries)} queries, where each fold needs a query: {advice}")
    answer_places(scores["query_id"].to_numpy(), answers)
    candidates = scores[IDS].reset_index(drop=True)
    total, measured = np.zeros(len(scores)), []
    with bar("fit out of fold", shuffles * folds, "fits") as progress:
        for shuffle in range(shuffles):
            random, fold_scores = np.random.default_rng([seed, shuffle]), np.full(len(scores), np.nan)
            splitter = GroupKFold(folds, shuffle=True, random_state=int(random.integers(2**31)))
            held_out = [queries[test] for _, test in splitter.split(queries, groups=queries)]
            for group in held_out:
                in_group, left_out = candidates["query_id"].isin(group).to_numpy(), set(group.tolist())
                known = {query: right for query, right in answers.items() if query not in left_out}
                fold_scores[in_group] = fit_and_score(
                    np.flatnonzero(~in_group), np.flatnonzero(in_group), known, random
                )
                progress.advance()
            scored = candidates.assign(score=fold_scores)
            ndcg = ndcg_at_5(scored, answers).set_index("query_id")["ndcg_at_5"]
            measured += [
                {"shuffle": shuffle, "fold": fold, "queries": len(group), "ndcg_at_5": ndcg.loc[group].mean()}
                for fold, group in enumerate(held_out)
            ]
            total += normalise(scored, ["score"], "z_score")["score"].to_numpy()
    return OutOfFold(candidates.assign(score=total / shuffles), pd.DataFrame(measured))
