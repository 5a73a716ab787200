import numpy as np
import pandas as pd
import pytest

from multimodal_recall.evaluation.folds import out_of_fold
from multimodal_recall.evaluation.metrics import MetricError, is_right
from tests.evaluation.made_up import made_up, ndcg


def at_random(
    fit: np.ndarray, score: np.ndarray, known: dict[int, list[int]], random: np.random.Generator
) -> np.ndarray:
    return random.normal(size=len(score))


def test_no_query_is_scored_by_a_fit_on_its_own_rows() -> None:
    # Given a fit that learns the right pairs by heart
    scores, answers = made_up()
    seen = []

    def by_heart(
        fit: np.ndarray, score: np.ndarray, known: dict[int, list[int]], random: np.random.Generator
    ) -> np.ndarray:
        assert not set(scores["query_id"].iloc[score]) & (set(scores["query_id"].iloc[fit]) | set(known))
        seen.append(set(scores["query_id"].iloc[score]))
        return is_right(scores.iloc[score], known) + random.normal(size=len(score))

    found = out_of_fold(scores, answers, 5, 3, 0, by_heart)
    chance = np.mean(
        [ndcg(scores.assign(score=np.random.default_rng(i).random(len(scores))), answers) for i in range(9)]
    )
    assert found.summarise(answers)["one_shuffle"] == pytest.approx(chance, abs=0.06)
    assert ndcg(scores.assign(score=is_right(scores, answers).astype(float)), answers) > 0.9
    # Then each shuffle scores every query once, and the shuffles differ
    assert [sorted(q for fold in seen[i : i + 5] for q in fold) for i in (0, 5, 10)] == [list(range(60))] * 3
    assert not any(fold in seen[5:] for fold in seen[:5])


def test_folds_have_equally_many_queries_within_one_with_those_without_candidates() -> None:
    scores, answers = made_up()
    folds = out_of_fold(scores, answers, 5, 2, 0, at_random).folds
    assert folds.groupby("shuffle")["queries"].agg(sorted).tolist() == [[12, 12, 12, 12, 13]] * 2


def test_the_order_of_the_answers_changes_nothing() -> None:
    scores, answers = made_up()
    backwards = dict(reversed(answers.items()))
    found, again = (out_of_fold(scores, given, 5, 2, 0, at_random).scores for given in (answers, backwards))
    pd.testing.assert_frame_equal(found, again)


def test_bad_folds_and_answers_are_refused() -> None:
    scores, answers = made_up(queries=3)
    with pytest.raises(MetricError, match=r"5 folds of 4 .* needs a query: set evaluate\.folds to 2 to 4"):
        out_of_fold(scores, answers, 5, 2, 0, at_random)
    with pytest.raises(MetricError, match=r"5 folds of 1 queries, .*: add a query with answers"):
        out_of_fold(scores, {0: [1]}, 5, 2, 0, at_random)
    with pytest.raises(MetricError, match="1 scored queries have no answer, first 2"):
        out_of_fold(scores, {0: [1], 1: [1]}, 2, 2, 0, at_random)
