"""Which parts of a model compute in which precision, and why.

``hardware.precision: bfloat16`` means autocast: weights stay float32, and matrix products inside the encoders (linear
layers, attention, recurrent steps) and in the frozen language model read both factors as bfloat16, with 8 bits for a
number's digits. Vectors bear this: they change by less than 1 %, and query vectors keep a cosine of 0.9999 with those
of float32.

Scores do not. In bfloat16, scores near 10 come in steps of 1/16: candidates tie, and a loss loses its digits. Hence
these are float32 in either precision:

- layers and products that make a score or a similarity: ``ScoreLayer``, and products under ``in_float32``,
- losses, softmax over scores, norms, the optimiser, running sums, gradients between processes,
- all scoring by a trained ranker: evaluation and search run without autocast.
"""

import torch
from torch import Tensor, nn

MASKED_SCORE = torch.finfo(torch.bfloat16).min / 2
"""Replaces a score that does not count; finite, since a row of infinities has no gradient."""


def in_float32(tensor: Tensor) -> torch.autocast:
    """Turn autocast off on the tensor's device inside a ``with`` block: float32 factors give float32 products."""
    return torch.autocast(tensor.device.type, enabled=False)


class ScoreLayer(nn.Linear):
    """Compute scores or logits in float32, under autocast too."""

    def forward(self, data: Tensor) -> Tensor:
        """Apply the layer, (..., inputs) -> (..., outputs) float32."""
        with in_float32(data):
            return super().forward(data.float())
