"""The one training loop: chunk after chunk, resumable after each, on one process or several."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.training.batching import Chunk, epoch_order, share_of_batch, stream
from multimodal_recall.training.checkpoint import Checkpoint, EpochLog, State, pack, unpack
from multimodal_recall.training.objective import Objective
from multimodal_recall.training.schedules import SCHEDULES

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Shows how far training is."""

    def advance(self, pairs: int, total: int, loss: float, epoch: int) -> None:
        """Show that ``pairs`` of the epoch's ``total`` are done, with this mean loss."""


class TrainingError(Exception):
    """Training went wrong, and more training cannot mend it."""


@dataclass(frozen=True)
class Recipe:
    """How the weights are moved."""

    epochs: int
    learning_rate: float
    schedule: str = "linear_warmup"
    optimiser: str = "adam"
    weight_decay: float = 0.0

    @classmethod
    def of(cls, options: RankerOptions) -> "Recipe":
        """The part of a ranker's options."""
        return cls(**{part.name: getattr(options, part.name) for part in fields(cls)})


class Trainer:
    """Fits a model; ``fit`` is the story, the other methods are its sentences."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        recipe: Recipe,
        hardware: Hardware,
        seed: int,
        chunks: Sequence[str],
        load_chunk: Callable[[str, int], Chunk],
        checkpoint: Checkpoint,
        fingerprint: str,
        progress: Progress,
        measure: Callable[[], float] | None = None,
    ) -> None:
        """Prepare for training.

        Args:
            model: The untrained module, whose weights are kept.
            objective: Its loss.
            recipe: How the weights are moved.
            hardware: What this process computes with; torch's threads are set already.
            seed: Seed of the shuffles and of dropout.
            chunks: Names of the training chunks.
            load_chunk: Reads what an epoch trains on of one chunk; called in a thread while the chunk before trains.
            checkpoint: Where the state is kept after each chunk.
            fingerprint: Stands for data, options and code; a checkpoint with another one is not resumed.
            progress: Shows how far it is.
            measure: nDCG@5 of the model on valid, which chooses the epoch; ``None``: the last epoch is kept.
        """
        # A share of a batch whose queries all have one word leaves the recurrent weights without a gradient. Buffers
        # never change or are the same in all processes: no need to send them round before each step.
        how = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
        if not torch.distributed.is_initialized():  # accelerate remembers the device of a training before this one
            AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(cpu=hardware.device == "cpu", kwargs_handlers=[how])
        rates = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
        if recipe.optimiser == "adam":
            optimiser = torch.optim.AdamW(model.parameters(), **rates, fused=True)
        else:
            optimiser = torch.optim.NAdam(model.parameters(), **rates, decoupled_weight_decay=True)
        self.unit, self.whole_batches = objective.unit, objective.whole_batches
        self.objective, self.optimiser = self.accelerator.prepare(objective, optimiser)
        self.model = model  # the one inside
        self.recipe, self.hardware, self.seed, self.chunks = recipe, hardware, seed, chunks
        self.load_chunk, self.measure, self.progress = load_chunk, measure, progress
        self.checkpoint, self.fingerprint = checkpoint, fingerprint
        self.state, self.best_weights = State(), self._weights()
        self.schedule = SCHEDULES[recipe.schedule]

    def fit(self) -> tuple[dict[str, Tensor], list[EpochLog]]:
        """Train from the start, or from a checkpoint of the same training.

        Returns:
            The weights of the epoch with the best nDCG@5 on valid, or of the last, and the log.

        Raises:
            TrainingError: If the loss stops being a number.
        """
        self._resume()
        for epoch, place, name, chunk in self._chunks_ahead():
            self._train_chunk(epoch, place, name, chunk)
            self.state.chunk = place + 1
            if self.state.chunk == len(self.chunks):
                self._end_epoch()
            self._save()
        return self.best_weights, self.state.log

    def _chunks_ahead(self) -> Iterator[tuple[int, int, str, Chunk]]:
        """What is left to train, each chunk read while the one before trains."""
        todo = [
            (epoch, place, name)
            for epoch in range(self.state.epoch, self.recipe.epochs)
            for place, name in enumerate(epoch_order(self.chunks, self.seed, epoch))
            if (epoch, place) >= (self.state.epoch, self.state.chunk)
        ]
        with ThreadPoolExecutor(1) as reader:
            ahead = [reader.submit(self.load_chunk, name, epoch) for epoch, _, name in todo[:1]]
            for number, (epoch, place, name) in enumerate(todo):
                ahead += [reader.submit(self.load_chunk, n, e) for e, _, n in todo[number + 1 : number + 2]]
                yield epoch, place, name, ahead.pop(0).result()

    def _train_chunk(self, epoch: int, place: int, name: str, chunk: Chunk) -> None:
        random = stream(self.seed, epoch, name)
        torch.manual_seed(int(random.integers(2**63)) + self.accelerator.process_index)  # dropout
        batches = chunk.batches(random)
        self.objective.train()
        for number, rows in enumerate(batches):
            done = (epoch + (place + number / len(batches)) / len(self.chunks)) / self.recipe.epochs
            start = time.perf_counter()
            loss = self._step(chunk, rows, self.recipe.learning_rate * self.schedule(done))
            if not np.isfinite(sum(loss)):
                raise TrainingError(
                    f"the loss is {sum(loss)} in epoch {epoch}, {name}, batch {number}. Try a lower learning_rate"
                )
            before = self.state.loss_sums or [0.0] * len(loss)
            self.state.loss_sums = [done + part * rows.size for done, part in zip(before, loss, strict=True)]
            self.state.pairs += rows.size
            self.state.seconds += time.perf_counter() - start
            total = chunk.examples * len(self.chunks)
            self.progress.advance(self.state.pairs, total, sum(self.state.loss_sums) / self.state.pairs, epoch)

    def _step(self, chunk: Chunk, rows: np.ndarray, learning_rate: float) -> list[float]:
        """One step of the optimiser on a batch that all processes share; the mean of each part of the loss."""
        processes = self.accelerator.num_processes
        share, weight = share_of_batch(rows, self.accelerator.process_index, processes, self.whole_batches)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.zero_grad()
        batch = chunk.batch(share).to(self.accelerator.device)
        with self.hardware.autocast():
            losses = self.objective(batch)
        # Gradients are averaged over processes: the share's sum times their number gives the batch's mean.
        total = len(losses) // len(share) * len(rows)
        self.accelerator.backward(losses.sum() * (processes * weight) / total)
        self.optimiser.step()
        sums = self.accelerator.reduce(losses.detach().reshape(len(losses), -1).sum(dim=0) * weight)
        return [part / total for part in sums.tolist()]

    def _end_epoch(self) -> None:
        state = self.state
        ndcg = 0.0 if self.measure is None else self.measure()
        parts = [part / state.pairs for part in state.loss_sums]
        state.log.append(EpochLog(state.epoch, sum(parts), parts, ndcg, state.pairs, state.seconds))
        if self.measure is None or state.best is state.log[-1]:
            self.best_weights = self._weights()
        measured = "" if self.measure is None else f", valid nDCG@5 {ndcg:.4f}"
        logger.info(
            "epoch %d of %d: loss %.4f%s, %.0f %s/s",
            *(state.epoch + 1, self.recipe.epochs, state.log[-1].loss, measured),
            *(state.pairs / state.seconds, self.unit),
        )
        self.state = State(epoch=state.epoch + 1, log=state.log)

    def _weights(self) -> dict[str, Tensor]:
        weights = self.model.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        tensors, state = pack(self._weights(), self.best_weights, self.optimiser, self.state)
        facts = {"fingerprint": self.fingerprint, "hardware": self.hardware.facts(), "state": state}
        self.checkpoint.write(tensors, facts)

    def _resume(self) -> None:
        kept = self.checkpoint.read()
        if kept is None:
            return
        tensors, facts = kept
        if other := self._other_than(facts):
            logger.warning(
                "the checkpoint found (after %d epochs) belongs to other %s: training starts anew and replaces it",
                facts["state"]["epoch"],
                other,
            )
            return
        weights, best_weights, self.state = unpack(tensors, facts["state"], self.optimiser)
        self.model.load_state_dict(weights)
        self.best_weights = best_weights or self.best_weights
        if self.state.epoch >= self.recipe.epochs:
            logger.info("nothing differs from the training that ended last: taking its result")
        else:
            logger.info("resumed after %d epochs and %d chunks", self.state.epoch, self.state.chunk)

    def _other_than(self, facts: dict[str, Any]) -> str:
        """Say in what a checkpoint differs from this training; empty if it is of this training."""
        if facts["fingerprint"] != self.fingerprint:
            return "data, options, seed or code"
        was, now = facts["hardware"], self.hardware.facts()
        return ", ".join(
            f"hardware.{name} ({was.get(name)}, now {value})" for name, value in now.items() if was.get(name) != value
        )
