"""A product as its similarities to landmarks, which are boxes of training products."""

import torch
from torch import Tensor, nn

from multimodal_recall.config.baselines import KernelWordsOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.largest_box import largest_box, unit_length
from multimodal_recall.models.precision import in_float32


class KernelFeatures(nn.Module):
    """Compare a product's boxes with the landmarks by a kernel; boxes are described as in ``LargestBox``, uncentred."""

    def __init__(self, options: KernelWordsOptions, landmarks: Tensor) -> None:
        """Take the landmarks (landmarks, F), as ``describe_largest`` gives them."""
        super().__init__()
        self.kernel, self.gamma, self.boxes = options.kernel, options.gamma, options.boxes
        self.register_buffer("landmarks", landmarks)

    def forward(self, batch: Batch) -> Tensor:
        """Compare the batch's products, (P, landmarks), in the precision of ``landmarks``."""
        if self.boxes == "largest":
            return self._compare_features(largest_box(batch))
        # Box after box: memory holds the similarities of one box of each product.
        total = self.landmarks.new_zeros(len(batch.box_mask), len(self.landmarks))
        for features, mask in zip(batch.box_features.unbind(dim=1), batch.box_mask.unbind(dim=1), strict=True):
            total += self._compare_features(features).masked_fill(mask.unsqueeze(1), 0)
        return total / (~batch.box_mask).sum(dim=1, keepdim=True)

    def between_landmarks(self) -> Tensor:
        """Compare the landmarks with each other, (landmarks, landmarks)."""
        return self._compare(self.landmarks)

    def _compare_features(self, features: Tensor) -> Tensor:
        """Compare box features (P, F) with the landmarks, (P, landmarks)."""
        return self._compare(unit_length(features.to(self.landmarks.dtype)))

    def _compare(self, described: Tensor) -> Tensor:
        lengths = described.square().sum(dim=1, keepdim=True) + self.landmarks.square().sum(dim=1)
        with in_float32(described):
            squares = (lengths - 2 * described @ self.landmarks.T).clamp(min=0)
        return torch.exp(-self.gamma * (squares if self.kernel == "rbf" else squares.sqrt()))
