"""Rankings of the same queries side by side: means with intervals, paired differences, groups of queries."""

import numpy as np
import pandas as pd

from multimodal_recall.config.options import EvaluateOptions
from multimodal_recall.evaluation.bootstrap import bootstrap_means, interval
from multimodal_recall.evaluation.metrics import MEASURES
from multimodal_recall.evaluation.rankings import RANDOM_ORDER, RANKING_KINDS, REFERENCES, TITLE_RANKINGS, ZERO_SHOT

BASELINES = (RANDOM_ORDER, REFERENCES["noun_alone"])
"""Rankings that a model must beat to be worth its training."""
TRUTH = REFERENCES["truth"]
"""The made-up shop writes its titles from its truth: there, and there alone, title words are no baseline."""
METRIC_TITLES = {
    "ndcg_at_5": "nDCG@5",
    "ndcg_at_10": "nDCG@10",
    "reciprocal_rank": "MRR",
    "recall_at_5": "recall@5",
    "precision_at_5": "precision@5",
    "average_precision": "MAP",
}


def summarise(query_metrics: pd.DataFrame, headline: str, options: EvaluateOptions, seed: int) -> pd.DataFrame:
    """Summarise the rankings of a split, and compare them with the model ``headline``.

    Returns:
        One row a ranking, by kind, best last: the mean of each measure; of nDCG@5 also the interval ``low`` to
        ``high``, the mean over the leak-poor queries, and the columns of ``paired_differences``.
    """
    names = ["kind", "ranking"]
    means = query_metrics.groupby(names, sort=False)[list(MEASURES)].mean().rename(columns=METRIC_TITLES)
    poor = query_metrics[query_metrics["leak_poor"]].groupby(names, sort=False)["ndcg_at_5"].mean()
    ndcg = query_metrics.pivot(index="query_id", columns="ranking", values="ndcg_at_5")
    draws = bootstrap_means(ndcg.to_numpy(), options.bootstrap_draws, np.random.default_rng(seed))
    low, high = interval(draws, options.confidence)
    ends = pd.DataFrame({"low": low, "high": high}, index=ndcg.columns)
    table = means.assign(**{"leak-poor nDCG@5": poor}).reset_index()
    table = table.join(ends, on="ranking").assign(queries=len(ndcg))
    pairs = paired_differences(ndcg, headline, draws, options.confidence)
    table = table.merge(pairs, how="left", on="ranking")
    table = table.iloc[np.lexsort([table["nDCG@5"], table["kind"].map(RANKING_KINDS.index)])]
    first = ["ranking", "kind", "nDCG@5", "low", "high", "leak-poor nDCG@5"]
    return table[[*first, *table.columns.drop(first)]]


def verdict(summary: pd.DataFrame, headline: str) -> tuple[str, bool]:
    """Say whether the interval of the paired difference puts ``headline`` above each baseline of a split.

    Args:
        summary: Rows of ``summarise``.
        headline: The model that the differences are ``against``.

    Returns:
        A sentence, and whether the model is better than every baseline; without a baseline an empty sentence.
    """
    rows = summary.set_index("ranking")
    parts, better = [], True
    for baseline in (*BASELINES, *((*TITLE_RANKINGS.values(), ZERO_SHOT) if TRUTH not in rows.index else ())):
        if baseline in rows.index:
            row = rows.loc[baseline]
            ahead, behind = row["difference_high"] < 0, row["difference_low"] > 0  # of the baseline to the model
            word = "better" if ahead else "worse" if behind else "no better"
            parts.append(f"{word} than {baseline} ({row['nDCG@5']:.3f})")
            better &= bool(ahead)
    if not parts:
        return "", True
    return f"{headline} ({rows.loc[headline, 'nDCG@5']:.3f}) is {' and '.join(parts)}", better


def paired_differences(ndcg: pd.DataFrame, against: str, draws: np.ndarray, confidence: float) -> pd.DataFrame:
    """Compare all rankings with the ranking ``against``, query by query.

    Args:
        ndcg: (queries, rankings) values of a measure.
        against: Name of a ranking.
        draws: (draws, rankings) resampled means of ``ndcg``; see ``bootstrap_means``.
        confidence: Of the interval, 0 to 1.

    Returns:
        One row a ranking other than ``against``: ``ranking``, ``against``, ``difference``, the ends of its interval
        ``difference_low`` and ``difference_high``, and the numbers of queries that it ``wins``, ``loses`` and ``ties``.
    """
    column = ndcg.columns.get_loc(against)
    difference = ndcg.drop(columns=against).sub(ndcg[against], axis=0)
    low, high = interval(np.delete(draws, column, axis=1) - draws[:, [column]], confidence)
    counts = {"wins": (difference > 0).sum(), "loses": (difference < 0).sum(), "ties": (difference == 0).sum()}
    means = {"difference": difference.mean(), "difference_low": low, "difference_high": high}
    table = pd.DataFrame({"against": against, **means, **counts})
    return table.rename_axis("ranking").reset_index()


def break_down(ndcg: pd.Series, facts: pd.DataFrame, draws: int, confidence: float, seed: int) -> pd.DataFrame:
    """Measure each group of queries; each column of facts puts queries into groups, and a missing value into none.

    Both ``ndcg`` (nDCG@5) and ``facts`` are by query id.

    Returns:
        One row a column and group: ``by``, ``group``, ``queries``, ``ndcg_at_5``, ``low``, ``high``.
    """
    rows = []
    for by, groups in facts.items():
        for group, values in ndcg.groupby(groups, observed=True, sort=True):
            random = np.random.default_rng([seed, *f"{by} {group}".encode()])
            low, high = interval(bootstrap_means(values.to_numpy()[:, None], draws, random), confidence)
            rows.append((by, str(group), len(values), values.mean(), low[0], high[0]))
    return pd.DataFrame(rows, columns=["by", "group", "queries", "ndcg_at_5", "low", "high"])


def query_groups(facts: pd.DataFrame) -> pd.DataFrame:
    """Group the queries of ``query_facts`` by words, frequent last words, and boxes and label of the right products."""
    frequent = facts["last_word"].value_counts().index[:10]
    return pd.DataFrame(
        {
            "words in the query": pd.cut(facts["words"], [0, 2, 3, 4, 5, np.inf], labels=["1-2", "3", "4", "5", "6+"]),
            "last word": facts["last_word"].where(facts["last_word"].isin(frequent)),
            "boxes of a right product": pd.cut(
                facts["boxes"], [0, 1, 2, 4, np.inf], labels=["1", "up to 2", "up to 4", "more"]
            ),
            "label of the right products": facts["label"],
        }
    )
