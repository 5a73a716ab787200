"""Rankings of the same queries side by side: means with intervals, paired differences, groups of queries."""

import numpy as np
import pandas as pd

from multimodal_recall.config.options import EvaluateOptions
from multimodal_recall.evaluation.bootstrap import bootstrap_means, interval
from multimodal_recall.evaluation.metrics import MEASURES
from multimodal_recall.evaluation.rankings import RANKING_KINDS

METRIC_TITLES = {
    "ndcg_at_5": "nDCG@5",
    "ndcg_at_10": "nDCG@10",
    "reciprocal_rank": "MRR",
    "recall_at_5": "recall@5",
    "precision_at_5": "precision@5",
    "average_precision": "MAP",
}


def summarise(query_metrics: pd.DataFrame, headline: str, options: EvaluateOptions, seed: int) -> pd.DataFrame:
    """Summarise the rankings of a split.

    Returns:
        One row a ranking: mean of each measure; of nDCG@5 also the interval, the mean over the leak-poor queries, and
        the paired comparison with the headline model; see ``paired_differences``.
    """
    groups = query_metrics.groupby(["kind", "ranking"], sort=False)
    poor = query_metrics[query_metrics["leak_poor"]].groupby(["kind", "ranking"], sort=False)["ndcg_at_5"].mean()
    ndcg = query_metrics.pivot(index="query_id", columns="ranking", values="ndcg_at_5")
    draws = bootstrap_means(ndcg.to_numpy(), options.bootstrap_draws, np.random.default_rng(seed))
    low, high = interval(draws, options.confidence)
    ends = pd.DataFrame({"low": low, "high": high}, index=ndcg.columns)
    table = (
        groups[list(MEASURES)].mean().assign(poor=poor).rename(columns={**METRIC_TITLES, "poor": "leak-poor nDCG@5"})
    )
    table = table.reset_index().join(ends, on="ranking").assign(queries=len(ndcg))
    pairs = paired_differences(ndcg, headline, draws, options.confidence)
    table = table.merge(pairs, how="left", on="ranking")
    order = [table["kind"].map(RANKING_KINDS.index), table["nDCG@5"]]
    table = table.iloc[np.lexsort(order[::-1])]
    first = ["ranking", "kind", "nDCG@5", "low", "high", "leak-poor nDCG@5"]
    return table[[*first, *table.columns.drop(first)]]


def paired_differences(ndcg: pd.DataFrame, against: str, draws: np.ndarray, confidence: float) -> pd.DataFrame:
    """Compare every ranking with one of them, query by query.

    Args:
        ndcg: (queries, rankings) a measure.
        against: Name of the one.
        draws: (draws, rankings) resampled means of it; see ``bootstrap_means``.
        confidence: Of the interval.

    Returns:
        One row an other ranking: ``ranking``, ``against``, ``difference``, its ends ``difference_low`` and
        ``difference_high``, and on how many queries it ``wins``, ``loses`` and ``ties``.
    """
    one = ndcg.columns.get_loc(against)
    difference = ndcg.drop(columns=against).sub(ndcg[against], axis=0)
    low, high = interval(np.delete(draws, one, axis=1) - draws[:, [one]], confidence)
    sums = {"wins": (difference > 0).sum(), "loses": (difference < 0).sum(), "ties": (difference == 0).sum()}
    means = {"difference": difference.mean(), "difference_low": low, "difference_high": high}
    table = pd.DataFrame({"against": against, **means, **sums})
    return table.rename_axis("ranking").reset_index()


def break_down(ndcg: pd.Series, facts: pd.DataFrame, draws: int, confidence: float, seed: int) -> pd.DataFrame:
    """Measure groups of queries apart.

    Args:
        ndcg: A measure by query id.
        facts: By query id, a column of groups for each way to part the queries; missing values belong to no group.
        draws: Of the bootstrap.
        confidence: Of its interval.
        seed: Of its draws.

    Returns:
        ``by``, ``group``, ``queries``, ``ndcg_at_5``, ``low``, ``high``.
    """
    rows = []
    for by, groups in facts.items():
        for group, values in ndcg.groupby(groups, observed=True, sort=True):
            random = np.random.default_rng([seed, *f"{by} {group}".encode()])
            low, high = interval(bootstrap_means(values.to_numpy()[:, None], draws, random), confidence)
            rows.append((by, str(group), len(values), values.mean(), low[0], high[0]))
    return pd.DataFrame(rows, columns=["by", "group", "queries", "ndcg_at_5", "low", "high"])


def query_groups(facts: pd.DataFrame) -> pd.DataFrame:
    """Part the queries by number of words, frequent last words, boxes and label of the right products."""
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
