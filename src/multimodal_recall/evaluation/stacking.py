"""LightGBM over the scores of several models: a second model that learns which model to believe, and when."""

from typing import Any, Literal

import numpy as np
import pandas as pd

from multimodal_recall.evaluation.folds import OutOfFold, out_of_fold
from multimodal_recall.evaluation.metrics import MetricError, is_right
from multimodal_recall.evaluation.scales import normalise

Method = Literal["classifier", "default_classifier", "lambdarank"]

REPEATABLE = {"deterministic": True, "force_row_wise": True, "n_jobs": 1, "verbosity": -1}
# Small trees that learn slowly: 12,000 candidates of 400 queries are few. Chosen before the first figure, not searched.
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
    """Describe each candidate by the models' scores, in comparison with the query's other candidates.

    Each model gives four columns: log-odds, z-score, rank, and gap in log-odds to the query's best candidate. The mean
    and the deviation of the z-scores over the models, as further columns, did not pay: LambdaRank had 0.733 out of fold
    with them and 0.735 without.

    Each ``extra`` column of ``scores``, such as the count of candidate lists with the product, gives value and rank.

    Returns:
        (rows, 4 * models + 2 * extra), in the order of ``scores``.

    Raises:
        MetricError: As ``normalise``.
    """
    parts = {scale: normalise(scores, models, scale)[models] for scale in ("logit", "z_score", "rank")}
    parts["gap"] = parts["logit"].groupby(scores["query_id"]).transform("max") - parts["logit"]
    features = [part.add_suffix(f"_{name}") for name, part in parts.items()]
    if extra:
        ranks = normalise(scores, list(extra), "rank")[list(extra)]
        features += [scores[list(extra)], ranks.add_suffix("_rank")]
    return pd.concat(features, axis=1)


def fit_stack(
    features: np.ndarray, right: np.ndarray, query_ids: np.ndarray, method: Method, random: np.random.Generator
) -> Any:
    """Fit LightGBM to classify candidates as right or wrong, or to rank right candidates above wrong ones.

    Args:
        features: (rows, d) of each candidate.
        right: (rows,) whether the candidate is a right answer; see ``is_right``.
        query_ids: (rows,) query of each candidate.
        method: ``classifier``: log loss of each candidate. ``default_classifier``: the same loss with LightGBM's
            default sizes, 100 trees of 31 leaves (first place). ``lambdarank``: LambdaRank within the query.

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
    scores: pd.DataFrame, answers: dict[int, list[int]], features: np.ndarray, method: Method, *splits: int
) -> OutOfFold:
    """Rank by a stack (see ``fit_stack``) that is fitted on the other folds; see ``out_of_fold``.

    Args:
        scores: ``query_id``, ``product_id``; one row a candidate.
        answers: Right products of each query.
        features: (rows, d) of each candidate: ``stack_features``, a model's embedding, or both side by side. Columns
            that tell products apart read the leak as well, since a product in the lists of other folds is mostly a
            wrong candidate in this fold too. Random vectors of the products alone give the classifier 0.300 on the
            official valid queries; chance gives 0.194.
        method: See ``fit_stack``.
        splits: Folds, shuffles and seed.

    Raises:
        MetricError: If the numbers of rows of features and scores differ; as ``out_of_fold``.
    """
    if len(features) != len(scores):
        raise MetricError(
            f"{len(features)} rows of features for {len(scores)} candidates: give one row a candidate, in their order"
        )
    query_ids = scores["query_id"].to_numpy()

    def fit_and_score(
        fit: np.ndarray, score: np.ndarray, known: dict[int, list[int]], random: np.random.Generator
    ) -> np.ndarray:
        model = fit_stack(features[fit], is_right(scores.iloc[fit], known), query_ids[fit], method, random)
        return model.predict(features[score], raw_score=True)

    return out_of_fold(scores, answers, *splits, fit_and_score)
