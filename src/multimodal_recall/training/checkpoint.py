"""The state of an unfinished training, and its form in a checkpoint: named tensors and JSON facts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

Tensors = dict[str, Tensor]


class Checkpoint(Protocol):
    """Keeps the last state of a training; a write is atomic."""

    def read(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Read the tensors and facts; ``None`` before the first write."""

    def write(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        """Replace the tensors and facts."""


@dataclass
class EpochLog:
    """One row of the training log."""

    epoch: int
    loss: float  # mean over the epoch's pairs
    loss_parts: list[float]  # the terms of the loss: for image_tags the losses of tags and caption, else the loss alone
    valid_ndcg_at_5: float  # 0 without a measure
    pairs: int
    seconds: float


@dataclass
class State:
    """Position and sums of a training.

    It holds no random state: torch is seeded anew for each chunk of each epoch from (seed, epoch, chunk).
    """

    epoch: int = 0
    chunk: int = 0  # number of the epoch's chunks that are trained
    loss_sums: list[float] = field(default_factory=list)  # of each part of the loss over the epoch's `pairs` so far
    pairs: int = 0
    seconds: float = 0.0
    log: list[EpochLog] = field(default_factory=list)

    @property
    def best(self) -> EpochLog | None:
        """Find the epoch with the highest nDCG@5 on valid, the earliest of equal epochs."""
        return max(self.log, key=lambda row: row.valid_ndcg_at_5, default=None)


def pack(weights: Tensors, best_weights: Tensors, optimiser: Optimizer, state: State) -> tuple[Tensors, dict[str, Any]]:
    """Turn a training into the named tensors and the JSON state of a checkpoint."""
    tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
    if state.best:
        tensors |= {f"best.{name}": tensor for name, tensor in best_weights.items()}
    for number, entry in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{key}": value.cpu() for key, value in entry.items()}
    return tensors, asdict(state)


def unpack(tensors: Tensors, state: Mapping[str, Any], optimiser: Optimizer) -> tuple[Tensors, Tensors, State]:
    """Undo ``pack``: load the optimiser, and give the weights, the best weights and the state."""
    parts: dict[str, Tensors] = {"model": {}, "best": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        parts[part][key] = tensor
    moments: dict[int, Tensors] = {}
    for name, tensor in parts["optimiser"].items():
        number, _, key = name.partition(".")
        moments.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    log = [EpochLog(**row) for row in state["log"]]
    return parts["model"], parts["best"], State(**{**state, "log": log})
