import numpy as np
import pytest

from multimodal_recall.evaluation.negatives import are_false, hardness, near_identical

QUERIES = ["red summer dress", "dress summer red", "blue shoes", "blue shoe rack", "red summer dress for women"]


def test_near_identical_queries_have_nearly_the_same_words() -> None:
    pairs = set(zip(*(rows.tolist() for rows in near_identical(QUERIES)), strict=True))
    assert {(0, 1), (1, 0)} <= pairs
    assert not {(2, 3), (3, 2), (0, 2)} & pairs
    assert all((second, first) in pairs for first, second in pairs)


def test_a_right_answer_of_a_near_identical_query_is_false() -> None:
    # Given products 0 to 3 right for queries 0 to 3, and draws for query 0: one right for the reordered text, two not
    right = np.arange(4), np.arange(4)
    drawn = np.array([0, 0, 0]), np.array([1, 2, 3])
    assert are_false(QUERIES, right, drawn, 4).tolist() == [True, False, False]
    unlike = are_false(["red", "blue"], (np.array([0]), np.array([0])), (np.array([0]), np.array([1])), 2)
    assert unlike.tolist() == [False]


def test_hardness_of_easy_and_hard_negatives() -> None:
    easy = hardness(np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 1.9]]))
    assert easy == {"beaten": 0, "ndcg_at_5": 1}
    hard = hardness(np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 1.9]]))
    assert hard == {"beaten": 0.25, "ndcg_at_5": pytest.approx((1 + 1 / np.log2(3)) / 2)}
    assert hardness(np.zeros((1, 2)))["ndcg_at_5"] < 1  # a tie is lost
