"""The base class of all rankers, and ``build_ranker``, which builds the ranker that the options name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.batch import Batch, ChunkArrays, Reading
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.data_parallel import encode_shares
from multimodal_recall.models.layers.towers import LabelVectors, SentenceAndWords, WordVectors
from multimodal_recall.models.layers.transformer import SentenceAndWordTransformer
from multimodal_recall.models.weights import misfits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCORED_PAIRS = 4096  # pairs in a batch of scoring
SENTENCE_READERS = (SentenceAndWords, SentenceAndWordTransformer)


@dataclass(frozen=True)
class InputSizes:
    """Widths and table lengths that the data decides."""

    query_vector: int
    box_feature: int
    words: int
    word_vector: int
    labels: int
    tokens: int = 0  # of the ranker's tokenizer; 0 for a ranker without tokenizer
    landmarks: int = 0  # boxes that kernel_words compares all boxes with; 0 for other rankers


class Ranker(nn.Module):
    """Score (query, product) pairs; the weights include the word and label vectors.

    A subclass is a system. It defines ``pair_vectors`` and ``score_vectors``. A subclass that encodes query and product
    apart also defines ``score_all``, which in-batch losses read.
    """

    reading = Reading()  # what `data.examples.read_chunk` reads for this ranker
    sums_words = False  # whether a score is a sum over the query's words, which `word_scores` gives

    @property
    def reads_sentences(self) -> bool:
        """Whether a part of the ranker reads the language model's vectors of the queries."""
        return any(isinstance(part, SENTENCE_READERS) for part in self.modules())

    def pair_vectors(self, batch: Batch) -> Tensor:
        """Compute the last layer's input for each of the batch's pairs, (N, D)."""
        raise NotImplementedError

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """Score pairs by their vectors, (N, D) -> (N,) float32, higher is better."""
        raise NotImplementedError

    def score_all(self, batch: Batch) -> Tensor:
        """Score every query of the batch with every product, (Q, P) float32: here Q * P pairs, shared by processes."""
        shape = len(batch.word_mask), len(batch.box_mask)
        places = torch.arange(shape[0] * shape[1], device=batch.box_mask.device)

        def score(rows: slice) -> Tensor:
            queries, products = places[rows] // shape[1], places[rows] % shape[1]
            return self(replace(batch, pair_queries=queries, pair_products=products))

        return self.encode_rows(score, len(places)).unflatten(0, shape)

    def word_scores(self, batch: Batch) -> Tensor:
        """Split each pair's score into the summands of its query's words, (N, W) float32, 0 on padding."""
        raise NotImplementedError(f"{type(self).__name__} reads all words together: its score is no sum over words")

    def loss_matrices(self, batch: Batch) -> list[tuple[float, Tensor]]:
        """Give the matrices (Q, P) that in-batch losses read, each with the weight of its loss: the scores alone."""
        return [(1.0, self.score_all(batch))]

    def forward(self, batch: Batch) -> Tensor:
        """Score the batch's pairs, (N,)."""
        return self.score_vectors(self.pair_vectors(batch))

    def observe(self, batch: Batch) -> None:
        """Update running sums with a training batch; called once a step, in every process alike."""

    def extra_loss(self, batch: Batch) -> Tensor | None:
        """Compute a mean loss that is added to the loss of the scores; ``None``: no such loss."""
        del batch
        return None

    def own_losses(self, batch: Batch) -> Tensor:
        """Compute losses that replace the loss of the scores, (right pairs, parts); training adds up the parts."""
        raise NotImplementedError(
            f"{type(self).__name__} has no loss of its own. Set its loss to another loss, such as cross_entropy"
        )

    def start(self, words: np.ndarray, labels: np.ndarray) -> None:
        """Copy the vectors of the words (words, size) and labels (labels, size), before any training."""
        for module in self.modules():
            if isinstance(module, WordVectors):
                vectors = labels if isinstance(module, LabelVectors) else words
                module.vectors.copy_(torch.from_numpy(vectors))

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of the parts that this ranker shares with another, trained on the same word vectors.

        A part is the name of a weight before its first dot, such as ``image_encoder``.

        Raises:
            ValueError: If no part is shared, a shared part has other sizes, or frozen vectors differ.
        """
        own = self.state_dict()
        parts = {name.partition(".")[0] for name in own} & {name.partition(".")[0] for name in weights}
        wanted, found = (
            {name: weight for name, weight in named.items() if name.partition(".")[0] in parts}
            for named in (own, weights)
        )
        frozen = {f"{name}.vectors" for name, module in self.named_modules() if isinstance(module, WordVectors)}
        problems = misfits(found, wanted) if parts else ["the two have no part in common"]
        problems = problems or [
            f"{name} holds other vectors"
            for name in found
            if name in frozen and not torch.equal(found[name], wanted[name])
        ]
        if problems:
            raise ValueError(
                f"{type(self).__name__} cannot start from that ranker: {'; '.join(problems[:3])}. Give both the same "
                "sizes and word vectors, or set start_from to null"
            )
        self.load_state_dict({**own, **found})

    def start_from_text_model(self, text_model: "PreTrainedModel") -> None:
        """Copy the weights of a trained text model, before any training."""
        raise NotImplementedError(f"{type(self).__name__} takes no text model. Set its text_model to null")

    def score(self, arrays: ChunkArrays, pairs: Pairs, tell: Callable[[int], None] = lambda _: None) -> np.ndarray:
        """Score pairs of a chunk (n,) float32, higher is better, on the device that holds the weights.

        ``tell`` is called with the number of pairs of each batch.
        """
        return self.compute_pairs(self, arrays, pairs, tell)

    def explain(self, arrays: ChunkArrays, pairs: Pairs) -> np.ndarray:
        """Compute ``word_scores`` of pairs of a chunk, (n, W) float32."""
        return self.compute_pairs(self.word_scores, arrays, pairs, lambda _: None)

    def vectors(self, arrays: ChunkArrays, pairs: Pairs, tell: Callable[[int], None] = lambda _: None) -> np.ndarray:
        """Compute ``pair_vectors`` of pairs of a chunk, (n, D) float16; see ``score``."""
        return self.compute_pairs(self.pair_vectors, arrays, pairs, tell).astype(np.float16)

    def encode_rows(self, encode: Callable[[slice], Tensor], count: int) -> Tensor:
        """Encode ``count`` rows of a batch in float32; in training, processes share the work (``encode_shares``)."""
        return encode_shares(encode, count) if self.training else encode(slice(0, count)).float()

    @torch.inference_mode()
    def compute_pairs(
        self, compute: Callable[[Batch], Tensor], arrays: ChunkArrays, pairs: Pairs, tell: Callable[[int], None]
    ) -> np.ndarray:
        """Compute values of pairs (n, ...) float32 batch by batch, in evaluation mode; then restore the mode."""
        device, was_training = next(self.parameters()).device, self.training
        values = np.empty(0, np.float32)
        self.eval()
        try:
            for rows, batch in arrays.batches_by_product(pairs, SCORED_PAIRS):
                computed = compute(batch.to(device)).float().cpu().numpy()
                if not len(values):
                    values = np.empty((len(pairs.query_rows), *computed.shape[1:]), np.float32)
                values[rows] = computed
                tell(len(rows))
        finally:
            self.train(was_training)
        return values


def build_ranker(options: RankerOptions, sizes: InputSizes, tokenizer: Any = None) -> Ranker:
    """Build an untrained ranker by ``build`` of ``models/systems/<model.kind>.py``; ``tokenizer`` makes its tokens."""
    ranker = import_module(f"multimodal_recall.models.systems.{options.model.kind}").build(options.model, sizes)
    ranker.reading = Reading(tokenizer, options.max_boxes)
    return ranker
