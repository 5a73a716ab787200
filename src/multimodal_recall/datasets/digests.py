"""SHA-256 digests of saved files, so that damage is noticed, and of raw files, so that a copy counts as the same."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

WHOLE_BYTES = 1 << 26
"""Raw files up to this size are hashed whole: 0.1 s."""
SAMPLES, SAMPLE_BYTES = 64, 1 << 16
"""Blocks of a larger raw file that are hashed, spread evenly from its first byte to its last."""

FLUSHES_AT_ONCE = 32

State = str | dict[str, int | str]
"""A version; for an unversioned file its size in bytes and a digest, for a large file also its time of change."""


def digest_file(path: Path) -> str:
    """Hash a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(path: Path) -> dict[str, str]:
    """Hash a file, or each file of a folder, by its path relative to ``path``: a file's own is ``.``."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return {str(file.relative_to(path)): digest_file(file) for file in files}


def content_state(path: Path) -> dict[str, int | str]:
    """Describe an unversioned file, or a folder of files, so that a copy is equal and another content is not.

    Hidden files of a folder, such as ``.DS_Store``, do not count. A file of more than ``WHOLE_BYTES`` is hashed in
    samples. A change between the samples keeps size and digest, so the time of change counts too: a large file that was
    copied without its time (``cp -r``) is another file.
    """
    own = path.stat()
    files = [file.stat() for file in path.glob("[!.]*")] if path.is_dir() else [own]
    newest = max([own.st_mtime_ns, *(file.st_mtime_ns for file in files)])  # a folder's changes with its names
    return dict(_content_state(path, sum(file.st_size for file in files), newest))


@lru_cache(maxsize=1024)
def _content_state(path: Path, size: int, mtime_ns: int) -> dict[str, int | str]:
    if path.is_dir():
        digests = digest_files(path)
        names = json.dumps({name: digests[name] for name in digests if not name.startswith(".")}).encode()
        return {"size": size, "digest": hashlib.sha256(names).hexdigest()}
    if size <= WHOLE_BYTES:
        return {"size": size, "digest": digest_file(path)}
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for number in range(SAMPLES):
            file.seek((size - SAMPLE_BYTES) * number // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return {"size": size, "digest": digest.hexdigest(), "mtime_ns": mtime_ns}


def flush(path: Path) -> None:
    """Bring a file, or all files of a folder, from the system's memory to the disk; links lead to files of others."""
    # In threads the disk takes the files together: 10,500 small files in 1 s, one by one in 6 s (ext4).
    with ThreadPoolExecutor(FLUSHES_AT_ONCE) as pool:
        list(pool.map(_flush, (file for file in path.rglob("*") if not file.is_symlink())))
    _flush(path)


def flush_name(path: Path) -> None:
    """Bring a file's name in its folder to the disk."""
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
