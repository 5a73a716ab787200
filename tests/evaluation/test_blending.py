from typing import get_args

import numpy as np
import pandas as pd
import pytest

from multimodal_recall.evaluation.blending import PaddedQueries, blend, weigh_out_of_fold
from multimodal_recall.evaluation.metrics import MetricError, measure_queries
from multimodal_recall.evaluation.scales import Scale
from tests.evaluation.made_up import MODELS, made_up, ndcg


@pytest.mark.parametrize("scale", get_args(Scale))
def test_a_blend_of_one_model_keeps_its_ranking(scale: Scale) -> None:
    scores, answers = made_up()
    alone = measure_queries(scores.rename(columns={"good": "score"}), answers)
    blended = measure_queries(blend(scores, ["good"], scale), answers)
    pd.testing.assert_frame_equal(blended, alone)


def test_a_blend_is_a_sum() -> None:
    scores, _ = made_up()
    total = scores["good"] + scores["fair"]
    np.testing.assert_allclose(blend(scores, ["good", "fair"], "logit")["score"], total, atol=1e-12)


def test_padded_queries_measure_as_metrics_do() -> None:
    scores, answers = made_up()
    queries = PaddedQueries.pad(scores, answers, MODELS)
    for weights in np.random.default_rng(0).integers(0, 3, (50, 3)):  # many ties; [0, 0, 0] may be among them
        score = scores[MODELS].to_numpy() @ weights
        expected = ndcg(scores.assign(score=score.round(1)), answers)
        found = queries.ndcg(np.tensordot(weights, queries.values, 1).round(1))
        assert found == pytest.approx(expected, abs=1e-12)
    with pytest.raises(MetricError, match="59 scored queries have no answer"):
        PaddedQueries.pad(scores, {0: answers[0]}, MODELS)


def test_searched_weights_are_about_none_for_noise_and_better_than_a_plain_sum() -> None:
    # Given scores whose weighted sum tells the weights of each fold: the query's rows are solved for them
    scores, answers = made_up(queries=400)
    found = weigh_out_of_fold(scores, answers, MODELS, "logit", 2, 1, 0).scores
    again = weigh_out_of_fold(scores, answers, MODELS, "logit", 2, 1, 0).scores
    pd.testing.assert_frame_equal(found, again)
    for query in range(6):
        rows = scores.index[scores["query_id"] == query]
        design = np.column_stack([scores.loc[rows, MODELS], np.ones(len(rows))])
        good, fair, noise, _ = np.linalg.lstsq(design, found.loc[rows, "score"], rcond=None)[0]
        assert -1e-9 <= noise < 0.05 * (good + fair + noise) < fair < good
    assert ndcg(found, answers) > ndcg(blend(scores, MODELS, "logit"), answers)


def test_the_spread_is_that_of_the_folds() -> None:
    scores, answers = made_up()
    found = weigh_out_of_fold(scores, answers, MODELS, "z_score", 5, 2, 0)
    summary = found.summarise(answers)
    shuffles = [np.average(f["ndcg_at_5"], weights=f["queries"]) for _, f in found.folds.groupby("shuffle")]
    assert summary["one_shuffle"] == pytest.approx(np.mean(shuffles))
    assert summary["over_shuffles"] == pytest.approx(np.std(shuffles, ddof=1))
    assert summary["ndcg_at_5"] == pytest.approx(ndcg(found.scores, answers))
    assert summary["ndcg_at_5"] > ndcg(scores.rename(columns={"fair": "score"}), answers)
