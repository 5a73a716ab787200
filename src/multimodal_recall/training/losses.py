"""Training losses. Each gives values that are averaged over the batch, so that processes can share one exactly.

A score is the log-odds of a pair being right. A matrix (Q, P) holds the scores of every query of a batch with every
product, ``right`` (Q, P) which of them are right; those beside the pair at hand are neither right nor wrong for it.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from multimodal_recall.data.batch import Batch
from multimodal_recall.models.precision import MASKED_SCORE


def cross_entropy(scores: Tensor, relevance: Tensor) -> Tensor:
    """Binary cross-entropy (N,) of scores (N,) against 0/1 relevance (N,).

    The same as the cross-entropy of two logits whose difference is the score.
    """
    return functional.binary_cross_entropy_with_logits(scores, relevance.to(scores), reduction="none")


def focal(scores: Tensor, relevance: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss (N,): cross-entropy times (1 - probability of the truth) ** gamma, alpha 1 (Lin et al. 2017)."""
    loss = cross_entropy(scores, relevance)
    return (1 - (-loss).exp()) ** gamma * loss


def hinge(scores: Tensor, negatives_per_positive: int, margin: float) -> Tensor:
    """By how much each wrong pair's score comes closer to its right one's than the margin.

    Args:
        scores: (N,) of pairs in which each right pair is followed by its k wrong pairs.
        negatives_per_positive: k.
        margin: What a right score must be ahead by.

    Returns:
        (N / (1 + k) * k,).
    """
    groups = scores.reshape(-1, 1 + negatives_per_positive)
    return functional.relu(margin + groups[:, 1:] - groups[:, :1]).flatten()


def in_batch_softmax(matrix: Tensor, batch: Batch, margin: float) -> Tensor:
    """Softmax of each right pair against all wrong ones of its query, and of its product: the mean of both.

    The margin is taken off the right score. On scaled cosines this is additive-margin softmax (Wang et al. 2018) with
    the batch's products, then its queries, as classes; WST's loss.

    Returns:
        (right pairs,).
    """
    own, wrong = _own_scores(matrix, batch) - margin, matrix.masked_fill(batch.right, MASKED_SCORE)
    queries, products = _right_pairs(batch)
    against = (wrong.logsumexp(dim=1).index_select(0, queries), wrong.logsumexp(dim=0).index_select(0, products))
    return sum(functional.softplus(others - own) for others in against) / 2


def in_batch_cross_entropy(matrix: Tensor, batch: Batch) -> Tensor:
    """Binary cross-entropy of every query with every product (twelfth place): the mean of each right pair's row.

    The twelfth place took repeated queries' products for wrong ones.

    Returns:
        (right pairs,).
    """
    rows = cross_entropy(matrix.flatten(), batch.right.flatten()).reshape(matrix.shape).mean(dim=1)
    return rows.index_select(0, _right_pairs(batch)[0])


def in_batch_hinge(matrix: Tensor, batch: Batch, margin: float) -> Tensor:
    """By how much the hardest wrong product, and the hardest wrong query, come closer than the margin (VSE++).

    Faghri et al. 2018.

    Returns:
        (right pairs,).
    """
    own, wrong = _own_scores(matrix, batch), matrix.masked_fill(batch.right, MASKED_SCORE)
    queries, products = _right_pairs(batch)
    hardest = (wrong.amax(dim=1).index_select(0, queries), wrong.amax(dim=0).index_select(0, products))
    return sum(functional.relu(margin + other - own) for other in hardest)


def multi_similarity(matrix: Tensor, batch: Batch, margin: float) -> Tensor:
    """Multi-similarity loss of cosines (Wang et al. 2019), with alpha 2, beta 50 and base 0.5.

    Only hard pairs count: wrong ones above the query's least right one less the margin, right ones below its highest
    wrong one plus the margin.

    Returns:
        (right pairs,): the loss of its query.
    """
    alpha, beta, base = 2.0, 50.0, 0.5
    right = batch.right
    highest_wrong = matrix.masked_fill(right, MASKED_SCORE).amax(dim=1, keepdim=True)
    lowest_right = matrix.masked_fill(~right, -MASKED_SCORE).amin(dim=1, keepdim=True)
    hard_right = right & (matrix - margin < highest_wrong)
    hard_wrong = ~right & (matrix + margin > lowest_right)

    def soft_sum(exponents: Tensor, of: Tensor, sharpness: float) -> Tensor:
        zero = torch.zeros(len(matrix), 1).to(matrix)
        return torch.cat([zero, exponents.masked_fill(~of, MASKED_SCORE)], dim=1).logsumexp(dim=1) / sharpness

    of_query = soft_sum(-alpha * (matrix - base), hard_right, alpha) + soft_sum(
        beta * (matrix - base), hard_wrong, beta
    )
    return of_query.index_select(0, _right_pairs(batch)[0])


def _right_pairs(batch: Batch) -> tuple[Tensor, Tensor]:
    """Query and product of each right pair that the batch was made of."""
    chosen = batch.relevance == 1
    return batch.pair_queries[chosen], batch.pair_products[chosen]


def _own_scores(matrix: Tensor, batch: Batch) -> Tensor:
    queries, products = _right_pairs(batch)
    # index_select and not [...]: on several CPU threads the gradient of the latter adds up in any order.
    return matrix.flatten().index_select(0, queries * matrix.shape[1] + products)


PAIR_LOSSES: Mapping[str, Callable[[Tensor, Batch, float], Tensor]] = {
    "cross_entropy": lambda scores, batch, _: cross_entropy(scores, batch.relevance),
    "focal": lambda scores, batch, _: focal(scores, batch.relevance),
    "hinge": lambda scores, batch, margin: hinge(scores, batch.negatives_per_positive, margin),
    "likelihood": lambda scores, batch, _: -scores[batch.relevance == 1],
}
MATRIX_LOSSES: Mapping[str, Callable[[Tensor, Batch, float], Tensor]] = {
    "in_batch_softmax": in_batch_softmax,
    "in_batch_cross_entropy": lambda matrix, batch, _: in_batch_cross_entropy(matrix, batch),
    "in_batch_hinge": in_batch_hinge,
    "multi_similarity": multi_similarity,
}
