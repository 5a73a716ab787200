"""All rankings that are made of the models' scores and compared, each with a name and a kind."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype

from multimodal_recall.data.official_format import LARGEST_ID
from multimodal_recall.evaluation import leak_rules
from multimodal_recall.evaluation.blending import blend, weigh_out_of_fold
from multimodal_recall.evaluation.folds import OutOfFold
from multimodal_recall.evaluation.metrics import IDS, MetricError, refuse_candidates, refuse_duplicates

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
TITLE_RANKINGS = {"bm25": "BM25 over titles", "title_overlap": "title overlap"}
ZERO_SHOT = "zero-shot cosine"
REFERENCES = {"random": RANDOM_ORDER, "noun_alone": "noun alone", "truth": "generator's truth"}
LARGEST_SCORE = 1e100  # squares and sums of such scores stay finite
INDEX_NAME = re.compile(r"__index_level_\d+__|Unnamed: \d+(\.\d+)?|level_\d+|index|row_?(nr|number|index|id)|", re.I)
"""Names that pandas, polars and DuckDB give to a column of row numbers; an unnamed column is one too."""
COUNTED_ROWS = 10  # from here on, numbers that rise by 1 from row to row are no scores
FIT_COLUMNS = ["ranking", "ndcg_at_5", "one_shuffle", "over_shuffles", "over_folds"]


def join_scores(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put the scores of several sources side by side, the candidates in the order of the first source.

    Args:
        tables: By name of the source: ``query_id``, ``product_id`` and a numeric column a model.

    Raises:
        MetricError: If a source lacks an id column or has no model or row, an id is no integer of 64 bits, a column
            numbers the rows, a score is a NaN, no number or beyond ``LARGEST_SCORE``, a candidate has two rows, the
            sources score different candidates, or two sources have a model of the same name.
    """
    joined: pd.DataFrame | None = None
    for source, table in tables.items():
        checked = _checked(source, table)
        if joined is None:
            joined = checked
            continue
        twice = sorted(set(models_of(joined)) & set(models_of(checked)))
        if twice:
            raise MetricError(f"{source} has scores of {twice}, and so has another source: rename its column")
        merged = joined.merge(checked, on=IDS)
        if not len(merged) == len(joined) == len(table):
            raise MetricError(
                f"{source} scores {len(table)} candidates, the sources before {len(joined)}, and {len(merged)} "
                "candidates are in both: score the same candidate lists"
            )
        joined = merged
    return joined


def _checked(source: str, table: pd.DataFrame) -> pd.DataFrame:
    """Check a source's table, and give it with ids as int64 and without float16, which some of the measures lack."""
    if not set(IDS) < set(table.columns):
        raise MetricError(
            f"{source} has the columns {list(table.columns)}: wanted query_id, product_id and a column a model"
        )
    if table.empty:
        raise MetricError(f"{source} has no rows: give each candidate a row, or delete the file")
    for name in table.columns:
        is_number = is_integer_dtype if name in IDS else is_numeric_dtype
        if not is_number(table[name]):
            raise MetricError(f"{source}: {name} holds {table[name].dtype}, wanted numbers (integers for ids)")
    for name in IDS:
        if table[name].max() > LARGEST_ID:
            raise MetricError(f"{source}: {name} holds {table[name].max()}, and ids are whole numbers of 64 bits")
    for model in models_of(table):
        _refuse_index(source, table[model])
        _refuse_scores(source, table, model)
    refuse_duplicates(table, source)
    half = [name for name in table.columns if table[name].dtype == np.float16]
    return table.astype(dict.fromkeys(IDS, np.int64) | dict.fromkeys(half, np.float32))


def _refuse_index(source: str, column: pd.Series) -> None:
    """Refuse a column of row numbers, which tools write beside the data."""
    values = column.to_numpy()
    counts = is_integer_dtype(column) and len(values) >= COUNTED_ROWS and bool((np.diff(values) == 1).all())
    if counts or INDEX_NAME.fullmatch(str(column.name)):
        raise MetricError(
            f"{source}: the column {column.name!r} numbers the rows, as tools write it beside the data: leave it out, "
            "or rename it if it holds a model's scores"
        )


def _refuse_scores(source: str, table: pd.DataFrame, model: str) -> None:
    remedy, values = f"or leave {model!r} out", table[model]
    missing = f"give every candidate a score, {remedy}"
    refuse_candidates(table, values.isna().to_numpy(), f"scores of {model!r} in {source} are NaN", missing)
    large = ~(np.abs(values.to_numpy(np.float64)) <= LARGEST_SCORE)
    fault = f"scores of {model!r} in {source} are beyond {LARGEST_SCORE:g}"
    refuse_candidates(table, large, fault, f"give smaller scores, {remedy}")


def models_of(scores: pd.DataFrame) -> list[str]:
    """List the models whose scores a joined table holds."""
    return [name for name in scores.columns if name not in IDS]


def scores_of(scores: pd.DataFrame, model: str) -> pd.DataFrame:
    """Take ``query_id``, ``product_id`` and ``score`` of one model from a joined table; a model may be called score."""
    return scores[[*IDS, model]].rename(columns={model: "score"})


