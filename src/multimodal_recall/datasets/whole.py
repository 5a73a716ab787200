"""Base of every dataset that we write: a version is there whole, or not at all."""

import errno
import os
import shutil
from abc import abstractmethod
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from uuid import uuid4

from kedro.io import AbstractVersionedDataset, DatasetError, Version

Saved = TypeVar("Saved")
Loaded = TypeVar("Loaded")


def unfinished_name(path: Path) -> Path:
    """A temporary name beside ``path`` that no other thread, process or machine takes."""
    return path.with_name(f".{path.name}.{uuid4().hex}.unfinished")


def take_place(unfinished: Path, path: Path) -> None:
    """Rename, also where ``path`` is a folder with files, which ``os.replace`` refuses.

    Such a folder is first moved aside whole: at every moment there is the old one, the new one, or none.
    """
    while True:
        try:
            return os.replace(unfinished, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        aside = unfinished_name(path)
        with suppress(FileNotFoundError):  # another process moved it aside just now
            os.replace(path, aside)
            shutil.rmtree(aside)


class WholeDataset(AbstractVersionedDataset[Saved, Loaded]):
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

    def load(self) -> Loaded:
        """Read the pinned or newest version."""
        path = Path(self._get_load_path())
        if not path.exists():
            raise DatasetError(self.absence())
        return self._read(path)

    def save(self, data: Saved) -> None:
        """Write under a temporary name beside the final place, then rename."""
        path = Path(self._get_save_path())
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = unfinished_name(path)
        try:
            self._write(unfinished, data)
            take_place(unfinished, path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True) if unfinished.is_dir() else unfinished.unlink(True)
            raise

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
