"""Scores that read a query's candidate list: box features smoothed over it, and k-reciprocal re-ranking inside it.

No other query's list is read, so that neither uses the leak. A loop goes over the queries, never over their rows.
"""

from collections.abc import Sequence

import numpy as np
import torch
from more_itertools import constrained_batches

from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.ranker import SCORED_PAIRS, Ranker
from multimodal_recall.runtime.progress import bar, track

OWN, NEAREST, SECOND = 0.7, 0.2, 0.1
"""Shares of a box, its nearest and its second nearest box in the smoothed feature (twelfth place)."""
COMPARED_BOXES = 512
"""Boxes whose distances to all boxes of their list are held at once."""
K1, K2, KEPT = 20, 6, 0.3
"""Neighbours that are compared, neighbours that are averaged, and the share of the first distance (WST)."""


def candidate_lists(query_ids: np.ndarray, product_ids: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each query's candidates, in order of product id, so that nothing ever goes by the file's order.

    Args:
        query_ids: (n,) of each candidate; two queries of the same text are two lists.
        product_ids: (n,) of each candidate.
    """
    order = np.lexsort((product_ids, query_ids))
    return np.split(order, np.flatnonzero(np.diff(query_ids[order])) + 1)


def score_smoothed(
    ranker: Ranker, arrays: ChunkArrays, pairs: Pairs, lists: list[np.ndarray], most: int = SCORED_PAIRS
) -> np.ndarray:
    """Score candidates with smoothed box features; see ``smooth_boxes``.

    Args:
        ranker: What scores them.
        arrays: What holds the candidates.
        pairs: The candidates (n,).
        lists: See ``candidate_lists``.
        most: Candidates whose boxes are copied at once: as many lists as hold no more, or one longer list.

    Returns:
        (n,) scores.
    """
    scores = np.empty(len(pairs.query_rows), np.float32)
    with bar("smoothed boxes", len(scores), "candidates") as shown:
        for block in constrained_batches(lists, most, strict=False):
            rows = np.concatenate(block)
            scores[rows] = ranker.score(*smooth_boxes(arrays, pairs, block), shown.advance)
    return scores


def smooth_boxes(arrays: ChunkArrays, pairs: Pairs, lists: Sequence[np.ndarray]) -> tuple[ChunkArrays, Pairs]:
    """Draw the box features of each query's candidates towards their nearest ones of the same list (twelfth place).

    Args:
        arrays: What holds the candidates.
        pairs: The candidates (n,).
        lists: Some of those of ``candidate_lists``.

    Returns:
        Arrays in which each candidate of the lists has a product of its own, since a product is smoothed otherwise in
        each list; and these candidates, list after list. Boxes beyond ``max_boxes`` are left out; the others are held
        once for each list that they stand in.
    """
    rows = np.concatenate(lists)
    own = arrays.take_products(pairs.product_rows[rows])
    last = np.cumsum([len(candidates) for candidates in lists]) - 1
    for boxes in np.split(own.features, np.cumsum(own.box_counts)[last[:-1]]):  # views
        boxes[:] = smooth(boxes)
    return own, pairs.take(rows)._replace(product_rows=np.arange(len(rows)))


def smooth(features: np.ndarray) -> np.ndarray:
    """Mix each box with its two nearest others: 0.7 x + 0.2 nn1 + 0.1 nn2, by Euclidean distance.

    A neighbour that is not there is the box itself: one box stays as it is, of two each gets 0.2 of the other.

    Args:
        features: (boxes, F) of all candidates of a query.

    Returns:
        (boxes, F) float32.
    """
    given = torch.from_numpy(features).float()
    squares = given.square().sum(dim=1)
    mixed = torch.empty_like(given)
    for rows in torch.arange(len(given)).split(COMPARED_BOXES):
        distances = squares[rows, None] + squares
        distances -= 2 * given[rows] @ given.T
        distances[torch.arange(len(rows)), rows] = torch.inf
        found = distances.topk(min(2, max(len(given) - 1, 0)), largest=False).indices
        itself = rows[:, None].expand(-1, 2 - found.shape[1])
        nearest, second = torch.cat([found, itself], dim=1).unbind(dim=1)
        mixed[rows] = OWN * given[rows] + NEAREST * given[nearest] + SECOND * given[second]
    return mixed.numpy()


def rerank(
    scores: np.ndarray, vectors: np.ndarray, lists: list[np.ndarray], k1: int = K1, k2: int = K2, kept: float = KEPT
) -> np.ndarray:
    """Rank each query's candidates anew by the neighbours that they share with the query (Zhong et al., CVPR 2017).

    Args:
        scores: (n,) of the candidates, higher is better.
        vectors: (n, D) of their products.
        lists: See ``candidate_lists``.
        k1: Neighbours that two of them must have each other among.
        k2: Nearest ones that a neighbourhood is averaged over.
        kept: Share of the first distance in the last, lambda in the paper; 1 keeps the order.

    Returns:
        (n,) scores: the last distance, negated, -1 to 0.
    """
    found = np.empty(len(scores))
    for rows in track(lists, "re-rank", "queries"):
        found[rows] = -k_reciprocal_distances(first_distances(scores[rows], vectors[rows]), k1, k2, kept)
    return found


def first_distances(scores: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Squared distances (1 + n, 1 + n) of a query, which is the first, and its products.

    The squared distance of two unit vectors is 2 - 2 cosine. A score has no such zero, so that the best product's
    distance to the query is 0 and the worst's 1, evenly by score; those between products have 1 as their largest.

    Args:
        scores: (n,) of the query's candidates.
        vectors: (n, D) of their products, of any length.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    found = np.zeros((1 + len(scores), 1 + len(scores)))
    found[0, 1:] = found[1:, 0] = _up_to_one(scores.max() - scores.astype(np.float64))
    found[1:, 1:] = _up_to_one(np.maximum(1 - unit @ unit.T, 0))
    return found


def _up_to_one(distances: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Divided by their largest; all 0 where that is 0."""
    largest = distances.max(axis=axis, keepdims=True)
    return distances / np.where(largest > 0, largest, 1)


def k_reciprocal_distances(first: np.ndarray, k1: int, k2: int, kept: float) -> np.ndarray:
    """Distances (n,) from a query to its products, as in the code that was published with the paper.

    Args:
        first: (1 + n, 1 + n) squared distances, the query's first.
        k1: See ``rerank``.
        k2: See ``rerank``.
        kept: See ``rerank``.
    """
    first = _up_to_one(first, axis=1)
    order = np.argsort(first - np.eye(len(first)), axis=1, kind="stable")  # each is its own nearest
    rank = np.argsort(order, axis=1)
    around, close = ((rank <= k) & (rank <= k).T for k in (k1, round(k1 / 2)))
    # Those around i, and those close to one of them if more than two thirds of these are around i too.
    shared = around.astype(float) @ close.T
    trusted = around & (shared > 2 / 3 * close.sum(axis=1))
    expanded = around | (trusted.astype(float) @ close > 0)
    weights = np.where(expanded, np.exp(-first), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    weights = weights[order[:, :k2]].mean(axis=1)
    common = np.minimum(weights[0], weights).sum(axis=1)
    jaccard = 1 - common / (2 - common)
    return ((1 - kept) * jaccard + kept * first[0])[1:]
