"""Base of every dataset that we write: a version is there whole, or not at all."""

from abc import abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from kedro.io import AbstractVersionedDataset, DatasetError, Version

from multimodal_recall.datasets.writing import clear_leftovers, written_whole

Saved = TypeVar("Saved")
Loaded = TypeVar("Loaded")


class WholeDataset(AbstractVersionedDataset[Saved, Loaded]):
    """A file or folder that gets its final name last, so that existence means completeness.

    A subclass says how to ``_write`` to a path and ``_read`` from it. The path that ``_write`` gets is a temporary
    name beside the final one: a killed run leaves it behind, nothing reads it, and the next save removes it.
    """

    def __init__(self, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None) -> None:
        """Name the dataset's place.

        Args:
            filepath: File, or folder of versions where ``version`` is given.
            version: Kedro's load and save version; ``None`` keeps a single, overwritten file.
            metadata: Ignored here; read by kedro-viz.
        """
        super().__init__(PurePosixPath(filepath), version)
        self.metadata = metadata

    def load(self) -> Loaded:
        """Read the pinned or newest version."""
        path = Path(self._get_load_path())
        if not path.exists():
            raise DatasetError(self.absence())
        return self._read(path)

    def save(self, data: Saved) -> None:
        """Write under a temporary name beside the final place, then rename; see ``written_whole``."""
        path = Path(self._get_save_path())
        clear_leftovers(Path(self._filepath).glob("*") if self._version else [path.parent], path.name)
        with written_whole(path) as unfinished:
            self._write(unfinished, data)

    @abstractmethod
    def _write(self, path: Path, data: Saved) -> None:
        """Write ``data`` to ``path``, a file or a folder that does not exist yet."""

    @abstractmethod
    def _read(self, path: Path) -> Loaded:
        """Read what ``_write`` wrote."""

    def absence(self) -> str:
        """Say that there is nothing to load, and what to do about it."""
        if self._version is None:
            return f"{self._filepath} does not exist.{self._advice()}"
        wanted = f"version {self._version.load}" if self._version.load else "version yet"
        return f"{self._filepath} has no {wanted}. Run the stage that makes it first, or the whole: kedro run"

    def _advice(self) -> str:
        """What a user can do where a file that we do not write is missing; a sentence with a leading space."""
        return ""

    def _exists(self) -> bool:
        return Path(self._get_load_path()).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}
