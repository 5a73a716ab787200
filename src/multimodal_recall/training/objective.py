"""What training makes small."""

from typing import Any

from torch import Tensor, nn

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.ranker import Ranker, TowerRanker
from multimodal_recall.training.losses import MATRIX_LOSSES, PAIR_LOSSES


class Objective(nn.Module):
    """What training makes small. A module, so that processes know which weights a batch leaves alone."""

    unit = "pairs"
    """What an example is called."""
    whole_batches = False
    """Whether each process gets the whole batch, and shares the work inside; else it gets a share of the batch."""

    def forward(self, batch: Any) -> Tensor:
        """The losses of a batch: as many values, or rows of the loss's parts, for each row."""
        raise NotImplementedError


class RankerObjective(Objective):
    """A ranker's loss.

    Towers and in-batch losses get whole batches: processes share the encoding, not the pairs, so that a query or
    product is encoded once, batch norm counts it once, and an in-batch loss sees all of the batch.
    """

    def __init__(self, ranker: Ranker, options: RankerOptions) -> None:
        super().__init__()
        self.ranker, self.options = ranker, options
        self.in_batch = options.loss in MATRIX_LOSSES
        self.whole_batches = self.in_batch or isinstance(ranker, TowerRanker)

    def forward(self, batch: Batch) -> Tensor:
        """The losses of a batch: as many values, or rows of the loss's parts, a right pair for each."""
        if self.training:
            self.ranker.observe(batch)
        if self.options.loss == "tags_and_caption":
            return self.ranker.own_losses(batch)
        if self.in_batch:
            scores = self.ranker.score_all(batch)
            if self.options.loss == "multi_similarity":  # its constants are for cosines
                scores = scores / self.ranker.scale
            losses = MATRIX_LOSSES[self.options.loss](scores, batch, self.options.margin)
        else:
            losses = PAIR_LOSSES[self.options.loss](self.ranker(batch), batch, self.options.margin)
        extra = self.ranker.extra_loss(batch)
        return losses if extra is None else losses + extra
