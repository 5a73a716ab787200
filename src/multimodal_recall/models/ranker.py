"""What every ranker can do, and what it takes to build one again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor, nn

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.batch import Batch, ChunkArrays, Reading
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.data_parallel import encode_shares
from multimodal_recall.models.layers.heads import ConcatMlp
from multimodal_recall.models.layers.towers import LabelVectors, WordVectors
from multimodal_recall.models.precision import in_float32
from multimodal_recall.runtime.progress import bar

if TYPE_CHECKING:
    from transformers import PreTrainedModel


SCORED_PAIRS = 4096


@dataclass(frozen=True)
class InputSizes:
    """Widths and table lengths that the data decides."""

    query_vector: int
    box_feature: int
    words: int
    word_vector: int
    labels: int
    tokens: int = 0
    """Of the ranker's tokenizer; 0 where it has none."""


class Ranker(nn.Module):
    """Scores (query, product) pairs; its weights hold the word and label vectors.

    A subclass is a system: it says what a pair's vector is, and how that is scored.
    """

    reading = Reading()
    """What ``data.examples.read_chunk`` must read for it."""

    def pair_vectors(self, batch: Batch) -> Tensor:
        """What the last layer sees of each of the batch's pairs, (N, D)."""
        raise NotImplementedError

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """Score pairs by their vectors, (N, D) -> (N,) float32, higher is better."""
        raise NotImplementedError

    def score_all(self, batch: Batch) -> Tensor:
        """Score every query of the batch with every product, (Q, P) float32."""
        raise NotImplementedError(
            f"{type(self).__name__} reads query and product together: it has no in-batch loss. Set its loss to one "
            "of pairs, such as cross_entropy"
        )

    def extra_loss(self, batch: Batch) -> Tensor | None:
        """What the system learns from a batch besides its scores, a mean; ``None`` where there is nothing."""
        del batch
        return None

    def observe(self, batch: Batch) -> None:
        """Take a training batch into running sums, where the ranker has some; once a step, in every process alike."""

    def own_losses(self, batch: Batch) -> Tensor:
        """Losses that are not made of scores, (right pairs, parts); they are added up."""
        raise NotImplementedError(
            f"{type(self).__name__} has no loss of its own. Set its loss to another, such as cross_entropy"
        )

    def forward(self, batch: Batch) -> Tensor:
        """Score the batch's pairs, (N,)."""
        return self.score_vectors(self.pair_vectors(batch))

    def start(self, words: np.ndarray, labels: np.ndarray) -> None:
        """Take the vectors of the words (words, size) and labels (labels, size), before any training."""
        for module in self.modules():
            if isinstance(module, WordVectors):
                vectors = labels if isinstance(module, LabelVectors) else words
                module.vectors.copy_(torch.from_numpy(vectors))

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of each part that another ranker, trained on the same word vectors, has too.

        Args:
            weights: All of the other ranker's. A part is what stands before the first dot of their names.

        Raises:
            ValueError: If there is no such part, a part is of other sizes, or a frozen table holds other vectors.
        """
        own = self.state_dict()
        shared = {name.partition(".")[0] for name in own} & {name.partition(".")[0] for name in weights}
        mine, theirs = (
            {name: tensor for name, tensor in all_of.items() if name.partition(".")[0] in shared}
            for all_of in (own, weights)
        )
        sizes, found = ({name: tuple(tensor.shape) for name, tensor in part.items()} for part in (mine, theirs))
        problems = [
            f"{name} is {found.get(name, 'absent')} there and {sizes.get(name, 'absent')} here"
            for name in sorted(sizes.keys() | found.keys())
            if sizes.get(name) != found.get(name)
        ]
        tables = {f"{name}.vectors" for name, module in self.named_modules() if isinstance(module, WordVectors)}
        others = [name for name in theirs if name in tables and not torch.equal(theirs[name], mine[name])]
        problems = problems or [f"{name} holds other vectors" for name in others]
        if problems or not shared:
            reason = "; ".join(problems[:3]) or "the two have no part in common"
            raise ValueError(
                f"{type(self).__name__} cannot start from that ranker: {reason}. Give both the same sizes and word "
                "vectors, or set start_from to null"
            )
        self.load_state_dict({**own, **theirs})

    def start_from_text_model(self, text_model: "PreTrainedModel") -> None:
        """Take the weights of a trained text model, before any training."""
        raise NotImplementedError(f"{type(self).__name__} takes no text model. Set its text_model to null")

    @torch.inference_mode()
    def score(self, arrays: ChunkArrays, pairs: Pairs) -> np.ndarray:
        """Score pairs of a chunk (n,), higher is better, on the device that holds the weights."""
        scores = np.empty(len(pairs.query_rows), np.float32)
        for rows, batch in self._batches(arrays, pairs):
            scores[rows] = self(batch).float().cpu().numpy()
        return scores

    @torch.inference_mode()
    def vectors(self, arrays: ChunkArrays, pairs: Pairs) -> np.ndarray:
        """What the last layer sees of each pair, (n, D) float16."""
        return self._vectors_by(self.pair_vectors, arrays, pairs, np.float16)

    def _vectors_by(
        self, encode: Callable[[Batch], Tensor], arrays: ChunkArrays, pairs: Pairs, kind: DTypeLike
    ) -> np.ndarray:
        """One vector a pair (n, D), by what encodes those of a batch."""
        found = [(rows, encode(batch).float().cpu().numpy()) for rows, batch in self._batches(arrays, pairs)]
        vectors = np.empty((len(pairs.query_rows), found[0][1].shape[1]), kind)
        for rows, part in found:
            vectors[rows] = part
        return vectors

    def _batches(self, arrays: ChunkArrays, pairs: Pairs) -> Iterator[tuple[np.ndarray, Batch]]:
        """Batches on the weights' device, in evaluation mode; then the mode is as it was."""
        device, was_training = next(self.parameters()).device, self.training
        self.eval()
        try:
            with bar(type(self).__name__, len(pairs.query_rows), "pairs") as shown:
                for rows, batch in arrays.batches_by_product(pairs, SCORED_PAIRS):
                    yield rows, batch.to(device)
                    shown.advance(len(rows))
        finally:
            self.train(was_training)


