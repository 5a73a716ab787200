"""Measures of a search in the whole catalogue, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from multimodal_recall.config.options import EvaluateOptions
from multimodal_recall.evaluation.recall import (
    COVERAGE,
    DEEPEST,
    TITLES,
    measure_retrieved,
    random_order,
    recall_of_all,
    summarise_recall,
)

ANSWERS = {7: [1, 2], 8: [3], 9: [500]}
CANDIDATES = pd.DataFrame(
    [(7, 1), (7, 2), (7, 11), (7, 12), (8, 3), (8, 21), (9, 500), (6, 1)], columns=["query_id", "product_id"]
)


def found(**by_query: list[int]) -> pd.DataFrame:
    """Products in the order in which they were found, by query ``q7``."""
    parts = [
        pd.DataFrame({"query_id": int(query[1:]), "product_id": products, "rank": range(1, len(products) + 1)})
        for query, products in by_query.items()
    ]
    return pd.concat(parts, ignore_index=True)


RETRIEVED = found(q7=[11, 1, 99, 98, 97, 96, 95, 94, 93, 92, 2], q8=[*range(100, 149), 3])


def test_right_wrong_and_unjudged_are_told_apart() -> None:
    table = measure_retrieved(RETRIEVED, ANSWERS, CANDIDATES).set_index("query_id")
    assert table["judged_at_10"].tolist() == [0.2, 0, 0]  # 11 is judged wrong, 1 right, the others are unjudged
    assert table["wrong_at_10"].tolist() == [0.1, 0, 0]
    assert table["recall_at_10"].tolist() == [0.5, 0, 0]
    assert table["recall_at_50"].tolist() == [1, 1, 0]
    assert table["success_at_10"].tolist() == [1, 0, 0]
    assert table["success_at_50"].tolist() == [1, 1, 0]
    assert table["reciprocal_rank"].tolist() == pytest.approx([1 / 2, 1 / 50, 0])
    assert table["ndcg_at_10"].tolist() == pytest.approx([(1 / np.log2(3)) / (1 + 1 / np.log2(3)), 0, 0])
    assert table["top_10"].tolist()[:2] == [[11, 1, 99, 98, 97, 96, 95, 94, 93, 92], [*range(100, 110)]]
    assert recall_of_all(RETRIEVED, ANSWERS).tolist() == [1, 1, 0]


def test_the_order_of_the_rows_changes_nothing() -> None:
    shuffled = RETRIEVED.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(
        measure_retrieved(shuffled, ANSWERS, CANDIDATES), measure_retrieved(RETRIEVED, ANSWERS, CANDIDATES)
    )


def test_means_intervals_coverage_and_the_ceiling() -> None:
    metrics = measure_retrieved(RETRIEVED, ANSWERS, CANDIDATES)
    both = pd.concat([metrics.assign(ranking="one", ceiling=np.nan), metrics.assign(ranking="two", ceiling=[1, 1, 0])])
    table = summarise_recall(both, 200, EvaluateOptions(bootstrap_draws=200), seed=0)
    assert table["ranking"].unique().tolist() == ["one", "two"]
    one, two = (table[table["ranking"] == name].set_index("measure") for name in ("one", "two"))
    assert list(one.index) == [*TITLES.values(), COVERAGE]
    assert one.loc["recall@50", "value"] == pytest.approx(2 / 3)
    assert one.loc["recall@50", "low"] < 2 / 3 < one.loc["recall@50", "high"]
    assert one.loc[COVERAGE, "value"] == 20 / 200
    assert np.isnan(one.loc[COVERAGE, "low"])
    assert one["ceiling"].isna().all()
    ceilings = two["ceiling"].dropna()
    assert list(ceilings.index) == ["recall@10", "recall@50", "recall@100", "recall@1000"]
    assert (ceilings.round(6) == 0.666667).all()


def test_chance_draws_each_product_once() -> None:
    drawn = random_order(np.array([5, 6]), np.arange(3000), np.random.default_rng(0))
    assert drawn.groupby("query_id")["product_id"].nunique().tolist() == [DEEPEST, DEEPEST]
    assert drawn["rank"].max() == DEEPEST
    assert len(random_order(np.array([5]), np.arange(10), np.random.default_rng(0))) == 10
