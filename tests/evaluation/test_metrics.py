import math

import ir_measures
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from multimodal_recall.evaluation.bootstrap import bootstrap_means, interval
from multimodal_recall.evaluation.metrics import MetricError, measure_queries, ndcg_at_5, rank_candidates
from tests.conftest import LEADERBOARD, read_leaderboard

BY_TREC = {
    ir_measures.nDCG @ 5: "ndcg_at_5",
    ir_measures.nDCG @ 10: "ndcg_at_10",
    ir_measures.RR: "reciprocal_rank",
    ir_measures.R @ 5: "recall_at_5",
    ir_measures.P @ 5: "precision_at_5",
    ir_measures.AP: "average_precision",
}


def official_ndcg(products: list[int], answers: list[int], k: int = 5) -> float:
    """The contest's own evaluation, one query: rank 1 counts whole, rank i by log2(i + 1)."""
    gains = [float(product in answers) for product in products[:k]]
    ideal = sorted([1.0] * len(answers) + [0.0] * k, reverse=True)[:k]
    dcg, best = (
        row[0] + sum(gain / math.log2(rank + 1) for rank, gain in enumerate(row[1:], start=2)) for row in (gains, ideal)
    )
    return dcg / best


def by_definition(products: list[int], answers: list[int]) -> dict[str, float]:
    """The other measures, written out."""
    ranks = [rank for rank, product in enumerate(products, start=1) if product in answers]
    return {
        "ndcg_at_10": official_ndcg(products, answers, k=10),
        "reciprocal_rank": 1 / ranks[0],
        "recall_at_5": sum(rank <= 5 for rank in ranks) / len(answers),
        "precision_at_5": sum(rank <= 5 for rank in ranks) / 5,
        "average_precision": sum(hits / rank for hits, rank in enumerate(ranks, start=1)) / len(answers),
    }