def run_scores(run: pd.DataFrame, candidates: pd.DataFrame | None = None) -> tuple[pd.DataFrame, int, int]:
    """Put the tags of a TREC run side by side as models.

    A run lists what a system has found: a candidate that it lacks comes after those that it has of the query.

    Args:
        run: ``query_id``, ``product_id``, ``score``, ``tag``.
        candidates: Of all queries, ``query_id``, ``product_id``; ``None``: all products that any tag has.

    Returns:
        The table, with a row a candidate; and the numbers of lines that are no candidates, which are left out, and of
        scores that a tag lacks.
    """
    table, outside = run.pivot(index=IDS, columns="tag", values="score"), 0
    if candidates is not None:
        wanted = pd.MultiIndex.from_frame(candidates[IDS])
        outside = int((~pd.MultiIndex.from_frame(run[IDS]).isin(wanted)).sum())
        table = table.reindex(wanted)
    lowest = table.groupby("query_id").transform("min").fillna(0)
    last = np.minimum(lowest - 1, np.nextafter(lowest, -np.inf))  # the 1 is lost beside large scores
    return table.fillna(last).rename_axis(columns=None).reset_index(), outside, int(table.isna().sum(axis=None))


def refuse_taken_names(scores: pd.DataFrame, blends: Iterable[str], margin: float) -> None:
    """Refuse models that have the name of a ranking that this module makes: their rows could not be told apart.

    Raises:
        MetricError: With the names that are taken.
    """
    models, rules = models_of(scores), (*RESCORED.values(), *RULES, f"margin {margin:g}", RECLASSIFIED)
    reserved = {
        *STACKS,
        *REFERENCES.values(),
        *TITLE_RANKINGS.values(),
        ZERO_SHOT,
        *(f"sum of {plural}" for plural in SCALES.values()),
    }
    reserved |= {f"{name}, sum of z-scores" for name in blends}
    reserved |= {f"{model}, {rule}" for model in models for rule in rules}
    taken = [model for model in models if model in reserved]
    if taken:
        raise MetricError(
            f"there are scores of {taken}, but evaluate gives this name to a ranking of its own: rename the column of "
            "the given scores, or the ranker"
        )


def blended_rankings(scores: pd.DataFrame, named: Mapping[str, Sequence[str]]) -> dict[str, pd.DataFrame]:
    """Sum the z-scores of each blend's models, and the scores of all models on each scale if there are several."""
    models = models_of(scores)
    blends = {f"{name}, sum of z-scores": blend(scores, list(blended), "z_score") for name, blended in named.items()}
    if len(models) > 1:
        blends |= {f"sum of {plural}": blend(scores, models, scale) for scale, plural in SCALES.items()}
    return blends


def rescored_rankings(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Collect what ``reranking`` made of each ranker's table ``scores``; a column of nulls is no ranking."""
    return {
        f"{ranker}, {rule}": scores_of(table, column)
        for ranker, table in tables.items()
        for column, rule in RESCORED.items()
        if table[column].notna().all()
    }


def ruled_rankings(scores: pd.DataFrame, model: str, lists: np.ndarray, margin: float) -> dict[str, pd.DataFrame]:
    """Apply each of the ``leak_rules`` to the scores of one model; the lists are those of all splits."""
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
    *splits: int,
) -> tuple[dict[str, dict[str, pd.DataFrame]], pd.DataFrame]:
    """Fit weights and LightGBM stacks of several models on the split itself, and score them out of fold.

    Args:
        scores: The joined table. A single model is neither weighed nor stacked.
        answers: Right products of each query.
        lists: See ``leak_rules``; for the stack that reads the leak.
        vectors: By ranker to re-classify (first place), its candidates (ids) and their pair vectors (n, D). The vectors
            carry the leak even out of fold: see ``stacking.stack_out_of_fold``.
        splits: Folds, shuffles and seed; see ``out_of_fold``.

    Returns:
        The rankings by kind and name; and ``FIT_COLUMNS``, one row a ranking: see ``folds.OutOfFold.summarise``.
    """
    from multimodal_recall.evaluation.stacking import stack_features, stack_out_of_fold

    models = models_of(scores)
    fits: dict[str, dict[str, OutOfFold]] = {FITTED: {}, LEAK: {}}
    if len(models) > 1:
        features = stack_features(scores, models).to_numpy()
        with_lists = stack_features(scores.assign(lists=lists), models, extra=("lists",)).to_numpy()
        weighted, classifier, lambdarank, counted = STACKS
        fits[FITTED] = {
            weighted: weigh_out_of_fold(scores, answers, models, "logit", *splits),
            classifier: stack_out_of_fold(scores, answers, features, "classifier", *splits),
            lambdarank: stack_out_of_fold(scores, answers, features, "lambdarank", *splits),
        }
        fits[LEAK][counted] = stack_out_of_fold(scores, answers, with_lists, "lambdarank", *splits)
    for ranker, (candidates, columns) in vectors.items():
        fit = stack_out_of_fold(candidates, answers, columns, "default_classifier", *splits)
        fits[LEAK][f"{ranker}, {RECLASSIFIED}"] = fit
    rankings = {kind: {name: fit.scores for name, fit in named.items()} for kind, named in fits.items()}
    spreads = [{"ranking": name, **fit.summarise(answers)} for named in fits.values() for name, fit in named.items()]
    return rankings, pd.DataFrame(spreads, columns=FIT_COLUMNS)


def stack_rankings(kinds: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """Stack rankings by kind and name to ``ranking``, ``kind``, ``query_id``, ``product_id``, ``score``."""
    tables = [
        scores[[*IDS, "score"]].assign(ranking=name, kind=kind)
        for kind, rankings in kinds.items()
        for name, scores in rankings.items()
    ]
    if not tables:
        tables = [pd.DataFrame({name: [] for name in (*IDS, "score", "ranking", "kind")})]
    return pd.concat(tables, ignore_index=True)[["ranking", "kind", *IDS, "score"]]
