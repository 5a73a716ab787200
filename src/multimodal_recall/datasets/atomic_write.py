"""Write under a temporary name, then rename; say what to do if the disk refuses."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from kedro.io import DatasetError

from multimodal_recall.datasets.digests import flush, flush_name

FREE, ALLOW = "Free space there", "Make the folder writable"
DISK_REMEDIES = {errno.ENOSPC: FREE, errno.EDQUOT: FREE, errno.EROFS: ALLOW, errno.EACCES: ALLOW, errno.EPERM: ALLOW}
RESUME = "go on with: kedro run --only-missing-outputs (in a later run than the first: the same command again)"
REPEAT = "give the same command again"


@contextmanager
def write_atomically(path: Path, advice: str = REPEAT) -> Iterator[Path]:
    """Give a temporary name beside ``path``, which is renamed to ``path`` if the block ends and removed if it fails.

    Args:
        path: The final name.
        advice: What to do once the cause of a refusal is mended.

    Raises:
        DatasetError: If the disk refuses, with the path, the disk's reason, and what to do.
    """
    unfinished = unfinished_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        flush(unfinished)  # else a power cut could leave the final name without its content
        take_place(unfinished, path)
        flush_name(path)
    except NotADirectoryError:
        raise  # Kedro's message says that a file stands in place of the folder of versions
    except Exception as error:
        number, reason = _refusal(error)
        if reason is None:
            raise
        remedy = DISK_REMEDIES.get(number, "Mend the cause")
        raise DatasetError(f"{path} could not be written: {reason}. {remedy}, then {advice}") from error
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        else:
            unfinished.unlink(missing_ok=True)


def unfinished_name(path: Path) -> Path:
    """Make a temporary name beside ``path`` that no other thread, process or machine takes."""
    return path.with_name(f".{path.name}.{uuid4().hex}.unfinished")


def take_place(unfinished: Path, path: Path) -> None:
    """Rename, even if ``path`` is a folder with files, which ``os.replace`` refuses.

    The old folder is first moved aside: at every moment ``path`` is the old folder, the new folder, or absent.
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


def _refusal(error: Exception) -> tuple[int | None, str | None]:
    """Find number and text of the operating system's error in an exception; ``None``, ``None`` for other exceptions.

    safetensors and tokenizers are written in Rust; their exceptions only quote the number.
    """
    if isinstance(error, OSError):
        return error.errno, error.strerror or str(error)
    quoted = re.search(r"\(os error (\d+)\)", str(error))
    return (int(quoted[1]), os.strerror(int(quoted[1]))) if quoted else (None, None)
