"""Training losses: one value a pair, so that processes can share a batch and weigh their parts exactly."""

from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, relevance: Tensor) -> Tensor:
    """Cross-entropy (N,) of two logits (N, 2) against 0/1 relevance (N,)."""
    return functional.cross_entropy(logits.float(), relevance, reduction="none")
