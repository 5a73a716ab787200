"""Write under a temporary name, then rename; say what to do where the disk refuses."""

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from kedro.io import DatasetError

HOST = socket.gethostname()
FREE, ALLOW = "Free space there", "Make the folder writable"
REMEDIES = {errno.ENOSPC: FREE, errno.EDQUOT: FREE, errno.EROFS: ALLOW, errno.EACCES: ALLOW, errno.EPERM: ALLOW}
RESUME = "go on with: kedro run --only-missing-outputs (a first run; any other: the same command again)"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``: it becomes ``path`` if the block ends, and is removed if it breaks off.

    Raises:
        DatasetError: If the disk refuses, with the path, the disk's reason, and what to do.
    """
    unfinished = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        os.replace(unfinished, path)
    except NotADirectoryError:
        raise  # Kedro says why: a file stands where the folder of versions should be
    except Exception as error:
        number, reason = _refusal(error)
        if reason is None:
            raise
        remedy = REMEDIES.get(number, "Mend the cause")
        raise DatasetError(f"{path} could not be written: {reason}. {remedy}, then {RESUME}") from error
    finally:
        _remove(unfinished)


def clear_leftovers(folders: Iterable[Path], name: str) -> None:
    """Remove what killed processes of this machine left of writing ``name``; a process that lives keeps its file.

    Args:
        folders: Where ``name`` was to be.
        name: The final name, without its folder.
    """
    for folder in folders:
        for left in folder.glob(f".{name}.{HOST}.*.unfinished"):
            if not psutil.pid_exists(int(left.name.split(".")[-2])):
                _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def _refusal(error: Exception) -> tuple[int | None, str | None]:
    """Number and text of the operating system's refusal behind an exception; twice ``None`` if it is another one.

    safetensors and tokenizers are written in Rust; their exceptions only quote the number.
    """
    if isinstance(error, OSError):
        return error.errno, error.strerror or str(error)
    quoted = re.search(r"\(os error (\d+)\)", str(error))
    return (int(quoted[1]), os.strerror(int(quoted[1]))) if quoted else (None, None)
