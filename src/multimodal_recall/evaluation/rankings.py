"""From the scores of one or several models to all the rankings that are compared, each under its own name and kind."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype

from multimodal_recall.evaluation import leak_rules
from multimodal_recall.evaluation.blending import OutOfFold, blend, weigh_out_of_fold
from multimodal_recall.evaluation.metrics import MetricError

LEAK_FREE = "leak-free"
OWN_LIST = "reads the query's candidate list"
FITTED = "fitted on valid, out of fold"
LEAK = "uses the candidate-list leak"
RANKING_KINDS = (LEAK_FREE, OWN_LIST, FITTED, LEAK)
SCALES = {"probability": "probabilities", "logit": "log-odds", "rank": "ranks", "z_score": "z-scores"}
RESCORED = {"smoothed": "smoothed boxes", "reranked": "k-reciprocal"}
RULES = ("keep-once", "best query only", "keep-once all splits")
STACKS = ("weighted sum of log-odds", "LightGBM classifier", "LambdaRank", "LambdaRank, list counts")
RECLASSIFIED = "re-classified vectors"
RANDOM_ORDER = "random order"
REFERENCES = {"random": RANDOM_ORDER, "noun_alone": "noun alone", "truth": "generator's truth"}
FIT_COLUMNS = ["ranking", "ndcg_at_5", "one_shuffle", "over_shuffles", "over_folds"]

IDS = ["query_id", "product_id"]


def join_scores(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put the scores of several sources side by side.

    Args:
        tables: By name of the source: ``query_id``, ``product_id`` and a numeric column a model.

    Returns:
        The candidates in the order of the first source, with a column a model.

    Raises:
        MetricError: If a source lacks an id column, has no model or one that is no number or a NaN, names a candidate
            twice, or scores other candidates than the first; if a model stands in two sources.
    """
    joined: pd.DataFrame | None = None
    for source, table in tables.items():
        _check(source, table)
        if joined is None:
            joined = table
            continue
        twice = sorted(set(joined.columns) & set(table.columns) - set(IDS))
        if twice:
            raise MetricError(f"{source} has scores of {twice}, and so has another source: rename its column")
        merged = joined.merge(table, on=IDS)
        if not len(merged) == len(joined) == len(table):
            raise MetricError(
                f"{source} scores {len(table)} candidates, those before it {len(joined)}, and {len(merged)} of them "
                "are the same ones: score the same candidate lists"
            )
        joined = merged
    return joined


def _check(source: str, table: pd.DataFrame) -> None:
    absent = [name for name in IDS if name not in table.columns]
    models = [name for name in table.columns if name not in IDS]
    if absent or not models:
        raise MetricError(
            f"{source} has the columns {list(table.columns)}: wanted query_id, product_id and a column a model"
        )
    for name in table.columns:
        is_number = is_integer_dtype if name in IDS else is_numeric_dtype
        if not is_number(table[name]):
            raise MetricError(f"{source}: {name} holds {table[name].dtype}, wanted numbers (whole ones for ids)")
        nan = table[name].isna()
        if nan.any():
            row = table[nan].iloc[0]
            raise MetricError(
                f"{source}: {nan.sum()} scores of {name} are NaN, first of query {row['query_id']:.0f}, product "
                f"{row['product_id']:.0f}: give every candidate a score, or leave {name} out"
            )
    twice = table.duplicated(IDS)
    if twice.any():
        query, product = table.loc[twice, IDS].iloc[0]
        raise MetricError(
            f"{source}: {twice.sum()} candidates stand twice, first query {query}, product {product}: keep one row each"
        )


def models_of(scores: pd.DataFrame) -> list[str]:
    """Names of the models whose scores a joined table holds."""
    return [name for name in scores.columns if name not in IDS]


def scores_of(scores: pd.DataFrame, model: str) -> pd.DataFrame:
    """``query_id``, ``product_id``, ``score`` of one model of a joined table, whatever its other columns are called."""
    return scores[[*IDS, model]].rename(columns={model: "score"})


def refuse_taken_names(scores: pd.DataFrame, blends: Iterable[str], margin: float) -> None:
    """Refuse models that are called as a ranking that may be made beside them: one would stand for the other.

    Args:
        scores: The joined table.
        blends: Names of the blends that are wanted.
        margin: Of the margin rule.

    Raises:
        MetricError: With the names that are taken.
    """
    models, rules = models_of(scores), (*RESCORED.values(), *RULES, f"margin {margin:g}", RECLASSIFIED)
    made = {*STACKS, *REFERENCES.values(), *(f"sum of {plural}" for plural in SCALES.values())}
    made |= {f"{name}, sum of z-scores" for name in blends} | {f"{model}, {rule}" for model in models for rule in rules}
    taken = [model for model in models if model in made]
    if taken:
        raise MetricError(
            f"there are scores of {taken}, but we call a ranking of our own so: rename the column of the given "
            "scores, or the ranker"
        )


