"""How much two rankings of one query have in common."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

PERSISTENCE = 0.9
"""Weight of a depth relative to the depth before it: the first ten depths have 86 % of the weight."""


@dataclass(frozen=True)
class Overlap:
    """The first k products of two rankings compared."""

    both: int
    """Products that both have."""
    either: int
    """Products that one of the two has."""
    jaccard: float
    """``both / either``."""
    rank_biased: float
    """See ``rank_biased_overlap``."""
    moves: dict[Hashable, int]
    """For each product of both: places that the second ranking has it higher than the first."""


def compare_rankings(first: Sequence[Hashable], second: Sequence[Hashable]) -> Overlap:
    """Compare two rankings of distinct products, best first.

    Raises:
        ValueError: If a ranking is empty.
    """
    if not first or not second:
        raise ValueError("an empty ranking cannot be compared")
    places = {product: place for place, product in enumerate(second)}
    moves = {product: place - places[product] for place, product in enumerate(first) if product in places}
    either = len(first) + len(second) - len(moves)
    return Overlap(len(moves), either, len(moves) / either, rank_biased_overlap(first, second), moves)


def rank_biased_overlap(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Average the share of common products over the depths, with a weight that falls by ``PERSISTENCE`` a depth.

    1 for equal rankings, 0 for rankings without a common product. What lies below the shorter ranking is taken to agree
    as much as the part above. Source: Webber, Moffat and Zobel, TOIS 2010, equation 30 (extrapolated, even lengths).
    """
    depth = min(len(first), len(second))
    agreements = [len({*first[:k]} & {*second[:k]}) / k for k in range(1, depth + 1)]
    weighted = sum(agreement * PERSISTENCE**k for k, agreement in enumerate(agreements))
    return (1 - PERSISTENCE) * weighted + agreements[-1] * PERSISTENCE**depth
