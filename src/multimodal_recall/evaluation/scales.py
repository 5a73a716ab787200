"""Scores of several models on one scale.

Throughout: ``scores`` has ``query_id``, ``product_id`` and one column of scores a model, higher is better; one row a
candidate, in any order.
"""

from typing import Literal

import numpy as np
import pandas as pd

from multimodal_recall.evaluation.metrics import IDS, MetricError, refuse_candidates, refuse_duplicates

Scale = Literal["probability", "logit", "rank", "z_score"]

EPSILON = 1e-15  # keeps the log-odds of probabilities 0 and 1 finite: -34.5 and 34.5


def normalise(scores: pd.DataFrame, models: list[str], scale: Scale) -> pd.DataFrame:
    """Put the scores of all models on one scale.

    ``probability`` and ``logit`` take scores that all lie in [0, 1] for probabilities and any other scores for
    log-odds. ``rank`` and ``z_score`` are computed within the query and assume nothing of the scores.

    - ``rank``: 1 for the query's worst candidate, 2 for the next; equal candidates get their mean rank.
    - ``z_score``: standard deviations above the mean of the query's candidates; 0 where all scores are equal.

    Returns:
        ``query_id``, ``product_id`` and the models; the same rows in the same order.

    Raises:
        MetricError: If a model is missing, a score is not a finite number, or a candidate has two rows.
    """
    values = _finite_scores(scores, models)
    if scale in ("probability", "logit"):
        are_probabilities = ((values.min() >= 0) & (values.max() <= 1)).to_numpy()
        columns = values.columns[~are_probabilities if scale == "probability" else are_probabilities]
        values[columns] = _probability(values[columns]) if scale == "probability" else _log_odds(values[columns])
    elif scale == "rank":
        values = values.groupby(scores["query_id"]).rank()
    else:
        of_query = values.groupby(scores["query_id"])
        deviation = of_query.transform("std", ddof=0)
        values = ((values - of_query.transform("mean")) / deviation).where(deviation > 0, 0.0)
    return pd.concat([scores[IDS], values], axis=1)


def _probability(log_odds: pd.DataFrame) -> pd.DataFrame:
    return np.exp(-np.logaddexp(0, -log_odds))


def _log_odds(probability: pd.DataFrame) -> pd.DataFrame:
    clipped = probability.clip(EPSILON, 1 - EPSILON)
    return np.log(clipped) - np.log1p(-clipped)


def _finite_scores(scores: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    missing = [model for model in models if model not in scores]
    if missing:
        raise MetricError(f"no model {missing[0]!r} in the scores; they have {list(scores.columns.drop(IDS))}")
    values = scores[models].astype(float)
    for model in models:
        remedy = f"score these candidates, or leave {model!r} out"
        infinite = ~np.isfinite(values[model].to_numpy())
        refuse_candidates(scores, infinite, f"scores of {model!r} are not finite", remedy)
    refuse_duplicates(scores)
    return values