def blended_rankings(scores: pd.DataFrame, named: Mapping[str, Sequence[str]]) -> dict[str, pd.DataFrame]:
    """Sums of models' scores: of all models, one for each common scale, unless there is one; and those named.

    Args:
        scores: The joined table.
        named: Models of each blend whose z-scores are added up, by its name.
    """
    models = models_of(scores)
    blends = {f"{name}, sum of z-scores": blend(scores, list(chosen), "z_score") for name, chosen in named.items()}
    if len(models) > 1:
        blends |= {f"sum of {plural}": blend(scores, models, scale) for scale, plural in SCALES.items()}
    return blends


def rescored_rankings(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """What ``reranking`` has made of the rankers' scores, where it is there.

    Args:
        tables: By ranker, its ``scores``.
    """
    return {
        f"{ranker}, {rule}": scores_of(table, column)
        for ranker, table in tables.items()
        for column, rule in RESCORED.items()
        if table[column].notna().all()
    }


def ruled_rankings(scores: pd.DataFrame, model: str, lists: np.ndarray, margin: float) -> dict[str, pd.DataFrame]:
    """The rules on candidate lists, each alone, applied to one model.

    Args:
        scores: The joined table.
        model: Whose scores the rules are applied to.
        lists: (n,) in how many lists of all splits each candidate's product stands.
        margin: See ``leak_rules.beat_by_margin``.
    """
    own = scores_of(scores, model)
    probabilities = blend(scores, [model], "probability")
    here = leak_rules.lists_with_product(own)
    once, best, once_all_splits = RULES
    ruled = {
        once: leak_rules.keep_once(own, here),
        best: leak_rules.best_query_only(own),
        f"margin {margin:g}": leak_rules.beat_by_margin(probabilities, margin),
    }
    if (lists != here).any():
        ruled[once_all_splits] = leak_rules.keep_once(own, lists)
    return {f"{model}, {rule}": kept for rule, kept in ruled.items()}


def fitted_rankings(
    scores: pd.DataFrame,
    answers: dict[int, list[int]],
    lists: np.ndarray,
    vectors: Mapping[str, tuple[pd.DataFrame, np.ndarray]],
    folds: int,
    shuffles: int,
    seed: int,
) -> tuple[dict[str, dict[str, pd.DataFrame]], pd.DataFrame]:
    """Weights and LightGBM stacks of several models, fitted on the split itself and scored out of fold.

    Args:
        scores: The joined table.
        answers: Right products of each query.
        lists: (n,) in how many lists each candidate's product stands, for the stack that reads the leak.
        vectors: Candidates (ids) and pair vectors (n, D) of each ranker that is to be re-classified (first place). That
            uses the leak, folds of queries or not: see ``stacking.stack_out_of_fold``.
        folds: Folds of queries.
        shuffles: Ways to part the queries into folds.
        seed: Of the folds and fits.

    Returns:
        The rankings by kind and name, of one model those of its vectors alone; and a row for each with its ``ranking``,
        nDCG@5 and spread; see ``blending.OutOfFold.summarise``.
    """
    from multimodal_recall.evaluation.stacking import stack_features, stack_out_of_fold

    models, how = models_of(scores), (folds, shuffles, seed)
    found: dict[str, dict[str, OutOfFold]] = {FITTED: {}, LEAK: {}}
    if len(models) > 1:
        features = stack_features(scores, models).to_numpy()
        with_lists = stack_features(scores.assign(lists=lists), models, extra=("lists",)).to_numpy()
        weighted, classifier, lambdarank, counted = STACKS
        found[FITTED] = {
            weighted: weigh_out_of_fold(scores, answers, models, "logit", *how),
            classifier: stack_out_of_fold(scores, answers, features, "classifier", *how),
            lambdarank: stack_out_of_fold(scores, answers, features, "lambdarank", *how),
        }
        found[LEAK][counted] = stack_out_of_fold(scores, answers, with_lists, "lambdarank", *how)
    for ranker, (candidates, columns) in vectors.items():
        fit = stack_out_of_fold(candidates, answers, columns, "default_classifier", *how)
        found[LEAK][f"{ranker}, {RECLASSIFIED}"] = fit
    rankings = {kind: {name: fit.scores for name, fit in fits.items()} for kind, fits in found.items()}
    fits = [{"ranking": n, **fit.summarise(answers)} for fits in found.values() for n, fit in fits.items()]
    return rankings, pd.DataFrame(fits, columns=FIT_COLUMNS)


def stack_rankings(kinds: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """One table of rankings by kind and name: ``ranking``, ``kind``, ``query_id``, ``product_id``, ``score``."""
    tables = [
        scores[[*IDS, "score"]].assign(ranking=name, kind=kind)
        for kind, rankings in kinds.items()
        for name, scores in rankings.items()
    ]
    if not tables:
        tables = [pd.DataFrame({name: [] for name in (*IDS, "score", "ranking", "kind")})]
    return pd.concat(tables, ignore_index=True)[["ranking", "kind", *IDS, "score"]]
