import numpy as np
import pandas as pd
import pytest
from scipy.stats import zscore

from multimodal_recall.evaluation.blending import (
    BlendError,
    PaddedQueries,
    blend,
    grouped_folds,
    is_right,
    normalise,
    out_of_fold,
    search_weights,
    weigh_out_of_fold,
)
from multimodal_recall.evaluation.metrics import measure_queries

SCALES = ("probability", "logit", "rank", "z_score")


def made_up(queries: int = 60, seed: int = 0) -> tuple[pd.DataFrame, dict[int, list[int]]]:
    """Two good models, one of noise; ties, queries of different lengths, six answers or fewer, rows in no order."""
    random = np.random.default_rng(seed)
    frames, answers = [], {}
    for query in range(queries):
        products = random.permutation(1000)[: random.integers(8, 30)]
        right = products[: random.integers(1, 7)]
        answers[query] = [*right.tolist(), 5000] if query % 7 == 0 else right.tolist()  # 5000 is no candidate
        columns = {"query_id": query, "product_id": products}
        for model, signal in (("good", 1.5), ("fair", 1.0), ("noise", 0.0)):
            columns[model] = (signal * np.isin(products, right) + random.normal(size=len(products))).round(1)
        frames.append(pd.DataFrame(columns))
    answers[queries] = [1]  # without candidates
    return pd.concat(frames).sample(frac=1, random_state=seed, ignore_index=True), answers


def ndcg(scores: pd.DataFrame, answers: dict[int, list[int]]) -> float:
    return measure_queries(scores, answers)["ndcg_at_5"].mean()


@pytest.mark.parametrize("kind", SCALES)
def test_a_blend_of_one_model_keeps_its_ranking(kind: str) -> None:
    scores, answers = made_up()
    alone = measure_queries(scores.rename(columns={"good": "score"}), answers)
    blended = measure_queries(blend(scores, ["good"], kind), answers)
    pd.testing.assert_frame_equal(blended, alone)


def test_scales_by_hand() -> None:
    scores = pd.DataFrame(
        {
            "query_id": [1, 2, 1, 1, 2],
            "product_id": [10, 10, 11, 12, 13],
            "share": [0.5, 0.0, 0.9, 0.5, 1.0],
            "log_odds": [0.0, 3.0, 2.0, -2.0, 3.0],
        }
    )
    models = ["share", "log_odds"]
    found = {kind: normalise(scores, models, kind) for kind in SCALES}
    assert found["probability"]["share"].tolist() == scores["share"].tolist()
    assert found["probability"].loc[2, "log_odds"] == pytest.approx(1 / (1 + np.exp(-2)))
    assert found["logit"].loc[2, "share"] == pytest.approx(np.log(9))
    assert np.isfinite(found["logit"]["share"]).all()
    assert found["logit"]["log_odds"].tolist() == scores["log_odds"].tolist()
    assert found["rank"]["share"].tolist() == [1.5, 1, 3, 1.5, 2]
    assert found["z_score"].loc[[0, 2, 3], "log_odds"].tolist() == pytest.approx(zscore([0, 2, -2]))
    assert found["z_score"].loc[[1, 4], "log_odds"].tolist() == [0, 0]  # all equal
    weighted = blend(scores, models, "logit", {"log_odds": 2.0, "share": 1.0})
    assert weighted.loc[2, "score"] == pytest.approx(np.log(9) + 4)


def test_padded_queries_measure_as_metrics_do() -> None:
    scores, answers = made_up()
    queries = PaddedQueries.pad(scores, answers, ["good", "fair", "noise"])
    for weights in np.random.default_rng(0).integers(0, 3, (50, 3)):  # many ties; [0, 0, 0] may be among them
        score = scores[["good", "fair", "noise"]].to_numpy() @ weights
        expected = ndcg(scores.assign(score=score.round(1)), answers)
        found = queries.ndcg(np.tensordot(weights, queries.values, 1).round(1))
        assert found == pytest.approx(expected, abs=1e-12)


