"""The product as its largest box alone: on real photos a better summary than all boxes together."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from multimodal_recall.data.batch import Batch

AREA = 4  # column of `box_positions`


class LargestBox(nn.Module):
    """Describe a product by its largest box: signed square roots of the feature, unit length, centred.

    The centre is the mean over the training products. On 2,500 real pairs, adding the mean, the maximum or further
    boxes to the largest box cost 0.01 to 0.02 of nDCG@5. Whitening the features cost as much, since their strong
    directions are the directions that matter.
    """

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("products", torch.zeros(()))

    def forward(self, batch: Batch) -> Tensor:
        """Describe the batch's products, (P, F)."""
        return (describe_largest(batch) - self.mean) * len(self.mean) ** 0.5

    @torch.no_grad()
    def observe(self, batch: Batch) -> None:
        """Update the running mean with the products of a training batch."""
        features = describe_largest(batch)
        self.products += len(features)
        self.mean += (features - self.mean).sum(dim=0) / self.products


def describe_largest(batch: Batch) -> Tensor:
    """Describe each product by its largest box, (P, F) float32 of length 1."""
    return unit_length(largest_box(batch).float())


def largest_box(batch: Batch) -> Tensor:
    """Select the feature of each product's largest box, (P, F) float16."""
    largest = batch.box_positions[:, :, AREA].masked_fill(batch.box_mask, -1).argmax(dim=1)
    return batch.box_features[torch.arange(len(largest), device=largest.device), largest]


def unit_length(features: Tensor) -> Tensor:
    """Take the signed square roots of features (P, F), and scale them to length 1."""
    return functional.normalize(features.sign() * features.abs().sqrt(), dim=1)
