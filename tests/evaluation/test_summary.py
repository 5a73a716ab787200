import numpy as np
import pandas as pd
import pytest

from multimodal_recall.evaluation.bootstrap import bootstrap_means
from multimodal_recall.evaluation.summary import break_down, paired_differences, verdict


def test_wins_and_losses_are_counted_query_by_query() -> None:
    ndcg = pd.DataFrame({"a": [0.0, 0.5, 1.0, 0.2], "b": [0.5, 0.0, 1.0, 0.9]})
    means = bootstrap_means(ndcg.to_numpy(), 200, np.random.default_rng(0))
    row = paired_differences(ndcg, "a", means, 0.95).iloc[0]
    assert row[["ranking", "against", "wins", "loses", "ties"]].tolist() == ["b", "a", 2, 1, 1]
    assert row["difference"] == pytest.approx(0.175)
    assert row["difference_low"] < 0.175 < row["difference_high"]


def test_the_interval_of_a_difference_is_that_of_paired_draws() -> None:
    # two models that differ by the same on every query: no doubt about the difference
    values = np.random.default_rng(0).random(50)
    ndcg = pd.DataFrame({"a": values, "b": values + 0.1})
    row = paired_differences(ndcg, "a", bootstrap_means(ndcg.to_numpy(), 100, np.random.default_rng(0)), 0.95).iloc[0]
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((0.1, 0.1))


def test_the_groups_of_a_breakdown_make_up_the_whole() -> None:
    ndcg = pd.Series([0.0, 0.5, 1.0, 0.2], index=[7, 8, 9, 10])
    facts = pd.DataFrame({"words": ["1", "2", "2", None]}, index=[10, 9, 8, 7])
    found = break_down(ndcg, facts, draws=50, confidence=0.95, seed=0).set_index("group")
    assert found["queries"].to_dict() == {"1": 1, "2": 2}
    assert found.loc["2", "ndcg_at_5"] == 0.75


@pytest.mark.parametrize(
    ("low", "high", "word", "better"),
    [(-0.5, -0.1, "better", True), (-0.2, 0.1, "no better", False), (0.1, 0.3, "worse", False)],
)
def test_a_verdict_goes_by_the_interval_of_the_difference(low: float, high: float, word: str, better: bool) -> None:
    summary = pd.DataFrame(
        {
            "ranking": ["random order", "mine", "noun alone"],
            "nDCG@5": [0.25, 0.4, 0.2],
            "difference_low": [low, np.nan, -0.3],
            "difference_high": [high, np.nan, -0.1],
        }
    )
    said = f"mine (0.400) is {word} than random order (0.250) and better than noun alone (0.200)"
    assert verdict(summary, "mine") == (said, better)
    assert verdict(summary[summary["ranking"] == "mine"], "mine") == ("", True)


def test_titles_are_a_baseline_but_in_the_made_up_shop_which_writes_them_from_its_truth() -> None:
    summary = pd.DataFrame(
        {
            "ranking": ["BM25 over titles", "mine"],
            "nDCG@5": [0.7, 0.4],
            "difference_low": [0.2, np.nan],
            "difference_high": [0.4, np.nan],
        }
    )
    assert verdict(summary, "mine") == ("mine (0.400) is worse than BM25 over titles (0.700)", False)
    assert verdict(pd.concat([summary, summary.head(1).assign(ranking="generator's truth")]), "mine") == ("", True)
