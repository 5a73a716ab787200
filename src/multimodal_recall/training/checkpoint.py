"""The state of an unfinished training: what it holds, and how it becomes named tensors and facts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

Tensors = dict[str, Tensor]


class Checkpoint(Protocol):
    """Where the state of a training is kept; a write replaces the last state as a whole."""

    def read(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Give the newest tensors and facts; ``None`` before the first write."""

    def write(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        """Replace the tensors and facts."""


@dataclass
class EpochLog:
    """One row of the training log."""

    epoch: int
    loss: float
    """Mean over the epoch's pairs."""
    loss_parts: list[float]
    """The terms that the loss is the sum of: for image_tags the losses of tags and caption, else the loss alone."""
    valid_ndcg_at_5: float
    """0 if nothing is measured."""
    pairs: int
    seconds: float


@dataclass
class State:
    """The position of a training, which resumes from it to the same end.

    There is no random state: torch is seeded anew for each chunk of each epoch from (seed, epoch, chunk).
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


def pack(weights: Tensors, best_weights: Tensors, optimiser: Optimizer, state: State) -> tuple[Tensors, dict[str, Any]]:
    """Name the tensors of a training as a checkpoint keeps them, and give its state as JSON can hold it."""
    tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
    if state.best:
        tensors |= {f"best.{name}": tensor for name, tensor in best_weights.items()}
    for number, entry in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{key}": value.cpu() for key, value in entry.items()}
    return tensors, asdict(state)


def unpack(tensors: Tensors, state: Mapping[str, Any], optimiser: Optimizer) -> tuple[Tensors, Tensors, State]:
    """Undo ``pack``: load the optimiser's tensors into it, and give the weights, the best weights and the state."""
    parts: dict[str, Tensors] = {"model": {}, "best": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        parts[part][key] = tensor
    moments: dict[int, Tensors] = {}
    for name, tensor in parts["optimiser"].items():
        number, _, key = name.partition(".")
        moments.setdefault(int(number), {})[key] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})
    log = [EpochLog(**row) for row in state["log"]]
    return parts["model"], parts["best"], State(**{**state, "log": log})
