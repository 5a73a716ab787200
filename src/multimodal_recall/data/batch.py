"""What a ranker reads: the arrays of a chunk, and a batch cut from them by row number."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from multimodal_recall.data.pairs import RightAnswers

if TYPE_CHECKING:
    from tokenizers import Tokenizer
from multimodal_recall.data.pairs import Pairs

# A chunk's arrays are views on read-only parquet buffers; batches only read them.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


@dataclass(frozen=True)
class Reading:
    """What a ranker reads of a chunk besides vectors, words and boxes."""

    tokenizer: "Tokenizer | None" = None
    """Makes the tokens of a query; ``None`` where the ranker reads none."""
    max_boxes: int | None = None
    """Boxes read of a product; ``None``: all that ingest has kept."""


@dataclass(frozen=True)
class Batch:
    """Some pairs, with each of their queries and products once.

    Q queries of at most W words and T tokens, P products of at most B boxes, N pairs. Masks are True on padding.
    """

    query_vectors: Tensor
    """(Q, D) of the language model, float16."""
    word_ids: Tensor
    """(Q, W) rows of the word vectors."""
    word_mask: Tensor
    """(Q, W)."""
    box_features: Tensor
    """(P, B, F) float16."""
    box_positions: Tensor
    """(P, B, 6) top, left, bottom, right, area as fractions of the image; height / width."""
    box_labels: Tensor
    """(P, B) rows of the label vectors."""
    box_mask: Tensor
    """(P, B)."""
    pair_queries: Tensor
    """(N,) which of the Q."""
    pair_products: Tensor
    """(N,) which of the P."""
    relevance: Tensor
    """(N,) 1 right, 0 wrong."""
    token_ids: Tensor | None = None
    """(Q, T) of the ranker's tokenizer; ``None`` where it has none."""
    token_mask: Tensor | None = None
    """(Q, T)."""
    right: Tensor | None = None
    """(Q, P) whether the product is a right answer of the query; ``None`` where only the pairs are asked for."""

    def take_queries(self, rows: slice) -> "Batch":
        """What a query encoder reads, of some of the queries."""
        return self._take(rows, ("query_vectors", "word_ids", "word_mask", "token_ids", "token_mask"))

    def take_products(self, rows: slice) -> "Batch":
        """What an image encoder reads, of some of the products."""
        return self._take(rows, ("box_features", "box_positions", "box_labels", "box_mask"))

    def _take(self, rows: slice, names: tuple[str, ...]) -> "Batch":
        parts = {name: getattr(self, name) for name in names}
        return replace(self, **{name: None if part is None else part[rows] for name, part in parts.items()})

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return Batch(**{name: None if tensor is None else tensor.to(device) for name, tensor in tensors.items()})


@dataclass(frozen=True)
class ChunkArrays:
    """A chunk in memory: ragged arrays without padding, float16 features as on disk."""

    features: np.ndarray
    """(boxes, F) float16, product after product."""
    positions: np.ndarray
    """(boxes, 6) float32."""
    labels: np.ndarray
    """(boxes,) int64."""
    box_counts: np.ndarray
    """(products,) int64."""
    query_vectors: np.ndarray
    """(queries, D) float16."""
    word_ids: np.ndarray
    """(words,) int64, query after query."""
    word_counts: np.ndarray
    """(queries,) int64."""
    last_words: np.ndarray
    """(queries,) int64: the same number for the same last word."""
    token_ids: np.ndarray | None = None
    """(tokens,) int64, query after query; ``None`` where the ranker reads none."""
    token_counts: np.ndarray | None = None
    """(queries,) int64."""
    max_boxes: int | None = None
    """Boxes read of a product, the first of them."""

    def batch(self, pairs: Pairs, right: RightAnswers | None = None) -> Batch:
        """Gather what some pairs need, each distinct query and product once.

        Args:
            pairs: The pairs.
            right: All right pairs of the chunk, where every query is to be compared with every product.
        """
        queries, pair_queries = np.unique(pairs.query_rows, return_inverse=True)
        products, pair_products = np.unique(pairs.product_rows, return_inverse=True)
        words, word_mask = _padded_rows(self.word_counts, queries)
        boxes, box_mask = _padded_rows(self.box_counts, products, self.max_boxes)
        more = {}
        if self.token_ids is not None:
            tokens, token_mask = _padded_rows(self.token_counts, queries)
            more = {"token_ids": _gather(self.token_ids, tokens), "token_mask": torch.from_numpy(token_mask)}
        if right is not None:
            more["right"] = torch.from_numpy(right.hold(queries[:, None], products[None]))
        return Batch(
            query_vectors=_gather(self.query_vectors, queries),
            word_ids=_gather(self.word_ids, words),
            word_mask=torch.from_numpy(word_mask),
            box_features=_gather(self.features, boxes),
            box_positions=_gather(self.positions, boxes),
            box_labels=_gather(self.labels, boxes),
            box_mask=torch.from_numpy(box_mask),
            pair_queries=torch.from_numpy(pair_queries),
            pair_products=torch.from_numpy(pair_products),
            relevance=torch.from_numpy(pairs.relevance.astype(np.int64)),
            **more,
        )

    def take_products(self, rows: np.ndarray) -> Self:
        """The same queries beside copies of some products, in the order of ``rows``, with the boxes that are read."""
        boxes, mask = _padded_rows(self.box_counts, rows, self.max_boxes)
        kept = boxes[~mask]
        taken = {"features": self.features[kept], "positions": self.positions[kept], "labels": self.labels[kept]}
        return replace(self, **taken, box_counts=(~mask).sum(axis=1))

    def batches_by_product(self, pairs: Pairs, size: int) -> Iterator[tuple[np.ndarray, Batch]]:
        """Cut all pairs into batches in order of product, so that a product of many queries is encoded once.

        Yields:
            The positions of the batch's pairs among all, and the batch.
        """
        order = np.argsort(pairs.product_rows, kind="stable")
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield rows, self.batch(pairs.take(rows))


def _padded_rows(counts: np.ndarray, rows: np.ndarray, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers into a ragged array (rows, longest, at most ``most``), and the mask that is True on padding."""
    starts = np.cumsum(counts) - counts
    place = np.arange(counts[rows].max())[:most]
    mask = place >= counts[rows, None]
    return np.where(mask, 0, starts[rows, None] + place), mask


def _gather(array: np.ndarray, rows: np.ndarray) -> Tensor:
    # torch copies float16 rows on all cores; numpy's take is on one.
    tensor = torch.from_numpy(array)
    return tensor.index_select(0, torch.from_numpy(rows.ravel())).reshape(*rows.shape, *array.shape[1:])
