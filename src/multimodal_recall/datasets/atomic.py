"""Base of every dataset that this project writes: a version exists complete or not at all."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable
from glob import escape, iglob
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from kedro.io import AbstractVersionedDataset, CatalogProtocol, DatasetError, Version

from multimodal_recall.datasets.atomic_write import REPEAT, RESUME, write_atomically
from multimodal_recall.datasets.digests import State, content_state, digest_file, digest_files

Saved = TypeVar("Saved")
Loaded = TypeVar("Loaded")


class DamagedError(DatasetError):
    """A file is not what a run saved."""


def unfinished_beside(path: Path) -> list[Path]:
    """List what killed runs left of a file and of its record under temporary names."""
    names = (path.name, record_path(path).name)
    return [file for name in names for file in sorted(path.parent.glob(f".{name}.*.unfinished"))]


def record_path(path: Path) -> Path:
    """Name the record: the small JSON that says how a file or folder was made."""
    return path.with_name(f".{path.name}.record.json")


def seal(record: dict[str, Any]) -> str:
    """Digest a record without its own ``seal``."""
    content = {key: value for key, value in record.items() if key != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_record(path: Path) -> dict[str, Any] | None:
    """Read the record of a file or folder; ``None`` if there is no record.

    Raises:
        DamagedError: If the record is not what was written.
    """
    file = record_path(path)
    if not file.exists():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        whole = record["seal"] == seal(record)
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise DamagedError(f"{file} is damaged: it is not the record that was written. Delete {path.parent}, run again")
    return record


class AtomicDataset(AbstractVersionedDataset[Saved, Loaded]):
    """A file or folder that gets its final name last: if the name exists, the content is complete.

    A subclass implements ``_write`` to a path and ``_read`` from a path. ``_write`` gets a temporary name beside the
    final name: a killed run leaves the temporary file behind, and nothing reads it.
    """

    advice = ""
    """What a user can do about a missing file that no stage makes: a sentence with a leading space."""
    holds_folder = False
    """Whether the data are a folder of files and not a single file."""

    def __init__(self, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None) -> None:
        """Set path and version.

        Args:
            filepath: Folder of versions if ``version`` is given, else a single file that each save replaces.
            version: Kedro's load and save version.
            metadata: Read by kedro-viz alone.
        """
        super().__init__(PurePosixPath(filepath), version, glob_function=_list_versions)
        self.metadata = metadata
        self.new_record: dict[str, Any] | None = None
        """What ``save`` records beside the data: node, options and inputs; ``None`` outside a node."""
        self.saved_version: str | None = None
        """The version that ``save`` has written, which ``load`` then reads, unless another is asked for."""
        self.pinned_version: str | None = None
        """The version of ``params:pins``, which ``load`` reads even if there are newer versions."""

    @property
    def path(self) -> Path:
        """The file or folder; where there are versions, the folder that holds them."""
        return Path(self._filepath)

    @property
    def has_versions(self) -> bool:
        """Whether there are versions; else a single file, which a user may replace."""
        return self._version is not None

    def load_path(self) -> Path:
        """Name the file or folder that ``load`` reads."""
        return Path(self._get_load_path())

    def load(self) -> Loaded:
        """Read the pinned or newest version; after ``save`` the saved version, whatever other runs save meanwhile.

        Raises:
            DamagedError: If a version is not what was saved. An unversioned file may be replaced by hand.
        """
        path = self.load_path()
        if not self._fits(path):
            raise DatasetError(self.absence())
        if self._version is not None:
            self._verify(path)
        return self._read(path)

    def save(self, data: Saved) -> None:
        """Write under a temporary name beside the final name, then rename.

        Versioned output: the record is written first, the data is renamed into place last. Unversioned file: the old
        record is deleted, the file replaced, the new record written. Killed in between, the file has no record and
        ``kedro stale`` reports it.
        """
        path = Path(self._get_save_path())
        advice = RESUME if self.new_record is not None else REPEAT  # outside a node: kedro write-tsv
        with write_atomically(path, advice) as unfinished:
            self._write(unfinished, data)
            record = {**self.new_record, "digests": self._digest(unfinished)} if self.new_record is not None else None
            if self._version is not None:
                self._write_record(path, record)
            elif record is not None:
                record_path(path).unlink(missing_ok=True)
                record["output"] = self._content(unfinished)
        if self._version is None:
            self._write_record(path, record)
        else:
            self.saved_version = path.parent.name

    def _write_record(self, path: Path, record: dict[str, Any] | None) -> None:
        if record is not None:
            with write_atomically(record_path(path), RESUME) as file:
                file.write_text(json.dumps({**record, "seal": seal(record)}, indent=2), encoding="utf-8")

    def _digest(self, path: Path) -> dict[str, Any]:
        """Digests that the record keeps: ``files`` has one of each file by its relative path."""
        return {"files": digest_files(path)}

    def _content(self, path: Path) -> State:
        """Describe an unversioned file or folder, so that another content is noticed."""
        return content_state(path)

    def _verify(self, path: Path) -> None:
        """Compare with the digests of the record what ``load`` is about to read."""
        verify_files(path)

    def verify_whole(self, path: Path) -> None:
        """Compare all that the record of a version or file has digests of; without a record, nothing is compared.

        Raises:
            DamagedError: With the first file that differs, and the command that makes it anew.
        """
        verify_files(path)

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

    def resolve_load_version(self) -> str | None:
        """Name the version that ``load`` reads: the asked for, the saved, the pinned or the newest version."""
        asked = self._version is not None and self._version.load
        return asked or self.saved_version or self.pinned_version or super().resolve_load_version()

    def newest(self) -> str | None:
        """Name the newest version; ``None`` without versions."""
        return next(iter(self.list_versions(full_path=False)), None) if self._version is not None else None

    def save_as(self, version: str) -> None:
        """Save under this version, where there are versions."""
        if self._version is not None:
            self._version = self._version._replace(save=version)

    def state(self) -> State | None:
        """Name what ``load`` would read; ``None`` if nothing exists."""
        if not self.exists():
            return None
        return self.resolve_load_version() or self._content(Path(self._filepath))

    def record(self) -> dict[str, Any] | None:
        """Read the record of what ``load`` would read; ``None`` if there is no record.

        The record of an unversioned file counts only if ``record["output"]`` is the file's state: the file may have
        been replaced by hand.
        """
        return read_record(self.load_path())

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
        """Say that there is nothing to load, or something else, and what to do about it."""
        if self._version is None and self.path.exists():
            found = "a folder" if self.path.is_dir() else "no file, but a pipe or device"
            return f"{self.path} is {found}.{self.advice}"
        if self._version is None:
            return f"{self._filepath} does not exist.{self.advice}"
        wanted = f"version {self._version.load}" if self._version.load else "version yet"
        return f"{self._filepath} has no {wanted}. Run the stage that makes it first, or the whole pipeline: kedro run"

    def _exists(self) -> bool:
        return self._fits(self.load_path())

    def _fits(self, path: Path) -> bool:
        """Tell whether a path is of the kind that ``load`` reads: a pipe would be waited for without end."""
        return path.is_dir() if self.holds_folder else path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def verify_files(path: Path) -> None:
    """Compare a file, or the files of a folder, with the digests of the record.

    Raises:
        DamagedError: With the first file that differs, and the command that makes it anew.
    """
    record = read_record(path)
    if record is None:
        return
    for name, digest in record["digests"]["files"].items():
        verify_file(path / name, digest, remake(record))


def verify_file(file: Path, digest: str, command: str) -> None:
    """Compare a file with its digest.

    Raises:
        DamagedError: If it differs or is gone; with ``command``, which makes it anew.
    """
    if not file.is_file():
        raise DamagedError(f"{file} is gone. Make it anew with: {command}")
    if digest_file(file) != digest:
        raise DamagedError(f"{file} is damaged: it is not what was saved. Make it anew with: {command}")


def remake(record: dict[str, Any]) -> str:
    """Name the command that makes the output of a record, and what follows from it, anew."""
    pipeline = f"--pipelines={record['pipeline']} " if "pipeline" in record else ""
    return f"kedro run {pipeline}--from-nodes={record['node']}"


def _list_versions(pattern: str) -> Iterable[str]:
    """List the versions of ``<file>/*/<name>`` even where the project's path has a ``[``."""
    folder, _, name = pattern.rpartition("/*/")
    return iglob(f"{escape(folder)}/*/{escape(name)}")


def atomic_datasets(names: Iterable[str], catalog: CatalogProtocol) -> dict[str, AtomicDataset]:
    """Select the named datasets that are atomic: neither options nor checkpoints."""
    datasets = {name: catalog.get(name) for name in names}
    return {name: dataset for name, dataset in datasets.items() if isinstance(dataset, AtomicDataset)}
