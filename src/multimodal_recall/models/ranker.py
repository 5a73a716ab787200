"""A ranker: two towers and a head, chosen by the options, and what it takes to build it again."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multimodal_recall.models import losses, schedules
from multimodal_recall.models.batch import Batch, ChunkArrays, Pairs
from multimodal_recall.models.encoders import BoxLstm, SentenceAndWords
from multimodal_recall.models.heads import ConcatMlp
from multimodal_recall.options import RankerOptions

LOSSES = {"cross_entropy": losses.cross_entropy}
SCHEDULES = {"constant": schedules.constant, "linear_warmup": schedules.linear_warmup}
SCORED_PAIRS = 4096


@dataclass(frozen=True)
class InputSizes:
    """Widths and table lengths that the data decides."""

    query_vector: int
    box_feature: int
    words: int
    word_vector: int
    labels: int


class Ranker(nn.Module):
    """Scores (query, product) pairs; its weights hold the word and label vectors, so it needs no other file."""

    def __init__(self, options: RankerOptions, sizes: InputSizes) -> None:
        super().__init__()
        word_vectors = torch.zeros(sizes.words, sizes.word_vector)
        label_vectors = torch.zeros(sizes.labels, sizes.word_vector)
        self.query_encoder = {
            "sentence_and_words": lambda: SentenceAndWords(sizes.query_vector, word_vectors, options.word_state)
        }[options.query_encoder]()
        self.image_encoder = {
            "box_lstm": lambda: BoxLstm(sizes.box_feature, label_vectors, options.image_state),
        }[options.image_encoder]()
        self.head = {
            "concat_mlp": lambda: ConcatMlp(
                self.query_encoder.size, self.image_encoder.size, options.head_state, options.dropout
            )
        }[options.head]()

    def forward(self, batch: Batch) -> Tensor:
        """Give the head's logits of the batch's pairs."""
        queries, products = self.query_encoder(batch), self.image_encoder(batch)
        return self.head(queries, products, batch.pair_queries, batch.pair_products)

    @torch.inference_mode()
    def score(self, arrays: ChunkArrays, pairs: Pairs) -> np.ndarray:
        """Score pairs of a chunk (n,), higher is better, on the device that holds the weights."""
        device, was_training = next(self.parameters()).device, self.training
        self.eval()
        scores = np.empty(len(pairs.query_rows), np.float32)
        for rows, batch in arrays.batches_by_product(pairs, SCORED_PAIRS):
            scores[rows] = self.head.scores(self(batch.to(device))).cpu().numpy()
        self.train(was_training)
        return scores


@dataclass(frozen=True)
class TrainedRanker:
    """All that a model folder holds."""

    options: RankerOptions
    sizes: InputSizes
    weights: dict[str, Tensor]
    card: dict[str, Any]
    """How it came about: input versions, seed, package versions, git commit, metrics."""

    def build(self) -> Ranker:
        """Make the module, its weights loaded."""
        ranker = Ranker(self.options, self.sizes)
        ranker.load_state_dict(self.weights)
        return ranker

    def description(self) -> dict[str, Any]:
        """Everything but the weights, as JSON can hold it."""
        return {"options": asdict(self.options), "sizes": asdict(self.sizes), **self.card}
