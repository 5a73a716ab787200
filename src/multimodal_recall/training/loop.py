"""The training loop: chunk after chunk, resumable after each chunk, on one process or several."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.runtime.ahead import one_ahead
from multimodal_recall.runtime.allocator import give_back_freed_memory
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.runtime.progress import TrainingBar
from multimodal_recall.training.batching import TrainingChunk, epoch_order, share_of_batch, stream
from multimodal_recall.training.checkpoint import Checkpoint, EpochLog, State, pack, unpack
from multimodal_recall.training.objective import Objective
from multimodal_recall.training.schedules import SCHEDULES

logger = logging.getLogger(__name__)

STEPS_A_CLEANING = 8
"""Steps after which freed memory goes back to the system; see ``give_back_freed_memory``."""
LOGGED_EPOCHS = 20
"""Epochs that get a line in the log; a longer training leaves epochs out, which stand in its ``training_log``."""


class TrainingError(Exception):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Recipe:
    """Epochs, learning rate and optimiser of a training."""

    epochs: int
    learning_rate: float
    seed: int  # of the batches' order and of dropout
    schedule: str = "linear_warmup"
    optimiser: str = "adam"
    weight_decay: float = 0.0

    @classmethod
    def of(cls, options: RankerOptions) -> "Recipe":
        """Take the recipe from a ranker's options."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})


class Share(NamedTuple):
    """Hold a process's share of a batch."""

    batch: Any  # the objective's input
    rows: int  # of the share
    weight: float  # of the share's losses in the sum over all processes
    all_rows: int  # of the batch


