"""Base of every dataset that this project writes: a version exists complete or not at all."""

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
"""A version; for an unversioned file its size in bytes and its time of change in nanoseconds."""


def unfinished_beside(path: Path) -> list[Path]:
    """List what killed runs left of a file and of its record under temporary names."""
    names = (path.name, record_path(path).name)
    return [file for name in names for file in sorted(path.parent.glob(f".{name}.*.unfinished"))]


def record_path(path: Path) -> Path:
    """Name the record: the small JSON that says how a file or folder was made."""
    return path.with_name(f".{path.name}.record.json")


def file_state(path: Path) -> dict[str, int]:
    """Read the size and the time of change, which renaming keeps."""
    facts = path.stat()
    return {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns}


class AtomicDataset(AbstractVersionedDataset[Saved, Loaded]):
    """A file or folder that gets its final name last: if the name exists, the content is complete.

    A subclass implements ``_write`` to a path and ``_read`` from a path. ``_write`` gets a temporary name beside the
    final name: a killed run leaves the temporary file behind, and nothing reads it.
    """

    advice = ""
    """What a user can do about a missing file that no stage makes: a sentence with a leading space."""

    def __init__(self, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None) -> None:
        """Set path and version.

        Args:
            filepath: Folder of versions if ``version`` is given, else a single file that each save replaces.
            version: Kedro's load and save version.
            metadata: Read by kedro-viz alone.
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
        """Write under a temporary name beside the final name, then rename.

        Versioned output: the record is written first, the data is renamed into place last. Unversioned file: the old
        record is deleted, the file replaced, the new record written. Killed in between, the file has no record and
        ``kedro stale`` reports it.
        """
        path = Path(self._get_save_path())
        with write_atomically(path) as unfinished:
            self._write(unfinished, data)
            output = file_state(unfinished) if unfinished.is_file() else None
            if self._version is not None:
                self._write_record(path, output)
            elif self.new_record is not None:
                record_path(path).unlink(missing_ok=True)
        if self._version is None:
            self._write_record(path, output)

    def _write_record(self, path: Path, output: dict[str, int] | None) -> None:
        if self.new_record is not None:
            with write_atomically(record_path(path)) as record:
                record.write_text(json.dumps({**self.new_record, "output": output}, indent=2), encoding="utf-8")

    @abstractmethod
    def _write(self, path: Path, data: Saved) -> None:
        """Write ``data`` to ``path``, a file or a folder that does not exist yet."""

    @abstractmethod
    def _read(self, path: Path) -> Loaded:
        """Read what ``_write`` wrote."""

    def _get_save_path(self) -> PurePosixPath:
        """Give the path of the run's version, even if the version exists, which Kedro refuses.

        A version is named after the time of its run: if it exists, the node's worker died after saving, and the node
        runs again.
        """
        version = self.resolve_save_version()
        return self._filepath if version is None else self._get_versioned_path(version)

    def state(self) -> State | None:
        """Name what ``load`` would read; ``None`` if nothing exists."""
        if not self.exists():
            return None
        return self.resolve_load_version() or file_state(Path(self._filepath))

    def record(self) -> dict[str, Any] | None:
        """Read the record of what ``load`` would read; ``None`` if there is no record.

        The record of an unversioned file counts only if ``record["output"]`` is the file's state: the file may have
        been replaced by hand.
        """
        record = record_path(self.load_path())
        return json.loads(record.read_text(encoding="utf-8")) if record.exists() else None

    def leftovers(self) -> list[Path]:
        """List what killed runs and prunings left: temporary files, and folders of versions without data."""
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
            return f"{self._filepath} does not exist.{self.advice}"
        wanted = f"version {self._version.load}" if self._version.load else "version yet"
        return f"{self._filepath} has no {wanted}. Run the stage that makes it first, or the whole pipeline: kedro run"

    def _exists(self) -> bool:
        return self.load_path().exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def atomic_datasets(names: Iterable[str], catalog: CatalogProtocol) -> dict[str, AtomicDataset]:
    """Select the named datasets that are atomic: neither options nor checkpoints."""
    datasets = {name: catalog.get(name) for name in names}
    return {name: dataset for name, dataset in datasets.items() if isinstance(dataset, AtomicDataset)}
