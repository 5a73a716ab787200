from dataclasses import replace

import numpy as np
import pytest
import torch

from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.evaluation import reranking
from multimodal_recall.evaluation.reranking import (
    candidate_lists,
    first_distances,
    k_reciprocal_distances,
    rerank,
    score_smoothed,
    smooth,
    smooth_boxes,
)
from tests.tiny_rankers import make_arrays, make_pairs, make_ranker

LISTS = candidate_lists(np.array([2, 5, 2, 5, 5, 9, 5, 9, 2, 2, 2, 2, 5, 9, 5, 5, 2, 7, 7, 7]), np.arange(20))
"""Of the twenty candidates of ``make_pairs``."""


def make_lists(seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Scores and product vectors of 1, 2, 3, 12, 30 and 45 candidates, mixed, and their lists."""
    random = np.random.default_rng(seed)
    query_ids = random.permutation(np.repeat(np.arange(6), [1, 2, 3, 12, 30, 45]))
    centres = random.normal(size=(4, 8))
    vectors = centres[random.integers(0, 4, len(query_ids))] + random.normal(size=(len(query_ids), 8))
    lists = candidate_lists(query_ids, random.permutation(len(query_ids)))
    return random.normal(size=len(query_ids)).astype(np.float32), vectors.astype(np.float32), lists


def smoothed_by_loops(features: np.ndarray) -> np.ndarray:
    mixed = []
    for place, box in enumerate(features):
        others = np.delete(features, place, axis=0)
        nearest = others[np.argsort(np.linalg.norm(others - box, axis=1))]
        first, second = [*nearest[:2], box, box][:2]
        mixed.append(0.7 * box + 0.2 * first + 0.1 * second)
    return np.array(mixed)


def reranked_by_loops(first: np.ndarray, k1: int, k2: int, kept: float) -> list[float]:
    """The paper's steps, set by set."""
    n = len(first)
    distance = [[first[i][j] / max(first[i]) for j in range(n)] for i in range(n)]
    order = [sorted(range(n), key=lambda j, i=i: (j != i, distance[i][j], j)) for i in range(n)]

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    weights = []
    for i in range(n):
        expanded = reciprocal(i, k1)
        for j in reciprocal(i, k1):
            close = reciprocal(j, round(k1 / 2))
            if len(close & reciprocal(i, k1)) > 2 / 3 * len(close):
                expanded = expanded | close
        total = sum(np.exp(-distance[i][j]) for j in expanded)
        weights.append([np.exp(-distance[i][j]) / total if j in expanded else 0 for j in range(n)])
    averaged = [np.mean([weights[j] for j in order[i][:k2]], axis=0) for i in range(n)]
    found = []
    for product in range(1, n):
        smaller = sum(min(pair) for pair in zip(averaged[0], averaged[product], strict=True))
        larger = sum(max(pair) for pair in zip(averaged[0], averaged[product], strict=True))
        found.append((1 - kept) * (1 - smaller / larger) + kept * distance[0][product])
    return found


@pytest.mark.parametrize("boxes", [1, 2, 3, 40])
def test_smoothing_equals_loops(boxes: int) -> None:
    features = np.random.default_rng(boxes).random((boxes, 10)).astype(np.float16)
    np.testing.assert_allclose(smooth(features), smoothed_by_loops(features.astype(np.float64)), atol=1e-6)


def test_one_box_stays_as_it_is_and_two_move_a_fifth_of_the_way() -> None:
    one = np.random.default_rng(0).random((1, 10)).astype(np.float16)
    np.testing.assert_array_equal(smooth(one).astype(np.float16), one)
    assert smooth(np.zeros((0, 10), np.float16)).shape == (0, 10)
    np.testing.assert_allclose(smooth(np.array([[0.0], [1.0]], np.float16)), [[0.2], [0.8]], atol=1e-6)


@pytest.mark.parametrize("most", [None, 2])
def test_boxes_are_smoothed_over_the_candidates_of_their_query_alone(most: int | None) -> None:
    # Given products that stand in several lists, and a ranker that reads some of their boxes
    arrays, pairs = replace(make_arrays(), max_boxes=most), make_pairs()
    smoothed, moved = smooth_boxes(arrays, pairs, LISTS)
    assert len(set(pairs.product_rows)) < len(set(moved.product_rows)) == 20
    np.testing.assert_array_equal(moved.query_rows, pairs.query_rows[np.concatenate(LISTS)])
    starts = np.cumsum([0, *map(len, LISTS)])

    def boxes_of(arrays: ChunkArrays, product: int) -> slice:
        start = arrays.box_counts[:product].sum()
        return slice(start, start + min(arrays.box_counts[product], most or 99))

    for start, rows in zip(starts, LISTS, strict=False):
        before = [boxes_of(arrays, product) for product in pairs.product_rows[rows]]
        after = [boxes_of(smoothed, product) for product in moved.product_rows[start : start + len(rows)]]
        given, found = (
            np.concatenate([a.features[boxes] for boxes in of]) for a, of in ((arrays, before), (smoothed, after))
        )
        np.testing.assert_allclose(found, smoothed_by_loops(given.astype(np.float64)), atol=1e-3)  # float16
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(smoothed.positions[new], arrays.positions[old])
            np.testing.assert_array_equal(smoothed.labels[new], arrays.labels[old])


def test_lists_of_one_box_are_scored_as_before() -> None:
    arrays, pairs = make_arrays(), make_pairs()
    alone = arrays.take_products(np.arange(12))
    alone = replace(alone, max_boxes=1)
    ranker = make_ranker()
    smoothed = score_smoothed(ranker, alone, pairs, np.split(np.arange(20), 20))
    np.testing.assert_allclose(smoothed, ranker.score(alone, pairs), atol=1e-6)
    together = score_smoothed(ranker, alone, pairs, [np.arange(20)])
    assert np.abs(together - smoothed).max() > 1e-4


@pytest.mark.parametrize("most", [1, 7, 9, 20])
def test_lists_are_smoothed_block_by_block_as_if_at_once(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, pairs, ranker, copied = make_arrays(), make_pairs(), make_ranker(), []
    smoothed, moved = smooth_boxes(arrays, pairs, LISTS)
    whole = np.empty(20, np.float32)
    whole[np.concatenate(LISTS)] = ranker.score(smoothed, moved)

    def watched(arrays: ChunkArrays, pairs: Pairs, lists: list[np.ndarray]) -> tuple[ChunkArrays, Pairs]:
        copied.append(sum(map(len, lists)))
        return smooth_boxes(arrays, pairs, lists)

    monkeypatch.setattr(reranking, "smooth_boxes", watched)
    np.testing.assert_allclose(score_smoothed(ranker, arrays, pairs, LISTS, most), whole, atol=1e-6)
    assert sum(copied) == 20
    assert max(copied) <= max(most, *map(len, LISTS))
    assert len(copied) == {1: len(LISTS), 20: 1}.get(most, len(copied))


def test_a_long_list_is_compared_in_row_blocks_as_if_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given boxes that stand in the list several times: their distances are equal
    features = np.tile(np.random.default_rng(0).random((25, 10)), (3, 1)).astype(np.float16)
    whole = smooth(features)
    for boxes in (1, 7, 74, 75):
        monkeypatch.setattr(reranking, "COMPARED_BOXES", boxes)
        np.testing.assert_allclose(smooth(features), whole, atol=1e-6)


def test_memory_grows_with_the_boxes_of_a_list_and_not_with_their_square() -> None:
    features = np.random.default_rng(0).random((4096, 4)).astype(np.float16)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        smooth(features)
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest < 4096 * 4096 * 4 / 2  # bytes of half of all distances


@pytest.mark.parametrize(("k1", "k2", "kept"), [(20, 6, 0.3), (6, 3, 0.3), (5, 1, 0.0)])
def test_reranking_equals_loops(k1: int, k2: int, kept: float) -> None:
    scores, vectors, lists = make_lists()
    found = rerank(scores, vectors, lists, k1, k2, kept)
    for rows in lists[1:]:
        expected = reranked_by_loops(first_distances(scores[rows], vectors[rows]), k1, k2, kept)
        np.testing.assert_allclose(-found[rows], expected, atol=1e-9)


def test_first_distances_by_hand() -> None:
    # Given cosines 1, 0 and 0 of three products
    first = first_distances(np.array([3.0, 1.0, 2.5]), np.array([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(first, [[0, 0, 1, 0.25], [0, 0, 0, 1], [1, 0, 0, 1], [0.25, 1, 1, 0]], atol=1e-12)


def test_the_first_distance_alone_keeps_the_order() -> None:
    scores, vectors, lists = make_lists()
    kept = rerank(scores, vectors, lists, kept=1.0)
    for rows in lists:
        np.testing.assert_array_equal(np.argsort(kept[rows]), np.argsort(scores[rows]))


def test_a_product_that_looks_like_the_best_rises() -> None:
    # Given twenty products that look alike and score well, one more of them that does not, and others that score better
    random = np.random.default_rng(0)
    vectors = np.concatenate([np.ones((21, 8)), random.normal(size=(9, 8))]) + random.normal(0, 0.05, (30, 8))
    scores = np.concatenate([np.linspace(2, 1, 20), [0.0], np.linspace(0.5, 0.1, 9)])
    assert np.argsort(-scores).tolist().index(20) == 29
    assert np.argsort(-rerank(scores, vectors, [np.arange(30)])).tolist().index(20) < 22


def test_a_query_is_reranked_by_its_own_list_alone() -> None:
    scores, vectors, lists = make_lists()
    whole, own = rerank(scores, vectors, lists), lists[4]
    np.testing.assert_array_equal(rerank(scores[own], vectors[own], [np.arange(30)]), whole[own])


def test_ties_go_by_product_id_and_never_by_row() -> None:
    # Given scores and vectors of which many are equal, those of a shuffled file
    random = np.random.default_rng(0)
    scores, vectors = random.integers(0, 3, 40) / 2, np.eye(3)[random.integers(0, 3, 40)]
    queries, products = np.repeat([4, 7], 20), np.tile(np.arange(20), 2)
    shuffled = random.permutation(40)
    found = rerank(scores, vectors, candidate_lists(queries, products), k1=5)
    again = rerank(scores[shuffled], vectors[shuffled], candidate_lists(queries[shuffled], products[shuffled]), k1=5)
    np.testing.assert_array_equal(again, found[shuffled])


def test_candidates_that_are_all_alike_have_finite_distances() -> None:
    for value in (0.0, 1.0):
        assert np.isfinite(rerank(np.ones(30), np.full((30, 8), value), [np.arange(30)])).all()
    assert np.isfinite(k_reciprocal_distances(np.zeros((31, 31)), 20, 6, 0.3)).all()
