from collections.abc import Callable
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from scipy.stats import zscore

from multimodal_recall.evaluation.metrics import MetricError
from multimodal_recall.evaluation.scales import Scale, normalise
from tests.evaluation.made_up import made_up


def test_scales_by_hand() -> None:
    scores = pd.DataFrame(
        {
            "query_id": [1, 2, 1, 1, 2],
            "product_id": [10, 10, 11, 12, 13],
            "share": [0.5, 0.0, 0.9, 0.5, 1.0],
            "log_odds": [0.0, 3.0, 2.0, -2.0, 3.0],
        }
    )
    found = {scale: normalise(scores, ["share", "log_odds"], scale) for scale in get_args(Scale)}
    assert found["probability"]["share"].tolist() == scores["share"].tolist()
    assert found["probability"].loc[2, "log_odds"] == pytest.approx(1 / (1 + np.exp(-2)))
    assert found["logit"].loc[2, "share"] == pytest.approx(np.log(9))
    assert np.isfinite(found["logit"]["share"]).all()
    assert found["logit"]["log_odds"].tolist() == scores["log_odds"].tolist()
    assert found["rank"]["share"].tolist() == [1.5, 1, 3, 1.5, 2]
    assert found["z_score"].loc[[0, 2, 3], "log_odds"].tolist() == pytest.approx(zscore([0, 2, -2]))
    assert found["z_score"].loc[[1, 4], "log_odds"].tolist() == [0, 0]  # all equal


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.drop(columns="fair"),
            r"no model 'fair' in the scores; they have \['good', 'noise'\]",
        ),
        (
            lambda s: s.assign(fair=s["fair"].mask(s.index == 3)),
            r"1 scores of 'fair' are not finite, first of query \d+, product \d+: score these candidates",
        ),
        (
            lambda s: pd.concat([s, s[:2]], ignore_index=True),
            "2 rows of the scores repeat a candidate, first of query",
        ),
    ],
)
def test_bad_scores_are_refused(change: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        normalise(change(made_up()[0]), ["good", "fair"], "rank")
