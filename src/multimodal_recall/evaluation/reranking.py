"""Scores that read the query's own candidate list: box features smoothed over the list, and k-reciprocal re-ranking.

The leak plays no part, since no list of another query is read.
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
"""Shares of the box, its nearest and its second nearest box in the smoothed feature (twelfth place)."""
COMPARED_BOXES = 512
"""Boxes whose distances to all boxes of their list are in memory at once."""
K1, K2, KEPT = 20, 6, 0.3
"""Defaults of ``rerank`` (WST)."""


def candidate_lists(query_ids: np.ndarray, product_ids: np.ndarray) -> list[np.ndarray]:
    """List the row numbers of each query's candidates by product id, so that the order of the file never counts."""
    order = np.lexsort((product_ids, query_ids))
    return np.split(order, np.flatnonzero(np.diff(query_ids[order])) + 1)


def score_smoothed(
    ranker: Ranker, arrays: ChunkArrays, pairs: Pairs, lists: list[np.ndarray], most: int = SCORED_PAIRS
) -> np.ndarray:
    """Score candidates (n,) with smoothed box features; see ``smooth_boxes``.

    The boxes of at most ``most`` candidates are copied at once, or those of a single longer list.
    """
    scores = np.empty(len(pairs.query_rows), np.float32)
    with bar("smoothed boxes", len(scores), "candidates") as progress:
        for block in constrained_batches(lists, most, strict=False):
            rows = np.concatenate(block)
            scores[rows] = ranker.score(*smooth_boxes(arrays, pairs, block), progress.advance)
    return scores


def smooth_boxes(arrays: ChunkArrays, pairs: Pairs, lists: Sequence[np.ndarray]) -> tuple[ChunkArrays, Pairs]:
    """Mix each box feature with its nearest box features in the same candidate list (twelfth place).

    Args:
        arrays: The queries and products of the candidates.
        pairs: The candidates.
        lists: Those of ``candidate_lists``, all or some.

    Returns:
        Arrays with a separate product for each candidate, since a product is smoothed differently in each list; and the
        candidates, list after list. Boxes beyond ``max_boxes`` are left out.
    """
    rows = np.concatenate(lists)
    own = arrays.take_products(pairs.product_rows[rows])
    last = np.cumsum([len(candidates) for candidates in lists]) - 1
    for boxes in np.split(own.features, np.cumsum(own.box_counts)[last[:-1]]):  # views
        boxes[:] = smooth(boxes)
    return own, pairs.take(rows)._replace(product_rows=np.arange(len(rows)))


def smooth(features: np.ndarray) -> np.ndarray:
    """Mix each box x of a list with its two nearest boxes: 0.7 x + 0.2 nn1 + 0.1 nn2, by Euclidean distance.

    The box itself stands in for a missing neighbour. Shapes: (boxes, F) -> (boxes, F) float32.
    """
    boxes = torch.from_numpy(features).float()
    squares = boxes.square().sum(dim=1)
    mixed = torch.empty_like(boxes)
    for rows in torch.arange(len(boxes)).split(COMPARED_BOXES):
        distances = squares[rows, None] + squares
        distances -= 2 * boxes[rows] @ boxes.T
        distances[torch.arange(len(rows)), rows] = torch.inf
        neighbours = distances.topk(min(2, max(len(boxes) - 1, 0)), largest=False).indices
        itself = rows[:, None].expand(-1, 2 - neighbours.shape[1])
        nearest, second = torch.cat([neighbours, itself], dim=1).unbind(dim=1)
        mixed[rows] = OWN * boxes[rows] + NEAREST * boxes[nearest] + SECOND * boxes[second]
    return mixed.numpy()


def rerank(
    scores: np.ndarray, vectors: np.ndarray, lists: list[np.ndarray], k1: int = K1, k2: int = K2, kept: float = KEPT
) -> np.ndarray:
    """Re-rank each query's candidates by k-reciprocal encoding (Zhong et al., CVPR 2017).

    Args:
        scores: (n,) of the candidates, higher is better.
        vectors: (n, D) of the candidates' products.
        lists: See ``candidate_lists``.
        k1: Two items are k-reciprocal neighbours if each is among the k1 nearest items of the other.
        k2: Nearest items over which an item's neighbour weights are averaged (query expansion).
        kept: Weight of the original distance in the final distance, lambda in the paper; 1 keeps the order.

    Returns:
        (n,) scores: the final distance, negated, -1 to 0.
    """
    reranked = np.empty(len(scores))
    for rows in track(lists, "re-rank", "queries"):
        reranked[rows] = -k_reciprocal_distances(first_distances(scores[rows], vectors[rows]), k1, k2, kept)
    return reranked


def first_distances(scores: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Compute the original squared distances between a query, which is row 0, and its products.

    Between products the distance is 1 - cosine, which is proportional to the squared distance of unit vectors, divided
    by its maximum. Scores have no zero distance: the distance from the query is 0 for the best product, 1 for the worst
    and linear in the score between them. Shapes: scores (n,), vectors (n, D) of any length -> (1 + n, 1 + n).
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    distances = np.zeros((1 + len(scores), 1 + len(scores)))
    distances[0, 1:] = distances[1:, 0] = _up_to_one(scores.max() - scores.astype(np.float64))
    distances[1:, 1:] = _up_to_one(np.maximum(1 - unit @ unit.T, 0))
    return distances


def _up_to_one(distances: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Divide distances by their maximum; distances that are all 0 stay 0."""
    largest = distances.max(axis=axis, keepdims=True)
    return distances / np.where(largest > 0, largest, 1)


def k_reciprocal_distances(first: np.ndarray, k1: int, k2: int, kept: float) -> np.ndarray:
    """Compute the final distances (n,) from a query to its products, as the code published with the paper does.

    ``first`` (1 + n, 1 + n) is from ``first_distances``; ``rerank`` explains ``k1``, ``k2`` and ``kept``.
    """
    first = _up_to_one(first, axis=1)
    order = np.argsort(first - np.eye(len(first)), axis=1, kind="stable")  # each item is its own nearest neighbour
    rank = np.argsort(order, axis=1)
    around, close = ((rank <= k) & (rank <= k).T for k in (k1, round(k1 / 2)))
    # A neighbour j around i adds all items close to j, if more than two thirds of these items are around i too.
    shared = around.astype(float) @ close.T
    trusted = around & (shared > 2 / 3 * close.sum(axis=1))
    expanded = around | (trusted.astype(float) @ close > 0)
    weights = np.where(expanded, np.exp(-first), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    weights = weights[order[:, :k2]].mean(axis=1)
    common = np.minimum(weights[0], weights).sum(axis=1)
    jaccard = 1 - common / (2 - common)
    return ((1 - kept) * jaccard + kept * first[0])[1:]