@dataclass
class Trainer:
    """Trains a model; after each chunk it writes a checkpoint, from which a killed training goes on."""

    objective: Objective  # the untrained model and its loss
    recipe: Recipe
    hardware: Hardware  # device and precision of this process, whose number of torch threads is set already
    chunks: Sequence[str]  # names of the training chunks
    load_chunk: Callable[[str, int], TrainingChunk]  # reads a chunk for an epoch, in a thread, ahead of its turn
    checkpoint: Checkpoint
    fingerprint: str  # digest of data, options and code; a checkpoint with another fingerprint is not resumed
    progress: TrainingBar
    measure: Callable[[], float] | None = None  # nDCG@5 on valid, to keep the best epoch; `None`: keep the last

    def __post_init__(self) -> None:
        # Unused parameters: a process's share of a batch whose queries all have one word leaves the recurrent weights
        # without a gradient. Buffers never change or are the same in all processes: no need to send them.
        parallel = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
        if not torch.distributed.is_initialized():  # accelerate remembers the device of an earlier training
            AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(cpu=self.hardware.device == "cpu", kwargs_handlers=[parallel])
        self.model = self.objective.model
        rates = {"lr": self.recipe.learning_rate, "weight_decay": self.recipe.weight_decay}
        if self.recipe.optimiser == "adam":
            optimiser = torch.optim.AdamW(self.model.parameters(), **rates, fused=True)
        else:
            optimiser = torch.optim.NAdam(self.model.parameters(), **rates, decoupled_weight_decay=True)
        self.compute_losses, self.optimiser = self.accelerator.prepare(self.objective, optimiser)
        self.state, self.best_weights = State(), self._weights()

    def fit(self) -> tuple[dict[str, Tensor], list[EpochLog]]:
        """Train from the start, or from a checkpoint of the same training.

        Returns:
            The weights of the epoch with the best nDCG@5 on valid (without ``measure``, of the last epoch) and the log.

        Raises:
            TrainingError: If the loss is no longer a number.
        """
        self._resume()
        todo = self._remaining_chunks()
        with one_ahead(lambda coming: self.load_chunk(coming[2], coming[0]), todo) as chunks:
            for (epoch, place, name), chunk in zip(todo, chunks, strict=True):
                self._train_chunk(epoch, place, name, chunk)
                self.state.chunk = place + 1
                if self.state.chunk == len(self.chunks):
                    self._end_epoch()
                self._save()
        return self.best_weights, self.state.log

    def _resume(self) -> None:
        kept = self.checkpoint.read()
        if kept is None:
            return
        tensors, facts = kept
        if differing := self._differences(facts):
            logger.warning(
                "the checkpoint found (after %d epochs) belongs to other %s: training starts anew and replaces it",
                facts["state"]["epoch"],
                differing,
            )
            return
        weights, best_weights, self.state = unpack(tensors, facts["state"], self.optimiser)
        self.model.load_state_dict(weights)
        self.best_weights = best_weights or self.best_weights
        if self.state.epoch >= self.recipe.epochs:
            logger.info("the same training has ended before: taking its result")
        else:
            logger.info("resumed after %d epochs and %d chunks", self.state.epoch, self.state.chunk)

    def _differences(self, facts: dict[str, Any]) -> str:
        """Say in what a checkpoint differs from this training; empty if it does not differ."""
        if facts["fingerprint"] != self.fingerprint:
            return "data, options, seed or code"
        was, now = facts["hardware"], self.hardware.facts()
        return ", ".join(
            f"hardware.{name} ({was.get(name)}, now {value})" for name, value in now.items() if was.get(name) != value
        )

    def _remaining_chunks(self) -> list[tuple[int, int, str]]:
        """List epoch, place in the epoch and name of each chunk."""
        return [
            (epoch, place, name)
            for epoch in range(self.state.epoch, self.recipe.epochs)
            for place, name in enumerate(epoch_order(self.chunks, self.recipe.seed, epoch))
            if (epoch, place) >= (self.state.epoch, self.state.chunk)
        ]

    def _train_chunk(self, epoch: int, place: int, name: str, chunk: TrainingChunk) -> None:
        state, random = self.state, stream(self.recipe.seed, epoch, name)
        torch.manual_seed(int(random.integers(2**63)) + self.accelerator.process_index)  # dropout
        todo = chunk.batches(random)
        self.compute_losses.train()
        start = time.perf_counter()
        with self._shares(chunk, todo) as shares:
            for number, (rows, share) in enumerate(zip(todo, shares, strict=True)):
                done = (epoch + (place + number / len(todo)) / len(self.chunks)) / self.recipe.epochs
                if number % STEPS_A_CLEANING == 0:
                    give_back_freed_memory()
                loss = self._step(share, self.recipe.learning_rate * SCHEDULES[self.recipe.schedule](done))
                if not np.isfinite(sum(loss)):
                    raise TrainingError(
                        f"the loss is {sum(loss)} in epoch {epoch}, {name}, batch {number}. Try a lower learning_rate"
                    )
                sums = state.loss_sums or [0.0] * len(loss)
                state.loss_sums = [before + part * rows.size for before, part in zip(sums, loss, strict=True)]
                state.pairs += rows.size
                total = chunk.examples * len(self.chunks)
                self.progress.advance(state.pairs, total, sum(state.loss_sums) / state.pairs, epoch)
        state.seconds += time.perf_counter() - start

    def _shares(self, chunk: TrainingChunk, todo: list[np.ndarray]) -> AbstractContextManager[Iterator[Share]]:
        """Gather this process's share of each batch."""
        make = partial(self._share, chunk)
        return one_ahead(make, todo) if self.hardware.gathers_ahead else nullcontext(map(make, todo))

    def _share(self, chunk: TrainingChunk, rows: np.ndarray) -> Share:
        """Gather this process's share of a batch, on the device."""
        processes, process = self.accelerator.num_processes, self.accelerator.process_index
        own, weight = share_of_batch(rows, process, processes, self.objective.whole_batches)
        return Share(chunk.batch(own).to(self.accelerator.device), len(own), weight, len(rows))

    def _step(self, share: Share, learning_rate: float) -> list[float]:
        """Move the weights by a batch that all processes share; give the mean of each part of the loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.zero_grad()
        with self.hardware.autocast():
            losses = self.compute_losses(share.batch)
        # Gradients are averaged over processes: the share's sum times their number gives the batch's mean.
        total = len(losses) // share.rows * share.all_rows
        self.accelerator.backward(losses.sum() * (self.accelerator.num_processes * share.weight) / total)
        self.optimiser.step()
        sums = self.accelerator.reduce(losses.detach().reshape(len(losses), -1).sum(dim=0) * share.weight)
        return [part / total for part in sums.tolist()]

    def _end_epoch(self) -> None:
        state = self.state
        give_back_freed_memory()
        ndcg = 0.0 if self.measure is None else self.measure()
        parts = [part / state.pairs for part in state.loss_sums]
        state.log.append(EpochLog(state.epoch, sum(parts), parts, ndcg, state.pairs, state.seconds))
        if self.measure is None or state.best is state.log[-1]:
            self.best_weights = self._weights()
        if (state.epoch + 1) % -(-self.recipe.epochs // LOGGED_EPOCHS) == 0 or state.epoch + 1 == self.recipe.epochs:
            self._log_epoch(state, ndcg)
        self.state = State(epoch=state.epoch + 1, log=state.log)

    def _log_epoch(self, state: State, ndcg: float) -> None:
        measured = "" if self.measure is None else f", valid nDCG@5 {ndcg:.4f}"
        logger.info(
            "epoch %d of %d: loss %.4f%s, %.0f %s/s",
            *(state.epoch + 1, self.recipe.epochs, state.log[-1].loss, measured),
            *(state.pairs / state.seconds, self.objective.unit),
        )

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            tensors, state = pack(self._weights(), self.best_weights, self.optimiser, self.state)
            facts = {"fingerprint": self.fingerprint, "hardware": self.hardware.facts(), "state": state}
            self.checkpoint.write(tensors, facts)

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
