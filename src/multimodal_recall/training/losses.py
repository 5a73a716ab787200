"""Training losses: each gives values that the loop averages over the batch, exactly so over several processes.

A score is the log-odds of a pair being right. In-batch losses read a matrix (Q, P) of the scores of each query of a
batch with each product, and ``batch.right`` (Q, P), the right pairs. For a right pair, the other right pairs of its
query and product count neither as right nor as wrong.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from multimodal_recall.data.batch import Batch
from multimodal_recall.models.precision import MASKED_SCORE


def cross_entropy(scores: Tensor, relevance: Tensor) -> Tensor:
    """Compute the binary cross-entropy (N,) of scores (N,) and 0/1 relevance (N,).

    It equals the cross-entropy of two logits whose difference is the score.
    """
    return functional.binary_cross_entropy_with_logits(scores, relevance.to(scores), reduction="none")


def focal(scores: Tensor, relevance: Tensor, gamma: float = 2.0) -> Tensor:
    """Compute the focal loss (N,): cross-entropy times (1 - p(truth)) ** gamma, alpha 1 (Lin et al. 2017)."""
    loss = cross_entropy(scores, relevance)
    return (1 - (-loss).exp()) ** gamma * loss


def hinge(scores: Tensor, negatives_per_positive: int, margin: float) -> Tensor:
    """Compute by how much the score of each wrong pair violates the margin to the score of its right pair.

    Shapes: scores (N,), in which each right pair is followed by its k wrong pairs, -> (N / (1 + k) * k,).
    """
    groups = scores.reshape(-1, 1 + negatives_per_positive)
    return functional.relu(margin + groups[:, 1:] - groups[:, :1]).flatten()


def in_batch_softmax(matrix: Tensor, batch: Batch, margin: float) -> Tensor:
    """Compute the mean softmax loss (right pairs,) against the wrong products of a pair's query and vice versa.

    The margin is subtracted from the right score. On scaled cosines this is additive-margin softmax (Wang et al. 2018)
    with the batch's products, then its queries, as classes; WST's loss.
    """
    own, *against = _own_and_wrong(matrix, batch, torch.logsumexp)
    return sum(functional.softplus(wrong - (own - margin)) for wrong in against) / 2


def in_batch_cross_entropy(matrix: Tensor, batch: Batch) -> Tensor:
    """Average the binary cross-entropy of each right pair's query with every product, (right pairs,).

    The twelfth place's loss, which took the products of repeated queries for wrong products.
    """
    rows = cross_entropy(matrix.flatten(), batch.right.flatten()).reshape(matrix.shape).mean(dim=1)
    return rows.index_select(0, _right_pairs(batch)[0])


def in_batch_hinge(matrix: Tensor, batch: Batch, margin: float) -> Tensor:
    """Compute by how much hardest wrong product and hardest wrong query violate the margin, (right pairs,).

    VSE++ (Faghri et al. 2018).
    """
    own, *hardest = _own_and_wrong(matrix, batch, torch.amax)
    return sum(functional.relu(margin + wrong - own) for wrong in hardest)


def multi_similarity(matrix: Tensor, batch: Batch, margin: float) -> Tensor:
    """Compute the multi-similarity loss of cosines (Wang et al. 2019) for each right pair's query, (right pairs,).

    Only hard pairs count: wrong pairs above the query's lowest right score minus the margin, and right pairs below its
    highest wrong score plus the margin.
    """
    alpha, beta, base = 2.0, 50.0, 0.5
    right = batch.right
    highest_wrong = matrix.masked_fill(right, MASKED_SCORE).amax(dim=1, keepdim=True)
    lowest_right = matrix.masked_fill(~right, -MASKED_SCORE).amin(dim=1, keepdim=True)
    hard_right = right & (matrix - margin < highest_wrong)
    hard_wrong = ~right & (matrix + margin > lowest_right)

    def soft_sum(exponents: Tensor, hard: Tensor, sharpness: float) -> Tensor:
        zero = torch.zeros(len(matrix), 1).to(matrix)
        return torch.cat([zero, exponents.masked_fill(~hard, MASKED_SCORE)], dim=1).logsumexp(dim=1) / sharpness

    losses = soft_sum(-alpha * (matrix - base), hard_right, alpha)
    losses = losses + soft_sum(beta * (matrix - base), hard_wrong, beta)
    return losses.index_select(0, _right_pairs(batch)[0])


def _right_pairs(batch: Batch) -> tuple[Tensor, Tensor]:
    """Give query and product of the right pairs among the batch's pairs."""
    chosen = batch.relevance == 1
    return batch.pair_queries[chosen], batch.pair_products[chosen]


def _own_and_wrong(
    matrix: Tensor, batch: Batch, reduce: Callable[[Tensor, int], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the score of each right pair, and the reduced wrong scores of its query and of its product."""
    queries, products = _right_pairs(batch)
    wrong = matrix.masked_fill(batch.right, MASKED_SCORE)
    # index_select: on several CPU threads the gradient of [...] adds up in any order.
    own = matrix.flatten().index_select(0, queries * matrix.shape[1] + products)
    return own, reduce(wrong, 1).index_select(0, queries), reduce(wrong, 0).index_select(0, products)


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
