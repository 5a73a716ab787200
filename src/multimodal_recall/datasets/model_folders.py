"""Weights on disk: a transformers folder, a trained ranker, the checkpoint of an unfinished training."""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal_recall.config.loader import in_project
from multimodal_recall.datasets.atomic import AtomicDataset, DamagedError
from multimodal_recall.datasets.atomic_write import RESUME, write_atomically
from multimodal_recall.models.saved import CARD, TOKENIZER, WEIGHTS, TrainedRanker, read_card, read_ranker
from multimodal_recall.runtime.kedro_private import JSONPreview

if TYPE_CHECKING:  # torch takes seconds to import, and an ingest node needs none of it
    from torch import Tensor


logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"


def checkpoint_files(checkpoints: str) -> list[Path]:
    """Name the checkpoint in each folder of a folder of checkpoints; not all of them exist."""
    return [folder / CHECKPOINT for folder in sorted(in_project(checkpoints).glob("*/"))]


class LanguageModelFolder(AtomicDataset[tuple[Any, Any], Path]):
    """A plain transformers folder: ``save`` takes (model, tokenizer), ``load`` gives the path."""

    holds_folder = True

    def _write(self, path: Path, data: tuple[Any, Any]) -> None:
        for part in data:
            part.save_pretrained(path)

    def _read(self, path: Path) -> Path:
        return path

    def preview(self) -> JSONPreview:
        """Show the configuration of the model in kedro-viz."""
        return JSONPreview((self.load() / "config.json").read_text(encoding="utf-8"))


class RankerFolder(AtomicDataset[TrainedRanker, TrainedRanker]):
    """A trained ranker: ``model.safetensors``, ``card.json`` (options, sizes, history), and its tokenizer if any."""

    holds_folder = True

    def _write(self, path: Path, data: TrainedRanker) -> None:
        from safetensors.torch import save_file

        path.mkdir()
        save_file(data.weights, path / WEIGHTS)
        (path / CARD).write_text(json.dumps(data.description(), indent=2), encoding="utf-8")
        if data.tokenizer is not None:
            (path / TOKENIZER).write_text(data.tokenizer, encoding="utf-8")

    def _read(self, path: Path) -> TrainedRanker:
        return read_ranker(path)

    def card(self) -> dict[str, Any]:
        """Read the card without the weights."""
        return read_card(self.load_path())

    def preview(self) -> JSONPreview:
        """Show the card in kedro-viz."""
        return JSONPreview(json.dumps(self.card()))


class CheckpointFile:
    """The checkpoint of an unfinished training: a safetensors file that each write replaces atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, checkpoints: str, name: str) -> "CheckpointFile":
        """Name the checkpoint of a ranker or of the language model in the folder of all checkpoints."""
        return cls(in_project(checkpoints) / name / CHECKPOINT)

    def read(self) -> "tuple[dict[str, Tensor], dict[str, Any]] | None":
        """Read the last tensors and facts; ``None`` if there is no file, or a damaged one, which is set aside."""
        if not self.path.exists():
            return None
        try:
            return self.read_whole()
        except DamagedError as error:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            os.replace(self.path, aside)
            logger.warning("%s. It is now %s, and training starts anew", error, aside.name)
            return None

    def read_whole(self) -> "tuple[dict[str, Tensor], dict[str, Any]]":
        """Read the tensors and facts.

        Raises:
            DamagedError: If they are not what was written.
        """
        from safetensors import SafetensorError, safe_open

        fault = f"The checkpoint {self.path} is damaged: it is not what was written"
        try:
            with safe_open(self.path, "pt") as file:
                tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
            whole = metadata["digest"] == _digest(tensors, metadata["facts"])
        except (SafetensorError, KeyError, TypeError) as error:
            raise DamagedError(fault) from error
        if not whole:
            raise DamagedError(fault)
        return tensors, json.loads(metadata["facts"])

    def write(self, tensors: "dict[str, Tensor]", facts: dict[str, Any]) -> None:
        """Replace the file atomically."""
        from safetensors.torch import save_file

        text = json.dumps(facts)
        with write_atomically(self.path, RESUME) as unfinished:
            save_file(tensors, unfinished, metadata={"facts": text, "digest": _digest(tensors, text)})


def _digest(tensors: "dict[str, Tensor]", facts: str) -> str:
    """Hash names, types, shapes and bytes of tensors, and the facts."""
    import torch

    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
