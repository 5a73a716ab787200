"""Kernel ridge regression as a sum over chunks: what a chunk adds, and the solution of the whole sum.

Phi (pairs, m) compares the product of each pair with m landmarks, Y (pairs, words) has 1 for the words of the pair's
query and else 0, K (m, m) compares the landmarks. The coefficients A minimise |Y - mean - Phi A|² + ridge tr(A' K A):
A = (Phi'Phi + ridge K)^-1 Phi'(Y - mean). Where all products are landmarks, Phi A is scikit-learn's ``KernelRidge``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from multimodal_recall.data.batch import Batch, ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.layers.kernel_features import KernelFeatures

PAIRS_AT_ONCE = 4096


@dataclass(frozen=True)
class WordSums:
    """What the pairs of a chunk, or of several, add to the regression; all sums are float64."""

    origin: dict[str, Any]  # versions of the tables and options of the kernel that the sums were made with
    pairs: int
    seconds: float  # that the sums took
    phi_phi: np.ndarray  # (m, m), Phi'Phi
    phi: np.ndarray  # (m,), sum of Phi over the pairs
    words: np.ndarray  # (w,) int64, ascending ids of the words that occur
    word_counts: np.ndarray  # (w,), pairs with each word
    word_phi: np.ndarray  # (w, m), Y'Phi of the words that occur


class Regression(NamedTuple):
    """The solution of a sum."""

    coefficients: np.ndarray  # (m, words)
    counts: np.ndarray  # (words,), pairs with each word
    mean: np.ndarray  # (words,), share of the pairs with each word
    error: float  # squared error of a training pair, summed over the words

    def weights(self, landmarks: Tensor) -> dict[str, Tensor]:
        """Give the weights of the ``kernel_words`` that compares boxes with these landmarks (m, F)."""
        solved = {name: torch.from_numpy(getattr(self, name)).float() for name in ("coefficients", "counts", "mean")}
        return {**solved, "product.landmarks": landmarks.float()}


@torch.inference_mode()
def sum_pairs(
    features: KernelFeatures, arrays: ChunkArrays, pairs: Pairs, tell: Callable[[int], None] = lambda _: None
) -> dict[str, np.ndarray]:
    """Sum over the right pairs of a chunk, on the device and in the precision of ``features``.

    ``tell`` is called with the number of pairs of each batch.

    Returns:
        The arrays of ``WordSums``.
    """
    words, landmarks = torch.from_numpy(np.unique(arrays.word_ids)).to(features.landmarks.device), features.landmarks
    m = len(landmarks)
    shapes = {"phi_phi": (m, m), "phi": (m,), "word_counts": (len(words),), "word_phi": (len(words), m)}
    sums = {name: landmarks.new_zeros(shape) for name, shape in shapes.items()}
    for rows, batch in arrays.batches_by_product(pairs, PAIRS_AT_ONCE):
        batch = batch.to(landmarks.device)
        phi = features(batch).index_select(0, batch.pair_products)
        contained = _contained(batch, words, landmarks.dtype)
        sums["phi_phi"].addmm_(phi.T, phi)
        sums["phi"] += phi.sum(dim=0)
        sums["word_counts"] += torch.sparse.sum(contained, dim=1).to_dense()
        sums["word_phi"] += torch.sparse.mm(contained, phi)
        tell(len(rows))
    return {name: value.cpu().numpy() for name, value in sums.items()} | {"words": words.cpu().numpy()}


def _contained(batch: Batch, words: Tensor, dtype: torch.dtype) -> Tensor:
    """Give Y' of the batch's pairs, sparse (words, pairs): 1 where the pair's query has the word."""
    rows = torch.searchsorted(words, batch.word_ids).index_select(0, batch.pair_queries)  # (N, W)
    pairs, places = (~batch.word_mask.index_select(0, batch.pair_queries)).nonzero(as_tuple=True)
    found = torch.stack([rows[pairs, places], pairs])
    ones = torch.ones(len(pairs), dtype=dtype, device=pairs.device)
    summed = torch.sparse_coo_tensor(found, ones, (len(words), len(rows)), check_invariants=False).coalesce()
    summed.values().clamp_(max=1)  # a word that stands twice in a query
    return summed


def add_up(parts: Iterable[WordSums], words: int) -> WordSums:
    """Add up the sums of chunks, of which one is read at a time; the sum has all ``words``, whether they occur or not.

    ``origin`` is that of the first chunk.
    """
    total = None
    for part in parts:
        total = total or _nothing(part, words)
        for name in ("phi_phi", "phi"):
            getattr(total, name)[...] += getattr(part, name)
        for name in ("word_counts", "word_phi"):
            getattr(total, name)[part.words] += getattr(part, name)
        total = replace(total, pairs=total.pairs + part.pairs, seconds=total.seconds + part.seconds)
    return total


def _nothing(part: WordSums, words: int) -> WordSums:
    m = len(part.phi)
    zeros = map(np.zeros, ((m, m), m, words, (words, m)))
    phi_phi, phi, counts, word_phi = zeros
    return WordSums(part.origin, 0, 0.0, phi_phi, phi, np.arange(words), counts, word_phi)


def solve(total: WordSums, between: np.ndarray, ridge: float) -> Regression:
    """Solve the regression of all words; ``between`` (m, m) compares the landmarks.

    Equal landmarks are allowed: directions in which ``between`` has no extent, but for rounding, get no coefficient.
    """
    mean = total.word_counts / total.pairs
    targets = total.word_phi.T - np.outer(total.phi, mean)  # Phi'(Y - mean), (m, words)
    extents, directions = np.linalg.eigh(between)
    kept = extents > extents[-1] * len(extents) * np.finfo(np.float64).eps
    whitened = directions[:, kept] / np.sqrt(extents[kept])
    values, vectors = np.linalg.eigh(whitened.T @ total.phi_phi @ whitened)
    basis = whitened @ vectors
    coefficients = basis @ ((basis.T @ targets) / (values.clip(min=0) + ridge)[:, None])
    explained = 2 * (coefficients * targets).sum() - (coefficients * (total.phi_phi @ coefficients)).sum()
    error = (total.word_counts.sum() - total.pairs * (mean**2).sum() - explained) / total.pairs
    return Regression(coefficients, total.word_counts, mean, float(error))
