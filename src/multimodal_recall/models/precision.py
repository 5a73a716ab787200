"""Which parts of a model compute in which precision, and why.

``hardware.precision: bfloat16`` means autocast: weights stay float32, and matrix products inside the encoders
(linear layers, attention, recurrent steps) and in the frozen language model read both factors as bfloat16, which has 8
bits for a number's digits. That is as good for vectors: it changes them by less than 1 %, and query vectors keep a
cosine of 0.9999 with those of float32.

A score is another matter. In bfloat16 a score of 10 stands in steps of 1/16, so candidates tie and a loss loses its
digits. So these are float32 in either precision:

- the layers and products that make a score or a similarity: ``ScoreLayer``, and what runs under ``in_float32``,
- losses, softmax over scores, norms, the optimiser, running sums, gradients between processes,
- all scoring of a trained ranker: evaluation and search run without autocast.
"""

import torch
from torch import Tensor, nn


def in_float32(tensor: Tensor) -> torch.autocast:
    """A context without autocast on the tensor's device: float32 factors give float32 products."""
    return torch.autocast(tensor.device.type, enabled=False)


class ScoreLayer(nn.Linear):
    """A linear layer that gives scores or logits: float32 under autocast too."""

    def forward(self, data: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs) float32."""
        with in_float32(data):
            return super().forward(data.float())


MASKED_SCORE = torch.finfo(torch.bfloat16).min / 2
"""Stands for a score that does not count; finite, since a row of infinities has no gradient."""
