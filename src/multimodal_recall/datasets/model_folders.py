"""Weights on disk: a transformers folder, a trained ranker, the checkpoint of an unfinished training."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset, DatasetError

from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.datasets.atomic_write import write_atomically
from multimodal_recall.models.saved import CARD, TOKENIZER, WEIGHTS, TrainedRanker, read_card, read_ranker
from multimodal_recall.runtime.kedro_private import JSONPreview

if TYPE_CHECKING:  # torch takes seconds to import, and an ingest node needs none of it
    from torch import Tensor


class LanguageModelFolder(AtomicDataset[tuple[Any, Any], Path]):
    """A plain transformers folder: ``save`` takes (model, tokenizer), ``load`` gives the path."""

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

    def read(self) -> "tuple[dict[str, Tensor], dict[str, Any]] | None":
        """Read the last tensors and facts; ``None`` if there is no file."""
        from safetensors import safe_open

        if not self.path.exists():
            return None
        with safe_open(self.path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["facts"])  # noqa: SIM118

    def write(self, tensors: "dict[str, Tensor]", facts: dict[str, Any]) -> None:
        """Replace the file atomically."""
        from safetensors.torch import save_file

        with write_atomically(self.path) as unfinished:
            save_file(tensors, unfinished, metadata={"facts": json.dumps(facts)})


class CheckpointDataset(AbstractDataset[Any, CheckpointFile]):
    """Gives the train node its checkpoint file, to which the training writes while it runs."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> CheckpointFile:
        """Give a handle on the file, which need not exist."""
        return CheckpointFile(self._path)

    def save(self, data: Any) -> None:
        """Refuse to save: the training writes its checkpoints itself."""
        raise DatasetError(f"{self._path} is written by the training, not from a node's {type(data).__name__}")

    def preview(self) -> JSONPreview:
        """Show the state of the training, without its tensors, in kedro-viz."""
        from safetensors import safe_open

        with safe_open(self._path, "np") as file:
            return JSONPreview(file.metadata()["facts"])

    def _exists(self) -> bool:
        return True  # as a handle

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
