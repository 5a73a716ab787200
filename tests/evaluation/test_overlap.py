"""Two rankings of one query compared."""

import itertools
import random

import pytest

from multimodal_recall.evaluation.overlap import PERSISTENCE, compare_rankings, rank_biased_overlap


def by_the_definition(first: list[int], second: list[int]) -> float:
    """Equation 30 of Webber et al., term by term."""
    k, p = len(first), PERSISTENCE
    overlaps = [len(set(first[:depth]) & set(second[:depth])) for depth in range(1, k + 1)]
    total = sum(overlap / depth * p**depth for depth, overlap in enumerate(overlaps, start=1))
    return overlaps[-1] / k * p**k + (1 - p) / p * total


def test_rank_biased_overlap_is_that_of_the_paper() -> None:
    draw = random.Random(0)
    for k in (1, 2, 10, 50):
        first, second = (draw.sample(range(2 * k), k) for _ in range(2))
        assert rank_biased_overlap(first, second) == pytest.approx(by_the_definition(first, second))
    assert rank_biased_overlap([1, 2, 3], [1, 2, 3]) == pytest.approx(1)
    assert rank_biased_overlap([1, 2, 3], [4, 5, 6]) == 0
    # two products of three in common: swapped on top counts more than swapped below
    assert rank_biased_overlap([1, 2, 3], [2, 1, 3]) < rank_biased_overlap([1, 2, 3], [1, 3, 2])


def test_moves_and_shares() -> None:
    overlap = compare_rankings([10, 20, 30, 40], [30, 10, 50, 60])
    assert overlap.moves == {10: -1, 30: 2}
    assert (overlap.both, overlap.either, overlap.jaccard) == (2, 6, pytest.approx(2 / 6))
    with pytest.raises(ValueError, match="an empty ranking cannot be compared"):
        compare_rankings([], [1])


def test_a_ranking_beside_itself_never_moves() -> None:
    for ranking in itertools.permutations([1, 2, 3]):
        overlap = compare_rankings(ranking, ranking)
        assert set(overlap.moves.values()) == {0}
        assert (overlap.jaccard, overlap.rank_biased) == (1, pytest.approx(1))
