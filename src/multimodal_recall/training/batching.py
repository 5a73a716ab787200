"""Cut an epoch's pairs into batches, and a batch into the shares of the processes."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd

from multimodal_recall.config.rankers import IN_BATCH_LOSSES, RankerOptions
from multimodal_recall.data.batch import Batch, ChunkArrays
from multimodal_recall.data.pairs import Pairs, RightAnswers

logger = logging.getLogger(__name__)


class TrainingChunk(Protocol):
    """The examples that an epoch trains on from a single chunk."""

    examples: int  # number of pairs or queries

    def batches(self, random: np.random.Generator) -> list[np.ndarray]:
        """Cut all examples into batches: example numbers (rows, examples a row). Processes divide the rows."""

    def batch(self, rows: np.ndarray) -> Any:
        """Gather the objective's input for some rows of a batch; the input has a method ``to(device)``."""


def stream(seed: int, epoch: int, name: str) -> np.random.Generator:
    """Seed the random stream of a chunk in an epoch, which is independent of other chunks and epochs."""
    return np.random.default_rng([seed, epoch, *name.encode()])


def epoch_order(chunks: Sequence[str], seed: int, epoch: int) -> list[str]:
    """Shuffle the chunks for an epoch."""
    return [chunks[place] for place in stream(seed, epoch, "order").permutation(len(chunks))]


def batch_rows(
    pairs: Pairs, last_words: np.ndarray, options: RankerOptions, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Cut a chunk's pairs into batches; a right pair and its wrong pairs stay together.

    Args:
        pairs: The epoch's pairs, with ``negatives_per_positive`` k.
        last_words: (queries,) number of each query's last word; see ``last_word_groups``.

    Yields:
        Row numbers (right pairs, 1 + k), every row once. A batch has at most ``batch_size`` pairs, but always a right
        pair with its wrong pairs; the sizes of two batches differ by one right pair at most.
    """
    group = 1 + pairs.negatives_per_positive
    starts = np.arange(0, len(pairs.relevance), group)
    order = random.permutation(starts)
    if options.batches == "same_last_word":
        queries = pairs.query_rows[order]
        order = order[_in_groups(queries, last_words[queries], options.group_size, random)]
    batches = -(-len(starts) // max(1, options.batch_size // group))
    for part in np.array_split(order, batches):
        yield part[:, None] + np.arange(group)


def in_epochs(options: RankerOptions, right_pairs: Iterable[int]) -> RankerOptions:
    """Turn the length in ``steps`` into whole ``epochs``, one at least.

    Args:
        options: Of the ranker; without ``steps`` they stay as they are.
        right_pairs: Of each training chunk; see ``batch_rows`` for the steps that they take.
    """
    if options.steps is None:
        return options
    a_step = max(1, options.batch_size // (1 + options.negatives_per_positive))
    an_epoch = sum(-(-pairs // a_step) for pairs in right_pairs)
    epochs = -(-options.steps // max(1, an_epoch))
    logger.info("%d steps are %d epochs of %d", options.steps, epochs, an_epoch)
    return replace(options, epochs=epochs, steps=None)


def _in_groups(queries: np.ndarray, words: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Order shuffled rows (n,) in groups of at most ``size`` rows of the same word, and shuffle the groups.

    A group holds as many different queries as possible, since the rows of a query are no wrong answers to each other.
    WST's queries "share the last word and little else"; here they may share other words.
    """
    by_word = np.lexsort((_count_before(queries), words))
    groups = np.cumsum(_count_before(words[by_word]) % size == 0) - 1
    return by_word[np.argsort(random.permutation(groups[-1] + 1)[groups], kind="stable")]


def _count_before(values: np.ndarray) -> np.ndarray:
    """Count the equal values that stand before each value (n,)."""
    return pd.Series(values).groupby(values).cumcount().to_numpy()


@dataclass(frozen=True)
class TrainingPairs:
    """A ``TrainingChunk`` of pairs that have ``negatives_per_positive``."""

    arrays: ChunkArrays
    pairs: Pairs
    options: RankerOptions

    @property
    def examples(self) -> int:
        """Count the right and wrong pairs."""
        return len(self.pairs.relevance)

    @cached_property
    def right(self) -> RightAnswers | None:
        """Index the chunk's right pairs for losses that compare every query with every product."""
        in_batch = self.options.loss in IN_BATCH_LOSSES
        return RightAnswers.among(self.pairs, len(self.arrays.box_counts)) if in_batch else None

    def batches(self, random: np.random.Generator) -> list[np.ndarray]:
        """Cut the pairs into batches (right pairs, 1 + k); see ``batch_rows``."""
        return list(batch_rows(self.pairs, self.arrays.last_words, self.options, random))

    def batch(self, rows: np.ndarray) -> Batch:
        """Gather the queries and products of some rows (right pairs, 1 + k)."""
        return self.arrays.batch(self.pairs.take_groups(rows), self.right)


def share_of_batch(rows: np.ndarray, process: int, processes: int, whole: bool) -> tuple[np.ndarray, float]:
    """Give a process's rows of a batch (n, ...), and the weight of their losses in the sum over all processes.

    A ``whole`` batch counts ``1 / processes`` in each process. If there are fewer rows than processes, a process
    without a row of its own takes the first row with weight 0, since it must take part in the sum of the gradients.
    """
    if whole:
        return rows, 1 / processes
    share = np.array_split(rows, processes)[process]
    return (share, 1.0) if len(share) else (rows[:1], 0.0)
