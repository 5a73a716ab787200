"""Base of every dataset that we write: a version is there whole, or not at all."""

import json
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from kedro.io import AbstractVersionedDataset, CatalogProtocol, DatasetError, Version

from multimodal_recall.datasets.atomic_write import write_atomically

Saved = TypeVar("Saved")
Loaded = TypeVar("Loaded")

State = str | dict[str, int]
"""A version; of a file without versions its size in bytes and its time of change in nanoseconds."""


def unfinished_beside(path: Path) -> list[Path]:
    """What killed runs left of a file, and of its record, under temporary names."""
    names = (path.name, record_path(path).name)
    return [left for name in names for left in sorted(path.parent.glob(f".{name}.*.unfinished"))]


def record_path(path: Path) -> Path:
    """Name of the small JSON that says how a file or folder was made."""
    return path.with_name(f".{path.name}.record.json")


def file_state(path: Path) -> dict[str, int]:
    """Size and time of change; renaming keeps both."""
    facts = path.stat()
    return {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns}


class AtomicDataset(AbstractVersionedDataset[Saved, Loaded]):
    """A file or folder that gets its final name last, so that existence means completeness.

    A subclass says how to ``_write`` to a path and ``_read`` from it. The path that ``_write`` gets is a temporary
    name beside the final one: a killed run leaves it behind, and nothing reads it.
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
        self.new_record: dict[str, Any] | None = None
        """What ``save`` records beside the data: node, options and inputs; ``None`` outside a node."""

    @property
    def path(self) -> Path:
        """The file or folder; where there are versions, the folder that holds them."""
        return Path(self._filepath)

    def load_path(self) -> Path:
        """Name the file or folder that ``load`` reads."""
        return Path(self._get_load_path())

    def load(self) -> Loaded:
        """Read the pinned or newest version."""
        path = self.load_path()
        if not path.exists():
            raise DatasetError(self.absence())
        return self._read(path)

    def save(self, data: Saved) -> None:
        """Write under a temporary name beside the final place, then rename.

        A kill leaves no version without its record. A file without versions, whose last content has a record too, loses
        that before it is replaced and gets the new one after: without a record, it counts as stale.
        """
        path = Path(self._get_save_path())
        with write_atomically(path) as unfinished:
            self._write(unfinished, data)
            output = file_state(unfinished) if unfinished.is_file() else None
            if self.new_record is not None and self._version is None:
                record_path(path).unlink(missing_ok=True)
            elif self.new_record is not None:
                self._write_record(path, output)
        if self.new_record is not None and self._version is None:
            self._write_record(path, output)

    def _write_record(self, path: Path, output: dict[str, int] | None) -> None:
        with write_atomically(record_path(path)) as record:
            record.write_text(json.dumps({**self.new_record, "output": output}, indent=2), encoding="utf-8")

    @abstractmethod
    def _write(self, path: Path, data: Saved) -> None:
        """Write ``data`` to ``path``, a file or a folder that does not exist yet."""

    @abstractmethod
    def _read(self, path: Path) -> Loaded:
        """Read what ``_write`` wrote."""

    def _get_save_path(self) -> PurePosixPath:
        """The place of the run's version, also where that version is there, which Kedro refuses.

        A version is named after its run's time. Who finds it there is the same run once more: a node that runs again
        because its worker died after saving. What it saves takes the place of what is there.
        """
        version = self.resolve_save_version()
        return self._filepath if version is None else self._get_versioned_path(version)

    def state(self) -> State | None:
        """What ``load`` would read; ``None`` where there is nothing."""
        if not self.exists():
            return None
        return self.resolve_load_version() or file_state(Path(self._filepath))

    def record(self) -> dict[str, Any] | None:
        """How that was made; ``None`` where nothing is recorded.

        The record of a file without versions counts only where ``record["output"]`` is the file's state: the file may
        have been replaced by hand.
        """
        record = record_path(self.load_path())
        return json.loads(record.read_text(encoding="utf-8")) if record.exists() else None

    def leftovers(self) -> list[Path]:
        """What killed runs and prunings left: temporary names, and folders of versions that never got their data."""
        place = Path(self._filepath)
        if self._version is None:
            return unfinished_beside(place)
        left = []
        for folder in sorted(place.glob("*/")):
            inside = sorted(folder.iterdir())
            if folder.name.endswith(".unfinished") or all(path.name.startswith(".") for path in inside):
                left.append(folder)
            else:
                left += [path for path in inside if path.name.endswith(".unfinished")]
        return left

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
        return self.load_path().exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def atomic_datasets(names: Iterable[str], catalog: CatalogProtocol) -> dict[str, AtomicDataset]:
    """Those of the named datasets that are whole ones: neither options nor checkpoints."""
    datasets = {name: catalog.get(name) for name in names}
    return {name: dataset for name, dataset in datasets.items() if isinstance(dataset, AtomicDataset)}
