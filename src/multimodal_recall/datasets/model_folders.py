"""What holds weights: a transformers checkpoint, a trained ranker, the state of an unfinished training."""

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
    """An ordinary transformers folder: ``save`` takes (model, tokenizer), ``load`` gives the path."""

    def _write(self, path: Path, data: tuple[Any, Any]) -> None:
        for part in data:
            part.save_pretrained(path)

    def _read(self, path: Path) -> Path:
        return path

    def preview(self) -> JSONPreview:
        """Its configuration, for kedro-viz."""
        return JSONPreview((self.load() / "config.json").read_text(encoding="utf-8"))


class RankerFolder(AtomicDataset[TrainedRanker, TrainedRanker]):
    """A trained ranker: ``model.safetensors``, ``card.json`` with its options, sizes and history, maybe a tokenizer."""

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
        """The card alone, without reading the weights."""
        return read_card(self.load_path())

    def preview(self) -> JSONPreview:
        """Its card, for kedro-viz."""
        return JSONPreview(json.dumps(self.card()))


class CheckpointFile:
    """The state of an unfinished training in one safetensors file, replaced whole at each write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> "tuple[dict[str, Tensor], dict[str, Any]] | None":
        """The tensors and facts last written; ``None`` where there is no file."""
        from safetensors import safe_open

        if not self.path.exists():
            return None
        with safe_open(self.path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["facts"])  # noqa: SIM118

    def write(self, tensors: "dict[str, Tensor]", facts: dict[str, Any]) -> None:
        """Write beside the file, then rename; see ``write_atomically``."""
        from safetensors.torch import save_file

        with write_atomically(self.path) as unfinished:
            save_file(tensors, unfinished, metadata={"facts": json.dumps(facts)})


class CheckpointDataset(AbstractDataset[Any, CheckpointFile]):
    """Gives the train node its checkpoint file; only the training writes to it, while it runs."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> CheckpointFile:
        """A handle on the file, whether it exists or not."""
        return CheckpointFile(self._path)

    def save(self, data: Any) -> None:
        """Refuse: training itself writes its checkpoints."""
        raise DatasetError(f"{self._path} is written by the training, not from a node's {type(data).__name__}")

    def _exists(self) -> bool:
        return True  # a handle is always there

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
