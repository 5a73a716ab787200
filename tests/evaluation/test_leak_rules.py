import numpy as np
import pandas as pd
import pytest

from multimodal_recall.evaluation.leak_rules import (
    beat_by_margin,
    best_query_only,
    keep_once,
    leak_poor_queries,
    lists_with_product,
)
from multimodal_recall.evaluation.metrics import ndcg_at_5
from tests.conftest import LEADERBOARD, read_leaderboard


def candidates(*lists: list[int]) -> pd.DataFrame:
    """One query a list; scores fall along it from 0.99."""
    rows = [
        (query, product, 0.99 - place / 100) for query, row in enumerate(lists) for place, product in enumerate(row)
    ]
    return pd.DataFrame(rows, columns=["query_id", "product_id", "score"])


def kept(scores: pd.DataFrame, query: int) -> list[int]:
    return scores.loc[scores["query_id"] == query, "product_id"].tolist()


def test_keep_once_raises_its_limit_until_five_are_left() -> None:
    # Given products 1 to 4 in query 0 alone, 10 in two lists, 20 in three
    scores = candidates([20, 10, 1, 2, 3, 4], [10, 20, 30, 31, 32, 33, 34], [20, 40])
    left = keep_once(scores, lists_with_product(scores))
    assert kept(left, 0) == [10, 1, 2, 3, 4]
    assert kept(left, 1) == [30, 31, 32, 33, 34]
    assert kept(left, 2) == [20, 40]  # fewer than five candidates: all


def test_best_query_only() -> None:
    left = best_query_only(candidates([1, 2, 3], [2, 4]))
    assert (kept(left, 0), kept(left, 1)) == ([1, 3], [2, 4])


def test_the_margin_rule_gives_a_short_list_back() -> None:
    scores = candidates([1, 2, 3, 4, 5, 6, 7], [7, 8, 9, 10, 11, 12, 13], [1, 20])
    scores.loc[scores["query_id"] == 1, "score"] -= 0.5
    left = beat_by_margin(scores, margin=0.3)
    assert kept(left, 0) == [2, 3, 4, 5, 6, 7]  # 1 leads by nothing, 7 by 0.43
    assert kept(left, 1) == [8, 9, 10, 11, 12, 13]
    assert kept(left, 2) == [1, 20]


def test_a_rule_leaves_the_order_of_rows_to_the_caller() -> None:
    scores = candidates([1, 2, 3, 4, 5, 6], [6, 7, 1, 8, 9, 10, 11]).sample(frac=1, random_state=0)
    for rule in (
        best_query_only,
        lambda table: beat_by_margin(table, 0.92),
        lambda table: keep_once(table, lists_with_product(table)),
    ):
        ours = rule(scores).sort_index()
        pd.testing.assert_frame_equal(ours, rule(scores.sort_index()))


@pytest.mark.skipif(not LEADERBOARD.exists(), reason=f"{LEADERBOARD} with the real scores is not here")
def test_published_figures_on_real_scores() -> None:
    table, answers, joint = read_leaderboard()
    scores = table[["query_id", "product_id"]].assign(score=table["imagebert"])

    def figure(left: pd.DataFrame) -> float:
        return round(ndcg_at_5(left, answers)["ndcg_at_5"].mean(), 4)

    assert figure(best_query_only(scores)) == 0.7486
    assert figure(keep_once(scores, lists_with_product(scores))) == 0.8367
    assert figure(keep_once(scores, joint)) == 0.8766
    assert figure(beat_by_margin(scores, 0.92)) == 0.8385
    poor = leak_poor_queries(scores, joint)
    assert len(poor) == 116
    for model, expected in {"imagebert": 0.6155, "lxmert_b1": 0.5327, "lxmert_b2": 0.5646, "lxmert_b3": 0.5136}.items():
        measured = ndcg_at_5(scores.assign(score=table[model]), answers).set_index("query_id")["ndcg_at_5"]
        assert measured.loc[poor].mean() == pytest.approx(expected, abs=1e-4)
    assert np.all(joint >= lists_with_product(scores))
