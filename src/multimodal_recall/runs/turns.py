"""Turns: a run waits for, or is refused beside, another run that writes what it reads or writes."""

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout
from kedro.io import DatasetError

from multimodal_recall.config.loader import project_folder
from multimodal_recall.datasets.atomic import AtomicDataset

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2


class BusyError(DatasetError):
    """Another run writes what this run reads or writes, or reads what it writes."""


@dataclass(frozen=True)
class Claim:
    """Paths that a run or a pruning reads and writes."""

    name: str
    """The run, for a message."""
    reads: list[str]
    writes: list[str]

    def conflict(self, other: "Claim") -> str | None:
        """Name a path that one of two runs writes and the other reads or writes; ``None`` if there is none."""
        shared = {*self.writes} & {*other.reads, *other.writes} | {*self.reads} & {*other.writes}
        return min(shared, default=None)


def claim(name: str, reads: Iterable[AtomicDataset], writes: Iterable[AtomicDataset]) -> Claim:
    """Collect the paths of datasets; ``name`` gets this process's number and the time."""
    paths = [sorted(str(dataset.path.resolve()) for dataset in datasets) for datasets in (reads, writes)]
    return Claim(f"{name} (process {os.getpid()}, since {time.strftime('%H:%M:%S')})", *paths)


def turns_folder() -> Path:
    """Name the folder that lists the runs under way in this project."""
    return project_folder() / "data" / ".runs"


def take_turn(claim: Claim, folder: Path, refuse: bool = False) -> FileLock:
    """List a run as under way once no other run conflicts with it; the turn ends when the lock is released.

    The operating system releases the lock of a killed process: nothing has to be removed by hand.

    Args:
        claim: What the run reads and writes.
        folder: The list: of each run a JSON file and a lock that the run's process holds.
        refuse: Raise instead of waiting.

    Raises:
        BusyError: If another run conflicts and ``refuse`` is set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = False
    while True:
        with FileLock(folder / "list.lock"):
            conflicts = ((other, claim.conflict(other)) for other in _under_way(folder))
            other, path = next(((other, path) for other, path in conflicts if path), (None, None))
            if other is None:
                return _enter(claim, folder)
        if refuse:
            raise BusyError(f"{other.name} is under way and shares {path} with this run. Start again when it has ended")
        if not waiting:
            logger.info("waiting for %s, which shares %s with this run", other.name, path)
        waiting = True
        time.sleep(POLL_SECONDS)


@contextmanager
def turn(claim: Claim) -> Iterator[None]:
    """Take a turn for a block, and end it."""
    lock = take_turn(claim, turns_folder())
    try:
        yield
    finally:
        end_turn(lock)


def end_turn(lock: FileLock) -> None:
    """Take a run off the list."""
    file = Path(lock.lock_file)
    file.with_suffix(".json").unlink(missing_ok=True)
    lock.release()
    file.unlink(missing_ok=True)


def _under_way(folder: Path) -> Iterator[Claim]:
    """List the claims whose processes live; remove those of killed processes."""
    for file in sorted(folder.glob("*.json")):
        lock = FileLock(file.with_suffix(".lock"), blocking=False)
        try:
            lock.acquire()
        except Timeout:
            with suppress(FileNotFoundError):  # the run ended just now
                yield Claim(**json.loads(file.read_text(encoding="utf-8")))
        else:
            end_turn(lock)


def _enter(claim: Claim, folder: Path) -> FileLock:
    file = folder / f"{uuid4().hex}.json"
    lock = FileLock(file.with_suffix(".lock"), thread_local=False)
    lock.acquire()
    file.write_text(json.dumps(asdict(claim)), encoding="utf-8")
    return lock
