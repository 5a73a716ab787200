"""Train a ranker that is solved from sums over the chunks: in closed form, in a single pass."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow.dataset as ds

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.batch import Reading
from multimodal_recall.data.examples import read_candidates, read_chunk, read_products
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.evaluation.scoring import read_chunks
from multimodal_recall.models.kernel_ridge import WordSums, add_up, solve, sum_pairs
from multimodal_recall.models.layers.kernel_features import KernelFeatures
from multimodal_recall.models.layers.largest_box import describe_largest
from multimodal_recall.models.ranker import InputSizes
from multimodal_recall.models.saved import TrainedRanker
from multimodal_recall.training.checkpoint import EpochLog
from multimodal_recall.training.ranker import valid_ndcg


def landmark_features(landmarks: ds.Dataset, options: RankerOptions, device: str) -> KernelFeatures:
    """Take the largest box of each product of a table as a landmark; in float64, as sums are."""
    arrays, rows = read_products(landmarks), np.arange(landmarks.count_rows())
    batch = arrays.batch(Pairs(np.zeros_like(rows), rows, np.zeros_like(rows)))
    return KernelFeatures(options.model, describe_largest(batch)).double().to(device)


def sum_chunk(
    tables: ChunkTables,
    features: KernelFeatures,
    options: RankerOptions,
    origin: dict[str, Any],
    tell: Callable[[int], None] = lambda _: None,
) -> WordSums:
    """Sum what the ``pairs`` of a chunk add to the regression; ``tell`` is called with the pairs of each batch."""
    start = time.perf_counter()
    table, pairs = read_candidates(tables)
    sums = sum_pairs(features, read_chunk(tables, Reading(max_boxes=options.max_boxes)), pairs, tell)
    return WordSums(origin, len(table), time.perf_counter() - start, **sums)


def solve_summed(
    options: RankerOptions,
    features: KernelFeatures,
    sums: Sequence[WordSums],
    valid: dict[str, ChunkTables],
    valid_answers: dict[int, list[int]],
    vectors: tuple[ds.Dataset, ds.Dataset],
) -> tuple[TrainedRanker, list[EpochLog]]:
    """Add up the sums of all chunks and solve the regression.

    Args:
        vectors: Tables of the word vectors and of the label vectors, whose sizes the ranker is built for.

    Returns:
        The ranker with an empty card, and a log with a single row, whose loss is the squared error of a training pair.
    """
    start, (words, labels) = time.perf_counter(), (table.count_rows() for table in vectors)
    total = add_up(sums, words)
    solved = solve(total, features.between_landmarks().cpu().numpy(), options.model.ridge)
    seconds = total.seconds + time.perf_counter() - start
    chunks, word = list(read_chunks(valid, Reading(max_boxes=options.max_boxes))), vectors[0].head(1)["vector"][0]
    arrays = chunks[0][2]
    widths = arrays.query_vectors.shape[1], arrays.features.shape[1]
    sizes = InputSizes(*widths, words, len(word), labels, landmarks=len(features.landmarks))
    trained = TrainedRanker(options, sizes, solved.weights(features.landmarks.cpu()), {})
    ndcg = valid_ndcg(trained.build().to(features.landmarks.device), chunks, valid_answers)
    return trained, [EpochLog(0, solved.error, [solved.error], ndcg, total.pairs, seconds)]
