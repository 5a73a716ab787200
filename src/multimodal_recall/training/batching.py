"""From an epoch's pairs to batches, and each process's share of a batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from multimodal_recall.config.rankers import IN_BATCH_LOSSES, RankerOptions
from multimodal_recall.data.batch import Batch, ChunkArrays
from multimodal_recall.data.pairs import Pairs, RightAnswers


class Chunk(Protocol):
    """What one epoch trains on of a chunk."""

    examples: int
    """How many it has: pairs, or queries."""

    def batches(self, random: np.random.Generator) -> list[np.ndarray]:
        """Cut all examples into batches: rows of examples (n, examples a row), of which each process takes a share."""

    def batch(self, rows: np.ndarray) -> Any:
        """Make what the objective reads of some rows; it has ``to(device)``."""


def stream(seed: int, epoch: int, name: str) -> np.random.Generator:
    """The random stream of a chunk in an epoch, the same whatever ran before."""
    return np.random.default_rng([seed, epoch, *name.encode()])


def epoch_order(chunks: Sequence[str], seed: int, epoch: int) -> list[str]:
    """The order in which an epoch visits the chunks; another one each epoch."""
    return [chunks[place] for place in stream(seed, epoch, "order").permutation(len(chunks))]


def batch_rows(
    pairs: Pairs, last_words: np.ndarray, options: RankerOptions, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Cut a chunk's pairs into batches, each right pair together with its wrong ones.

    Args:
        pairs: The epoch's pairs, with ``negatives_per_positive`` k.
        last_words: (queries,) a number for each last word, for batches of the same ones.
        options: Size and composition of the batches.
        random: The stream of chunk and epoch.

    Yields:
        Row numbers (right pairs, 1 + k), at most ``batch_size`` pairs (at least one right one), batches of equal size
        but for one right pair; every row comes once.
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


def _in_groups(queries: np.ndarray, words: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """An order of shuffled rows (n,): those of one word in groups of at most ``size``, the groups in any order.

    A group holds as many different queries as its word has: rows of one query are no wrong answers to each other. WST's
    queries "share the last word and little else"; here they may share other words.
    """
    by_word = np.lexsort((_places(queries), words))
    groups = np.cumsum(_places(words[by_word]) % size == 0) - 1
    return by_word[np.argsort(random.permutation(groups[-1] + 1)[groups], kind="stable")]


def _places(values: np.ndarray) -> np.ndarray:
    """How many equal values stand before each one (n,)."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-1))
    places = np.empty(len(values), np.int64)
    places[order] = np.arange(len(values)) - np.repeat(starts, np.diff(starts, append=len(values)))
    return places


@dataclass(frozen=True)
class TrainingPairs:
    """A chunk's arrays and its pairs of one epoch, with ``negatives_per_positive``; a ``Chunk``."""

    arrays: ChunkArrays
    pairs: Pairs
    options: RankerOptions

    @property
    def examples(self) -> int:
        """Pairs, right and wrong ones together."""
        return len(self.pairs.relevance)

    @cached_property
    def right(self) -> RightAnswers | None:
        """All right pairs, where the loss compares every query with every product."""
        in_batch = self.options.loss in IN_BATCH_LOSSES
        return RightAnswers.among(self.pairs, len(self.arrays.box_counts)) if in_batch else None

    def batches(self, random: np.random.Generator) -> list[np.ndarray]:
        """Rows (right pairs, 1 + k) of each batch."""
        return list(batch_rows(self.pairs, self.arrays.last_words, self.options, random))

    def batch(self, rows: np.ndarray) -> Batch:
        """Gather the queries and products of some rows (right pairs, 1 + k)."""
        return self.arrays.batch(self.pairs.take_groups(rows), self.right)


def share_of_batch(rows: np.ndarray, process: int, processes: int, whole: bool) -> tuple[np.ndarray, float]:
    """A process's rows of a batch (n, ...), and the weight of their losses in the sum over all processes.

    Of whole batches each process counts one part in ``processes``. Of fewer rows than processes, one that would have
    none takes the first row with a weight of 0: it still has to take part in the sum of the gradients.
    """
    if whole:
        return rows, 1 / processes
    share = np.array_split(rows, processes)[process]
    return (share, 1.0) if len(share) else (rows[:1], 0.0)
