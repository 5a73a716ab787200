"""Measures of a search in the whole catalogue, where most products found have not been judged.

Judged are the candidates of a query's list: right, if they are answers, else wrong. The other products are unjudged. As
TREC does, ``ir_measures`` counts unjudged products as not right; ``judged_at_10`` says how many of the first ten were
judged at all, and ``wrong_at_10`` how many were judged wrong.
"""

from collections.abc import Mapping

import ir_measures
import numpy as np
import pandas as pd

from multimodal_recall.config.options import EvaluateOptions
from multimodal_recall.evaluation.bootstrap import bootstrap_means, interval
from multimodal_recall.evaluation.metrics import IDS, is_right

CUTS = (10, 50, 100, 1000)
DEEPEST, SHOWN = CUTS[-1], CUTS[0]
IR_MEASURES: Mapping[str, ir_measures.measures.Measure] = {
    **{f"recall_at_{cut}": ir_measures.R @ cut for cut in CUTS},
    **{f"success_at_{cut}": ir_measures.Success @ cut for cut in CUTS},
    "reciprocal_rank": ir_measures.RR,
    "ndcg_at_10": ir_measures.nDCG @ SHOWN,
    "judged_at_10": ir_measures.Judged @ SHOWN,
}
TITLES = {
    **{f"{kind}_at_{cut}": f"{kind}@{cut}" for kind in ("recall", "success") for cut in CUTS},
    "reciprocal_rank": "RR",
    "ndcg_at_10": "nDCG@10",
    "judged_at_10": "judged@10",
    "wrong_at_10": "wrong@10",
}
COVERAGE = "coverage@10"


def random_order(query_ids: np.ndarray, product_ids: np.ndarray, random: np.random.Generator) -> pd.DataFrame:
    """Draw ``DEEPEST`` products of the catalogue for each query: ``query_id``, ``product_id``, ``rank`` from 1."""
    count = min(DEEPEST, len(product_ids))
    drawn = [random.choice(product_ids, count, replace=False) for _ in query_ids]
    ranks = np.tile(np.arange(1, count + 1), len(query_ids))
    return pd.DataFrame({"query_id": np.repeat(query_ids, count), "product_id": np.concatenate(drawn), "rank": ranks})


def measure_retrieved(
    retrieved: pd.DataFrame, answers: Mapping[int, list[int]], candidates: pd.DataFrame
) -> pd.DataFrame:
    """Measure what was found for each query of ``answers``; a query for which nothing was found counts 0.

    - ``recall_at_k``: share of the right products among the first k. Right products count whether the catalogue has
      them or not.
    - ``success_at_k``: 1 if a right product is among the first k, else 0.
    - ``reciprocal_rank``: 1 / rank of the first right product. ``ndcg_at_10``: with gain 1 for right products.
    - ``judged_at_10``, ``wrong_at_10``: shares of the first ten that are candidates of the query, and that are
      candidates without being right.

    Args:
        retrieved: ``query_id``, ``product_id``, ``rank`` from 1.
        answers: Right products of each query.
        candidates: ``query_id``, ``product_id`` of all that was judged.

    Returns:
        One row a query of ``answers``: ``query_id``, the measures, and ``top_10``, the products of the first ten.
    """
    asked = candidates[candidates["query_id"].isin(answers)]
    wrong = asked[~is_right(asked, dict(answers))]
    judged = {str(query): dict.fromkeys(map(str, group), 0) for query, group in wrong.groupby("query_id")["product_id"]}
    for query, right in answers.items():
        judged.setdefault(str(query), {}).update(dict.fromkeys(map(str, right), 1))
    run = {
        str(query): dict(zip(group["product_id"].astype(str), -group["rank"].astype(float), strict=True))
        for query, group in retrieved.groupby("query_id")
    }
    rows = {str(query): row for row, query in enumerate(answers)}
    found = {name: np.zeros(len(rows)) for name in IR_MEASURES}
    names = {measure: name for name, measure in IR_MEASURES.items()}
    for metric in ir_measures.iter_calc(list(IR_MEASURES.values()), judged, run):
        found[names[metric.measure]][rows[metric.query_id]] = metric.value
    table = pd.DataFrame({"query_id": list(answers), **found})
    first = retrieved[retrieved["rank"] <= SHOWN].sort_values(["query_id", "rank"])
    counts = first.merge(wrong[IDS], on=IDS).groupby("query_id").size()
    table["wrong_at_10"] = table["query_id"].map(counts).fillna(0) / SHOWN
    tops = first.groupby("query_id")["product_id"].agg(list)
    return table.assign(top_10=[tops.get(query, []) for query in answers])


def recall_of_all(retrieved: pd.DataFrame, answers: Mapping[int, list[int]]) -> pd.Series:
    """Find the share of each query's right products that was found at any rank, in the order of ``answers``."""
    right = retrieved[is_right(retrieved, dict(answers))].groupby("query_id").size()
    return pd.Series([right.get(query, 0) / len(set(products)) for query, products in answers.items()])


def summarise_recall(metrics: pd.DataFrame, products: int, options: EvaluateOptions, seed: int) -> pd.DataFrame:
    """Average the measures of each ranking of a split, with intervals over queries.

    Args:
        metrics: ``measure_retrieved`` of several rankings, with ``ranking`` and ``ceiling``.
        products: Products of the catalogue.
        options: Confidence and number of draws of the intervals.
        seed: Of the draws.

    Returns:
        One row a ranking and measure: ``ranking``, ``measure``, ``value``, ``low``, ``high``, ``ceiling`` (of recall in
        two stages: the mean recall of the first stage), ``queries``, ``products``. ``COVERAGE`` is the share of all
        products that stand among the first ten of any query; it has no interval, since a sample of queries with repeats
        covers less.
    """
    parts = []
    for ranking, rows in metrics.groupby("ranking", sort=False):
        values = rows[list(TITLES)].to_numpy()
        draws = bootstrap_means(values, options.bootstrap_draws, np.random.default_rng(seed))
        low, high = interval(draws, options.confidence)
        part = pd.DataFrame({"measure": list(TITLES.values()), "value": values.mean(axis=0), "low": low, "high": high})
        part["ceiling"] = rows["ceiling"].mean()
        part.loc[~part["measure"].str.startswith("recall"), "ceiling"] = np.nan
        reached = len({product for top in rows["top_10"] for product in top})
        part.loc[len(part), ["measure", "value"]] = [COVERAGE, reached / products]
        part.insert(0, "ranking", ranking)
        parts.append(part.assign(queries=len(rows), products=products))
    return pd.concat(parts, ignore_index=True)