def table(*rows: tuple[int, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["query_id", "product_id", "score"])


def test_equal_to_the_official_evaluation_and_to_sklearn() -> None:
    random = np.random.default_rng(0)
    answers, frames, expected, others, by_sklearn = {}, [], [], [], []
    for query in range(300):
        products = random.permutation(1000)[: random.integers(5, 30)]
        scores = random.permutation(len(products)).astype(float)
        right = products[: random.integers(1, 7)].tolist()
        answers[query] = right
        frames.append(pd.DataFrame({"query_id": query, "product_id": products, "score": scores}))
        expected.append(official_ndcg(products[np.argsort(-scores)].tolist(), right))
        others.append(by_definition(products[np.argsort(-scores)].tolist(), right))
        by_sklearn.append(ndcg_score([np.isin(products, right)], [scores], k=5))
    measured = measure_queries(pd.concat(frames).sample(frac=1, random_state=0), answers)
    np.testing.assert_allclose(measured["ndcg_at_5"], expected, atol=1e-12)
    np.testing.assert_allclose(measured["ndcg_at_5"], by_sklearn, atol=1e-12)
    alone = ndcg_at_5(pd.concat(frames), answers)
    pd.testing.assert_frame_equal(alone, measured[["query_id", "answers", "ndcg_at_5"]])
    for name, values in pd.DataFrame(others).items():
        np.testing.assert_allclose(measured[name], values, atol=1e-12, err_msg=name)


@given(seed=st.integers(0, 2**32 - 1))
def test_equal_to_trec(seed: int) -> None:
    """Ties, queries without scores, right products that are no candidates, queries in any order."""
    random = np.random.default_rng(seed)
    answers = {int(query): random.choice(40, random.integers(1, 15)).tolist() for query in random.permutation(9)}
    lists = {query: random.choice(40, random.integers(1, 30), replace=False) for query in list(answers)[:8]}
    frames = [
        pd.DataFrame({"query_id": query, "product_id": products, "score": random.integers(9, size=len(products)) / 9})
        for query, products in lists.items()
    ]
    scores = pd.concat(frames).sample(frac=1, random_state=seed)
    ranked = rank_candidates(scores)
    run = (
        pd.DataFrame({name: ranked[f"{name[:-3]}_id"].astype(str) for name in ("query_id", "product_id")})
        .rename(columns={"product_id": "doc_id"})
        .assign(score=-ranked["rank"].astype(float))
    )
    right = {str(query): dict.fromkeys(map(str, products), 1) for query, products in answers.items()}
    measured = measure_queries(scores, answers).set_index("query_id")
    for metric in ir_measures.iter_calc(list(BY_TREC), right, run):
        value = measured.loc[int(metric.query_id), BY_TREC[metric.measure]]
        assert value == pytest.approx(metric.value, rel=0, abs=1e-12), metric


def test_edge_cases_by_hand() -> None:
    # Given a query with its one answer on rank 2, one without scores, one whose answer is no candidate
    scores = table((1, 10, 0.9), (1, 11, 0.8), (3, 30, 0.5))
    measured = measure_queries(scores, {1: [11], 2: [20], 3: [31]}).set_index("query_id")
    assert measured.loc[1, "ndcg_at_5"] == pytest.approx(1 / math.log2(3))
    assert measured.loc[1, "reciprocal_rank"] == 0.5
    assert measured.loc[1, "recall_at_5"] == 1.0
    assert measured.loc[1, "top_5"] == [10, 11]
    assert (measured.loc[[2, 3], ["ndcg_at_5", "reciprocal_rank", "recall_at_5"]] == 0).all(axis=None)
    assert measured.loc[2, "candidates"] == 0


def test_six_answers_are_never_cut_to_five() -> None:
    # Given six right products of which the sixth alone is ranked first
    scores = table(*((1, product, float(product)) for product in range(1, 12)))
    measured = measure_queries(scores, {1: [1, 2, 3, 4, 5, 11]})
    assert measured.loc[0, "answers"] == 6
    assert measured.loc[0, "recall_at_5"] == pytest.approx(1 / 6)
    assert measured.loc[0, "reciprocal_rank"] == 1.0


def test_ties_go_by_product_id_and_not_by_file_order() -> None:
    one = rank_candidates(table((1, 30, 0.5), (1, 10, 0.5), (1, 20, 0.5)))
    assert one["product_id"].tolist() == [10, 20, 30]


def test_bad_scores_are_refused() -> None:
    with pytest.raises(MetricError, match="1 scores are NaN, first of query 1, product 10"):
        measure_queries(table((1, 10, np.nan)), {1: [10]})
    with pytest.raises(MetricError, match="1 rows of the scores repeat a candidate, first of query 1, product 10"):
        measure_queries(table((1, 10, 0.1), (1, 10, 0.2)), {1: [10]})
    with pytest.raises(MetricError, match="1 scored queries have no answer, first 2"):
        measure_queries(table((1, 10, 0.1), (2, 10, 0.2)), {1: [10]})


def test_the_interval_is_seeded_and_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(1).random((400, 1))

    def ends() -> list[float]:
        return [float(end[0]) for end in interval(bootstrap_means(values, 4000, np.random.default_rng(0)), 0.95)]

    assert ends() == ends()
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert ends() == pytest.approx([values.mean() - half, values.mean() + half], abs=0.1 * half)


def test_columns_are_resampled_together() -> None:
    values = np.random.default_rng(1).random((50, 1))
    means = bootstrap_means(np.hstack([values, values + 1]), 100, np.random.default_rng(0))
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 1)


@pytest.mark.skipif(not LEADERBOARD.exists(), reason=f"{LEADERBOARD} with the real scores is not here")
@pytest.mark.parametrize(
    ("model", "ndcg"),
    [("imagebert", 0.709813), ("lxmert_b1", 0.689490), ("lxmert_b2", 0.686212), ("lxmert_b3", 0.673890)],
)
def test_real_scores_of_published_models(model: str, ndcg: float) -> None:
    scores, answers, _ = read_leaderboard()
    measured = measure_queries(scores.rename(columns={model: "score"}), answers)
    assert measured["ndcg_at_5"].mean() == pytest.approx(ndcg, abs=1e-6)