def test_a_useless_model_gets_about_no_weight() -> None:
    scores, answers = made_up(queries=400)
    models = ["good", "fair", "noise"]
    weights = search_weights(scores, answers, models, "z_score", np.random.default_rng(0))
    assert weights == search_weights(scores, answers, models, "z_score", np.random.default_rng(0))
    assert min(weights.values()) >= 0
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["noise"] < 0.05 < weights["fair"] < weights["good"]
    assert ndcg(blend(scores, models, "z_score", weights), answers) > ndcg(blend(scores, models, "z_score"), answers)


def test_folds_are_of_queries_and_of_equal_size() -> None:
    folds = grouped_folds(np.repeat(np.arange(23), 3), 5, np.random.default_rng(0))
    assert sorted(np.concatenate(folds).tolist()) == list(range(23))
    assert sorted(map(len, folds)) == [4, 4, 5, 5, 5]
    for queries, advice in {4: "set evaluate.folds to 2 to 4", 1: "add a query with answers"}.items():
        with pytest.raises(BlendError, match=f"5 folds of {queries} queries, where each fold needs one: {advice}"):
            grouped_folds(np.arange(queries), 5, np.random.default_rng(0))


def test_out_of_fold_never_fits_on_a_querys_own_rows() -> None:
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
    # Then each shuffle scores every query once, and the groupings differ
    assert [sorted(q for fold in seen[i : i + 5] for q in fold) for i in (0, 5, 10)] == [list(range(60))] * 3
    assert not any(fold in seen[5:] for fold in seen[:5])
    assert found.folds.groupby("shuffle")["queries"].sum().tolist() == [61, 61, 61]


def test_the_spread_is_that_of_the_folds() -> None:
    scores, answers = made_up()
    found = weigh_out_of_fold(scores, answers, ["good", "fair", "noise"], "z_score", 5, 2, 0)
    again = weigh_out_of_fold(scores, answers, ["good", "fair", "noise"], "z_score", 5, 2, 0)
    pd.testing.assert_frame_equal(found.scores, again.scores)
    summary = found.summarise(answers)
    shuffles = [np.average(f["ndcg_at_5"], weights=f["queries"]) for _, f in found.folds.groupby("shuffle")]
    assert summary["one_shuffle"] == pytest.approx(np.mean(shuffles))
    assert summary["over_shuffles"] == pytest.approx(np.std(shuffles, ddof=1))
    assert summary["ndcg_at_5"] == pytest.approx(ndcg(found.scores, answers))
    assert summary["ndcg_at_5"] > ndcg(scores.rename(columns={"fair": "score"}), answers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.drop(columns="fair"), "no model 'fair' in the scores; the scores have: good, noise"),
        (
            lambda s: s.assign(fair=s["fair"].mask(s.index == 3)),
            "1 scores are no finite number, first of model 'fair', query",
        ),
        (lambda s: pd.concat([s, s[:2]], ignore_index=True), "2 candidates stand twice, first query"),
    ],
)
def test_bad_scores_are_refused(change: object, message: str) -> None:
    scores, answers = made_up()
    with pytest.raises(BlendError, match=message):
        blend(change(scores), ["good", "fair"], "rank")
    with pytest.raises(BlendError, match=message):
        search_weights(change(scores), answers, ["good", "fair"], "rank", np.random.default_rng(0))


def test_weights_name_the_models() -> None:
    scores, answers = made_up()
    with pytest.raises(BlendError, match=r"weights of \['good'\] for a blend of \['fair', 'good'\]"):
        blend(scores, ["good", "fair"], "rank", {"good": 1.0})
    with pytest.raises(BlendError, match="59 scored queries have no answer"):
        search_weights(scores, {0: answers[0]}, ["good"], "rank", np.random.default_rng(0))
