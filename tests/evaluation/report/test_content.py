from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from multimodal_recall.evaluation.calibration import calibration_error, reliability
from multimodal_recall.evaluation.report.content import (
    ReportContent,
    ReportError,
    extremes,
    order_queries,
    shown_candidates,
)
from tests.evaluation.report.conftest import BREAKDOWN, HEADLINE, make_content


def test_queries_stand_worst_first_with_the_ranks_of_their_right_candidates(content: ReportContent) -> None:
    ordered = order_queries(content)
    assert ordered["query_id"].tolist() == [3, 2, 1]
    assert ordered["right_ranks"].tolist() == [[3, 4, 5, 6], [2, 3, 4, 5], [1, 2, 3, 4]]
    assert ordered["candidates"].tolist() == [8, 8, 8]
    assert ordered["query"].tolist() == [f"red shirt number {number}" for number in (3, 2, 1)]


def test_equal_queries_stand_by_the_mean_rank_of_their_right_candidates(changed: Callable) -> None:
    # Given equal nDCG everywhere, and a query 9 that was never scored
    queries = pd.DataFrame({"query_id": [1, 2, 3, 9], "ndcg_at_5": 0.0})
    ordered = order_queries(changed(queries=queries))
    # Then the one without candidates is the worst, and the one with right ones far down the next
    assert ordered["query_id"].tolist() == [9, 3, 2, 1]
    assert ordered.loc[0, ["candidates", "right_ranks", "query"]].tolist() == [0, [], None]


@pytest.mark.parametrize(("queries", "lengths"), [(1, (1, 0)), (3, (2, 1)), (40, (20, 20)), (100, (20, 20))])
def test_worst_and_best_never_share_a_query(queries: int, lengths: tuple[int, int]) -> None:
    ordered = pd.DataFrame({"query_id": np.arange(queries)})
    worst, best = (part["query_id"].tolist() for part in extremes(ordered))
    assert (len(worst), len(best)) == lengths
    assert worst == list(range(len(worst)))
    assert best == list(range(queries - 1, queries - 1 - len(best), -1))


def test_shown_are_the_first_five_and_the_right_ones_after_them(content: ReportContent) -> None:
    shown = shown_candidates(content, pd.Series([3, 1]))
    ranks = shown.groupby("query_id")["rank"].agg(list)
    assert ranks.to_dict() == {1: [1, 2, 3, 4, 5], 3: [1, 2, 3, 4, 5, 6]}


def test_reliability_by_hand() -> None:
    # Given two probabilities, 0.25 right half of the time and 0.75 always
    scores = np.log([1 / 3, 1 / 3, 3, 3])
    bins = reliability(pd.DataFrame({"score": scores, "right": [True, False, True, True]}), bins=2)
    np.testing.assert_allclose(bins, [[0.25, 0.5, 2], [0.75, 1.0, 2]])
    assert calibration_error(bins) == pytest.approx(0.25)


def test_reliability_of_a_constant_and_of_huge_scores_is_finite() -> None:
    for score in (0.0, 1000.0, -1000.0):
        bins = reliability(pd.DataFrame({"score": [score] * 20, "right": [True, False] * 10}))
        assert bins["observed"].tolist() == [0.5]
        assert np.isfinite(bins.to_numpy()).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"headline": HEADLINE.drop(columns="low")}, r"headline lacks the columns \['low'\]: it has"),
        ({"headline": HEADLINE.assign(kind="lucky")}, "1 kinds of ranking are unknown, first lucky"),
        ({"headline": HEADLINE.head(0)}, "headline of two_tower on valid has no rows"),
        ({"breakdown": BREAKDOWN.head(0)}, "breakdown of two_tower on valid has no rows"),
        (
            {"queries": pd.DataFrame({"query_id": [1], "ndcg_at_5": [1.0]})},
            "2 candidates' queries are unknown, first 2",
        ),
        ({"products": make_content(1, 8, 4, 2).products}, "16 candidates' products are unknown, first 2001"),
        ({"training_logs": {"mcan": HEADLINE}}, "the training log of mcan lacks the columns"),
    ],
)
def test_what_cannot_be_shown_is_one_clear_error(changed: Callable, fields: dict, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        changed(**fields)