class TowerRanker(Ranker):
    """A ranker that gives queries and products vectors of their own, so that products can be encoded ahead."""

    def encode_queries(self, batch: Batch) -> Tensor:
        """One vector a query, (Q, Dq)."""
        raise NotImplementedError

    def encode_products(self, batch: Batch) -> Tensor:
        """One vector a product, (P, Dp)."""
        raise NotImplementedError

    def all_queries(self, batch: Batch) -> Tensor:
        """``encode_queries`` in float32; in training, each process encodes a share of the batch and gets all."""
        if not self.training:
            return self.encode_queries(batch).float()
        return encode_shares(lambda rows: self.encode_queries(batch.take_queries(rows)), len(batch.word_mask))

    def all_products(self, batch: Batch) -> Tensor:
        """``encode_products`` in float32, shared in the same way."""
        if not self.training:
            return self.encode_products(batch).float()
        return encode_shares(lambda rows: self.encode_products(batch.take_products(rows)), len(batch.box_mask))

    @torch.inference_mode()
    def product_vectors(self, arrays: ChunkArrays, pairs: Pairs) -> np.ndarray:
        """The vector of each pair's product, (n, Dp) float32."""

        def encode(batch: Batch) -> Tensor:
            return self.encode_products(batch)[batch.pair_products]

        return self._vectors_by(encode, arrays, pairs, np.float32)


class DotRanker(TowerRanker):
    """Towers whose vectors are as wide, compared by their dot product times ``scale``."""

    scale = 1.0

    def pair_vectors(self, batch: Batch) -> Tensor:
        """(N, D): the summands of the dot product."""
        # index_select and not [...]: on several CPU threads the gradient of the latter adds up in any order.
        queries = self.all_queries(batch).index_select(0, batch.pair_queries)
        return queries * self.all_products(batch).index_select(0, batch.pair_products)

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """(N, D) -> (N,)."""
        return self.scale * vectors.sum(dim=1)

    def score_all(self, batch: Batch) -> Tensor:
        """(Q, P)."""
        queries, products = self.all_queries(batch), self.all_products(batch)
        with in_float32(queries):
            return self.scale * queries @ products.T


class ConcatRanker(TowerRanker):
    """Towers ``query_encoder`` and ``image_encoder`` whose vectors an MLP, ``head``, compares side by side."""

    query_encoder: nn.Module
    image_encoder: nn.Module
    head: ConcatMlp

    def encode_queries(self, batch: Batch) -> Tensor:
        """(Q, Dq)."""
        return self.query_encoder(batch)

    def encode_products(self, batch: Batch) -> Tensor:
        """(P, Dp)."""
        return self.image_encoder(batch)

    def pair_vectors(self, batch: Batch) -> Tensor:
        """(N, D): the head's last hidden layer."""
        queries, products = self.all_queries(batch), self.all_products(batch)
        return self.head(queries, products, batch.pair_queries, batch.pair_products)

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """(N, D) -> (N,)."""
        return self.head.score(vectors)

    def score_all(self, batch: Batch) -> Tensor:
        """(Q, P)."""
        return self.head.score_all(self.all_queries(batch), self.all_products(batch))


def build_ranker(options: RankerOptions, sizes: InputSizes, tokenizer: Any = None) -> Ranker:
    """Make an untrained ranker: the class that ``models/systems/<model.kind>.py`` calls ``build``.

    Args:
        options: The system and its sizes.
        sizes: What the data decides.
        tokenizer: Of the ranker's tokens; ``None`` where it reads none.
    """
    ranker = import_module(f"multimodal_recall.models.systems.{options.model.kind}").build(options.model, sizes)
    ranker.reading = Reading(tokenizer, options.max_boxes)
    return ranker
