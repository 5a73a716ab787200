"""The one training loop: chunk after chunk, resumable after each, on one process or several."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from multimodal_recall.models.batch import Batch, ChunkArrays, Pairs
from multimodal_recall.models.hardware import best_device, half_precision, keep_freed_memory
from multimodal_recall.models.losses import IN_BATCH_LOSSES, PAIR_LOSSES
from multimodal_recall.models.ranker import Ranker
from multimodal_recall.models.schedules import SCHEDULES
from multimodal_recall.negatives import RightAnswers
from multimodal_recall.ranker_options import RankerOptions

logger = logging.getLogger(__name__)

LoadChunk = Callable[[str, int], tuple[ChunkArrays, Pairs]]
"""Gives a chunk's arrays and an epoch's pairs; a right pair is followed by its wrong ones."""


class Checkpoint(Protocol):
    """Where the state of a training is kept; a write replaces the last one whole."""

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest tensors and facts; ``None`` where there are none."""

    def write(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Replace what was kept."""


class Progress(Protocol):
    """Shows how far training is."""

    def advance(self, pairs: int, total: int, loss: float, epoch: int) -> None:
        """So many pairs of the epoch's ``total`` are done."""


class TrainingError(Exception):
    """Training went wrong in a way that more training does not mend."""


@dataclass
class EpochLog:
    """One row of the training log."""

    epoch: int
    loss: float
    """Mean over the epoch's pairs."""
    loss_parts: list[float]
    """What the loss is the sum of: of image_tags the losses of tags and caption, else itself alone."""
    valid_ndcg_at_5: float
    pairs: int
    seconds: float


@dataclass
class State:
    """What a killed training needs besides model and optimiser to go on to the same end.

    There is no random state: torch is seeded anew for every chunk of every epoch from (seed, epoch, chunk).
    """

    epoch: int = 0
    chunk: int = 0
    """Chunks of the epoch that are done."""
    loss_sums: list[float] = field(default_factory=list)
    """Of each part of the loss, over the pairs so far."""
    pairs: int = 0
    seconds: float = 0.0
    log: list[EpochLog] = field(default_factory=list)

    @property
    def best(self) -> EpochLog | None:
        """The epoch with the highest nDCG@5 on valid; the earliest of equals."""
        return max(self.log, key=lambda row: row.valid_ndcg_at_5, default=None)


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
        pairs: The epoch's pairs, each right one followed by its k wrong ones.
        last_words: (queries,) a number for each last word, for batches of the same ones.
        options: Size and composition of the batches.
        random: The stream of chunk and epoch.

    Yields:
        Row numbers (right pairs, 1 + k), at most ``batch_size`` pairs (at least one right one), batches of equal size
        but for one right pair; every row comes once.
    """
    starts = np.flatnonzero(pairs.relevance == 1)
    group = len(pairs.relevance) // len(starts)
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


class Objective(nn.Module):
    """What a ranker is trained to make small. A module, so that processes know which weights a batch leaves alone."""

    def __init__(self, ranker: Ranker, options: RankerOptions) -> None:
        super().__init__()
        self.ranker, self.options = ranker, options
        self.in_batch = options.loss in IN_BATCH_LOSSES

    def forward(self, batch: Batch) -> Tensor:
        """The losses of a batch: as many values, or rows of the loss's parts, a right pair for each."""
        if self.options.loss == "tags_and_caption":
            return self.ranker.own_losses(batch)
        if self.in_batch:
            scores = self.ranker.score_all(batch)
            if self.options.loss == "multi_similarity":  # its constants are for cosines
                scores = scores / self.ranker.scale
            losses = IN_BATCH_LOSSES[self.options.loss](scores, batch, self.options.margin)
        else:
            losses = PAIR_LOSSES[self.options.loss](self.ranker(batch), batch.relevance, self.options.margin)
        extra = self.ranker.extra_loss(batch)
        return losses if extra is None else losses + extra


class Trainer:
    """Fits a ranker; ``fit`` is the whole story, the rest are its sentences."""

    def __init__(
        self,
        ranker: Ranker,
        options: RankerOptions,
        seed: int,
        chunks: Sequence[str],
        load_chunk: LoadChunk,
        measure: Callable[[Ranker], float],
        checkpoint: Checkpoint,
        fingerprint: str,
        progress: Progress,
    ) -> None:
        """Prepare for training.

        Args:
            ranker: The untrained module.
            options: How to train.
            seed: Seed of the shuffles and of dropout.
            chunks: Names of the training chunks.
            load_chunk: Reads one chunk; called in a thread while the chunk before trains.
            measure: nDCG@5 of a ranker on valid.
            checkpoint: Where the state is kept after each chunk.
            fingerprint: Stands for data, options and code; a checkpoint with another one is not resumed.
            progress: Shows how far it is.
        """
        keep_freed_memory()
        precision = "bf16" if half_precision(best_device()) else "no"
        # Buffers never change or are summed over the processes: no need to send them round before each step. A share
        # of a batch whose queries all have one word leaves the recurrent weights without a gradient.
        how = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
        self.accelerator = Accelerator(
            mixed_precision=precision, cpu=best_device().type == "cpu", kwargs_handlers=[how]
        )
        rates = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
        if options.optimiser == "adam":
            optimiser = torch.optim.AdamW(ranker.parameters(), **rates, fused=True)
        else:
            optimiser = torch.optim.NAdam(ranker.parameters(), **rates, decoupled_weight_decay=True)
        self.objective, self.optimiser = self.accelerator.prepare(Objective(ranker, options), optimiser)
        self.ranker = ranker  # the one inside
        self.options, self.seed, self.chunks = options, seed, chunks
        self.load_chunk, self.measure, self.progress = load_chunk, measure, progress
        self.checkpoint, self.fingerprint = checkpoint, fingerprint
        self.state, self.best_weights = State(), self._weights()
        self.schedule = SCHEDULES[options.schedule]

    def fit(self) -> tuple[dict[str, Tensor], list[EpochLog]]:
        """Train from the start, or from a checkpoint of the same training.

        Returns:
            The weights of the epoch with the best nDCG@5 on valid, and the log.

        Raises:
            TrainingError: If the loss stops being a number.
        """
        self._resume()
        for epoch, place, name, (arrays, pairs) in self._chunks_ahead():
            self._train_chunk(epoch, place, name, arrays, pairs)
            self.state.chunk = place + 1
            if self.state.chunk == len(self.chunks):
                self._end_epoch()
            self._save()
        return self.best_weights, self.state.log

    def _chunks_ahead(self) -> Iterator[tuple[int, int, str, tuple[ChunkArrays, Pairs]]]:
        """What is left to train, each chunk read while the one before trains."""
        todo = [
            (epoch, place, name)
            for epoch in range(self.state.epoch, self.options.epochs)
            for place, name in enumerate(epoch_order(self.chunks, self.seed, epoch))
            if (epoch, place) >= (self.state.epoch, self.state.chunk)
        ]
        with ThreadPoolExecutor(1) as reader:
            ahead = [reader.submit(self.load_chunk, name, epoch) for epoch, _, name in todo[:1]]
            for number, (epoch, place, name) in enumerate(todo):
                ahead += [reader.submit(self.load_chunk, n, e) for e, _, n in todo[number + 1 : number + 2]]
                yield epoch, place, name, ahead.pop(0).result()

    def _train_chunk(self, epoch: int, place: int, name: str, arrays: ChunkArrays, pairs: Pairs) -> None:
        random = stream(self.seed, epoch, name)
        torch.manual_seed(int(random.integers(2**63)) + self.accelerator.process_index)  # dropout
        right = RightAnswers.among(pairs, len(arrays.box_counts)) if self.options.loss in IN_BATCH_LOSSES else None
        batches = list(batch_rows(pairs, arrays.last_words, self.options, random))
        self.objective.train()
        for number, rows in enumerate(batches):
            done = (epoch + (place + number / len(batches)) / len(self.chunks)) / self.options.epochs
            start = time.perf_counter()
            loss = self._step(arrays, pairs, right, rows, self.options.learning_rate * self.schedule(done))
            if not np.isfinite(sum(loss)):
                raise TrainingError(
                    f"the loss is {sum(loss)} in epoch {epoch}, {name}, batch {number}. Try a lower learning_rate"
                )
            before = self.state.loss_sums or [0.0] * len(loss)
            self.state.loss_sums = [done + part * rows.size for done, part in zip(before, loss, strict=True)]
            self.state.pairs += rows.size
            self.state.seconds += time.perf_counter() - start
            total = len(pairs.relevance) * len(self.chunks)
            self.progress.advance(self.state.pairs, total, sum(self.state.loss_sums) / self.state.pairs, epoch)

    def _step(
        self, arrays: ChunkArrays, pairs: Pairs, right: RightAnswers | None, rows: np.ndarray, learning_rate: float
    ) -> list[float]:
        """One step of the optimiser on a batch that all processes share; the mean of each part of the loss."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        share = np.array_split(rows, processes)[rank]
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.zero_grad()
        batch = arrays.batch(pairs.take(share.ravel()), right).to(self.accelerator.device)
        with self.accelerator.autocast():
            losses = self.objective(batch)
        # Gradients are averaged over processes: the share's sum times their number gives the batch's mean.
        total = len(losses) // len(share) * len(rows)
        self.accelerator.backward(losses.sum() * processes / total)
        self.optimiser.step()
        sums = self.accelerator.reduce(losses.detach().reshape(len(losses), -1).sum(dim=0))
        return [part / total for part in sums.tolist()]

    def _end_epoch(self) -> None:
        state = self.state
        ndcg = self.measure(self.ranker)
        parts = [part / state.pairs for part in state.loss_sums]
        state.log.append(EpochLog(state.epoch, sum(parts), parts, ndcg, state.pairs, state.seconds))
        if state.best is state.log[-1]:
            self.best_weights = self._weights()
        logger.info(
            "epoch %d of %d: loss %.4f, valid nDCG@5 %.4f, %.0f pairs/s",
            state.epoch + 1,
            self.options.epochs,
            state.log[-1].loss,
            ndcg,
            state.pairs / state.seconds,
        )
        self.state = State(epoch=state.epoch + 1, log=state.log)

    def _weights(self) -> dict[str, Tensor]:
        weights = self.ranker.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self._weights().items()}
        if self.state.best:
            tensors |= {f"best.{name}": tensor for name, tensor in self.best_weights.items()}
        for number, entry in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{key}": value.cpu() for key, value in entry.items()}
        self.checkpoint.write(tensors, {"fingerprint": self.fingerprint, "state": asdict(self.state)})

    def _resume(self) -> None:
        kept = self.checkpoint.read()
        if kept is None:
            return
        tensors, facts = kept
        if facts["fingerprint"] != self.fingerprint:
            logger.warning(
                "the checkpoint found (after %d epochs) belongs to other data, options, seed or code: training starts "
                "anew and replaces it",
                facts["state"]["epoch"],
            )
            return
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimiser": {}}
        for name, tensor in tensors.items():
            part, _, key = name.partition(".")
            parts[part][key] = tensor
        self.ranker.load_state_dict(parts["model"])
        self.best_weights = parts["best"] or self.best_weights
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimiser"].items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = tensor
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        log = [EpochLog(**row) for row in facts["state"].pop("log")]
        self.state = State(**facts["state"], log=log)
        if self.state.epoch >= self.options.epochs:
            logger.info("data, options, seed and code are those of the training that ended last: taking its result")
        else:
            logger.info("resumed after %d epochs and %d chunks", self.state.epoch, self.state.chunk)
