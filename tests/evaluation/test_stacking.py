import json

import numpy as np
import pandas as pd
import pytest

from multimodal_recall.evaluation.blending import weigh_out_of_fold
from multimodal_recall.evaluation.metrics import MetricError, is_right
from multimodal_recall.evaluation.stacking import fit_stack, stack_features, stack_out_of_fold
from tests.conftest import LEADERBOARD
from tests.evaluation.made_up import MODELS, made_up, ndcg


def test_features_by_hand() -> None:
    scores = pd.DataFrame(
        {"query_id": [1, 2, 1], "product_id": [10, 10, 11], "a": [2.0, 5.0, 4.0], "b": [0.5, 0.5, 0.9]}, index=[7, 7, 9]
    )
    features = stack_features(scores, ["a", "b"])
    assert features["a_logit"].tolist() == [2, 5, 4]
    assert features["a_gap"].tolist() == [2, 0, 0]
    assert features["b_gap"].tolist() == pytest.approx([np.log(9), 0, 0])
    assert features["a_rank"].tolist() == [1, 1, 2]
    assert features["a_z_score"].tolist() == pytest.approx([-1, 0, 1])
    assert features.shape == (3, 8)
    extra = stack_features(scores.assign(lists=[3, 4, 1]), ["a", "b"], extra=("lists",))
    assert extra[["lists", "lists_rank"]].to_numpy().tolist() == [[3, 2], [4, 1], [1, 1]]


@pytest.mark.parametrize("method", ["classifier", "lambdarank"])
def test_a_stack_ranks_better_than_its_models_and_is_deterministic(method: str) -> None:
    scores, answers = made_up(queries=150)
    features = stack_features(scores, MODELS).to_numpy()
    found = stack_out_of_fold(scores, answers, features, method, 5, 2, 0)
    again = stack_out_of_fold(scores, answers, features, method, 5, 2, 0)
    pd.testing.assert_frame_equal(found.scores, again.scores)
    best = max(ndcg(scores.rename(columns={model: "score"}), answers) for model in MODELS)
    assert found.summarise(answers)["one_shuffle"] > best


@pytest.mark.parametrize("method", ["classifier", "default_classifier", "lambdarank"])
def test_random_answers_are_learnt_by_heart_but_score_by_chance_out_of_fold(method: str) -> None:
    # Given answers that have nothing to do with the scores
    scores, _ = made_up()
    random = np.random.default_rng(0)
    answers = {
        query: random.choice(rows, 5, False).tolist() for query, rows in scores.groupby("query_id")["product_id"]
    }
    features = random.normal(size=(len(scores), 20))
    chance = np.mean([ndcg(scores.assign(score=random.random(len(scores))), answers) for _ in range(9)])
    right, queries = is_right(scores, answers), scores["query_id"].to_numpy()
    in_sample = fit_stack(features, right, queries, method, random).predict(features, raw_score=True)
    assert ndcg(scores.assign(score=in_sample), answers) > chance + 0.3
    found = stack_out_of_fold(scores, answers, features, method, 5, 4, 0).summarise(answers)
    assert found["one_shuffle"] == pytest.approx(chance, abs=0.06)
    assert found["ndcg_at_5"] == pytest.approx(chance, abs=0.08)


def test_an_embedding_is_more_columns() -> None:
    # Given an embedding that knows of the right candidates what no model does
    scores, answers = made_up()
    random = np.random.default_rng(0)
    embedding = random.normal(size=(len(scores), 16)) + is_right(scores, answers)[:, None]
    features = stack_features(scores, MODELS).to_numpy()
    without, with_it = (
        stack_out_of_fold(scores, answers, columns, "classifier", 5, 1, 0).summarise(answers)["ndcg_at_5"]
        for columns in (features, np.column_stack([features, embedding]))
    )
    assert with_it > without + 0.1
    with pytest.raises(MetricError, match=f"9 rows of features for {len(scores)} candidates"):
        stack_out_of_fold(scores, answers, features[:9], "classifier", 5, 1, 0)


@pytest.mark.skipif(not LEADERBOARD.exists(), reason=f"{LEADERBOARD} with the real scores is not here")
@pytest.mark.slow
def test_real_scores_out_of_fold() -> None:
    scores = pd.read_parquet(LEADERBOARD / "valid_scores.parquet")
    scores = scores.merge(pd.read_parquet(LEADERBOARD / "product_counts.parquet"), on=["query_id", "product_id"])
    found = json.loads((LEADERBOARD / "valid_answer.json").read_text())
    answers = {int(query): right for query, right in found.items()}
    models = [name for name in scores if name.startswith(("imagebert", "lxmert_b", "lxhard_", "team8_neural"))]
    assert len(models) == 10

    def stack(extra: tuple[str, ...]) -> dict[str, float]:
        features = stack_features(scores, models, extra).to_numpy()
        return stack_out_of_fold(scores, answers, features, "lambdarank", 5, 2, 0).summarise(answers)

    weighed = weigh_out_of_fold(scores, answers, models, "logit", 5, 2, 0).summarise(answers)
    assert weighed["one_shuffle"] > 0.725
    assert stack(())["one_shuffle"] > 0.733
    assert stack(("lists_with_product",))["one_shuffle"] > 0.885  # with the leak
