"""LightGBM over the scores of several models: a second model that learns which of them to believe, and when."""

from typing import Any, Literal

import numpy as np
import pandas as pd

from multimodal_recall.evaluation.blending import BlendError, OutOfFold, is_right, normalise, out_of_fold

Method = Literal["classifier", "default_classifier", "lambdarank"]

REPEATABLE = {"deterministic": True, "force_row_wise": True, "n_jobs": 1, "verbosity": -1}
# Slow and small trees, since 12,000 candidates of 400 queries are not many. Set before the first figure, not searched.
TREES = {
    "n_estimators": 150,
    "learning_rate": 0.03,
    "num_leaves": 8,
    "min_child_samples": 40,
    "colsample_bytree": 0.3,
    "subsample": 0.8,
    "subsample_freq": 1,
    "reg_lambda": 10.0,
    **REPEATABLE,
}


def stack_features(scores: pd.DataFrame, models: list[str], extra: tuple[str, ...] = ()) -> pd.DataFrame:
    """Describe each candidate by the models' scores, among those of the query's other candidates.

    Of each model: the log-odds, the z-score, the rank, and the gap in log-odds to the query's best. The mean and the
    deviation of the z-scores over the models, as more columns, did not pay: 0.733 for 0.735 out of fold by LambdaRank.

    Args:
        scores: ``query_id``, ``product_id``, one column of scores a model, and the extra ones.
        models: The models to describe it by.
        extra: Other numbers of a candidate, such as the candidate lists it stands in: as they are, and their rank.

    Returns:
        (rows, 4 * models + 2 * extra), in the order of ``scores``.

    Raises:
        BlendError: As ``normalise``.
    """
    parts = {kind: normalise(scores, models, kind)[models] for kind in ("logit", "z_score", "rank")}
    parts["gap"] = parts["logit"].groupby(scores["query_id"]).transform("max") - parts["logit"]
    features = [part.add_suffix(f"_{name}") for name, part in parts.items()]
    if extra:
        ranks = normalise(scores, list(extra), "rank")[list(extra)]
        features += [scores[list(extra)], ranks.add_suffix("_rank")]
    return pd.concat(features, axis=1)


def fit_stack(
    features: np.ndarray, right: np.ndarray, query_ids: np.ndarray, method: Method, random: np.random.Generator
) -> Any:
    """Fit LightGBM to tell right candidates from wrong ones, or to rank them above those.

    Args:
        features: (rows, d) of each candidate.
        right: (rows,) whether it is a right answer; all of a query's are, the sixth too.
        query_ids: (rows,) its query.
        method: ``classifier``: log loss of each candidate; ``default_classifier``: the same with LightGBM's own sizes,
            100 trees of 31 leaves (first place). ``lambdarank``: LambdaRank within the query.
        random: Stream of the seed.

    Returns:
        A LightGBM model; ``predict(features, raw_score=True)`` scores candidates.
    """
    from lightgbm import LGBMClassifier, LGBMRanker

    seed = int(random.integers(2**31))
    if method != "lambdarank":
        trees = TREES if method == "classifier" else REPEATABLE
        return LGBMClassifier(**trees, random_state=seed).fit(features, right)
    order = np.argsort(query_ids, kind="stable")
    _, sizes = np.unique(query_ids, return_counts=True)
    ranker = LGBMRanker(**TREES, random_state=seed)
    return ranker.fit(features[order], right[order].astype(int), group=sizes)


def stack_out_of_fold(
    scores: pd.DataFrame,
    answers: dict[int, list[int]],
    features: np.ndarray,
    method: Method,
    folds: int,
    shuffles: int,
    seed: int,
) -> OutOfFold:
    """Rank by a stack that is fitted on the other folds; see ``out_of_fold``.

    Args:
        scores: ``query_id``, ``product_id``; one row a candidate.
        answers: Right products of each query.
        features: (rows, d) of each candidate: ``stack_features``, and whatever else is known of it, such as a model's
            embedding, side by side. What tells products apart tells of the leak too, since a product of the other
            folds' lists is mostly wrong here as well: with random vectors of the products alone the classifier has
            0.300 on the official valid queries, by chance 0.194.
        method: See ``fit_stack``.
        folds: Folds of a shuffle.
        shuffles: Groupings of the queries into folds.
        seed: Seed of the groupings and fits.

    Raises:
        BlendError: If there is not a row of features for each candidate; as ``out_of_fold``.
    """
    if len(features) != len(scores):
        raise BlendError(f"{len(features)} rows of features for {len(scores)} candidates: one each, in the same order")
    query_ids = scores["query_id"].to_numpy()

    def fit_and_score(
        fit: np.ndarray, score: np.ndarray, known: dict[int, list[int]], random: np.random.Generator
    ) -> np.ndarray:
        model = fit_stack(features[fit], is_right(scores.iloc[fit], known), query_ids[fit], method, random)
        return model.predict(features[score], raw_score=True)

    return out_of_fold(scores, answers, folds, shuffles, seed, fit_and_score)
