"""The losses of a batch, as the training loop minimises them."""

from typing import Any

from torch import Tensor, nn

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.indexable import TowerRanker
from multimodal_recall.models.ranker import Ranker
from multimodal_recall.training.losses import MATRIX_LOSSES, PAIR_LOSSES


class Objective(nn.Module):
    """A model and its loss, in one module, so that processes know which weights a batch leaves without a gradient."""

    unit = "pairs"  # name of the examples
    whole_batches = False  # whether a process gets the whole batch and divides the encoding, or a share of the rows

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Any) -> Tensor:
        """Compute the losses of a batch (n,), or the parts of each loss (n, parts), as many for each row."""
        raise NotImplementedError


class RankerObjective(Objective):
    """The loss of a ranker.

    Towers and in-batch losses get whole batches: processes divide the encoding, not the pairs, so that a query or
    product is encoded once, batch norm counts it once, and an in-batch loss sees the whole batch.
    """

    model: Ranker

    def __init__(self, ranker: Ranker, options: RankerOptions) -> None:
        super().__init__(ranker)
        self.options = options
        self.whole_batches = options.loss in MATRIX_LOSSES or isinstance(ranker, TowerRanker)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the losses of a batch (n,), or their parts (n, parts); n is a multiple of its right pairs."""
        ranker, loss, margin = self.model, self.options.loss, self.options.margin
        if self.training:
            ranker.observe(batch)
        if loss == "tags_and_caption":
            return ranker.own_losses(batch)
        if loss in MATRIX_LOSSES:
            scale = ranker.scale if loss == "multi_similarity" else 1.0  # its constants are for cosines
            matrices = ranker.loss_matrices(batch)
            losses = sum(weight * MATRIX_LOSSES[loss](scores / scale, batch, margin) for weight, scores in matrices)
        else:
            losses = PAIR_LOSSES[loss](ranker(batch), batch, margin)
        extra = ranker.extra_loss(batch)
        return losses if extra is None else losses + extra
