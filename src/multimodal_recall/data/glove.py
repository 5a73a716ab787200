"""A vocabulary's vectors from a text file of word vectors, and what a file holds that is no such file."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from multimodal_recall.data.text import normal_form
from multimodal_recall.runtime.progress import Bar, bar

logger = logging.getLogger(__name__)

BOM = b"\xef\xbb\xbf"
PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
WIDE_LETTERS = (b"\xff\xfe", b"\xfe\xff")  # byte order marks of UTF-16
HEADER = re.compile(rb"\d+ \d+\s*")  # of fastText and word2vec: number of words, width
HEAD_BYTES = 1 << 20
SHOWN = 60  # letters of a line in a message
WANTED = "Wanted lines of UTF-8 text, each a word and its numbers with single spaces between them"


class WordVectorError(Exception):
    """A word vector file is missing, or its vectors do not fit."""


def read_glove(path: Path, vocabulary: set[str], size: int) -> tuple[list[str], np.ndarray]:
    """Read the vectors of a vocabulary from a GloVe or fastText text file; the 5.6 GB file is never in memory.

    Of a word that the file holds twice, the first vector counts.

    Returns:
        The words of the vocabulary that the file knows, in the file's order, and their vectors (words, size) float32.

    Raises:
        WordVectorError: If the file is missing or no text file of this width, a vector of the vocabulary is narrower
            than ``size`` or holds anything but finite numbers, or the file knows no word.
    """
    refuse_other_files(path, size)
    wanted, vectors = {word.encode(): word for word in vocabulary}, {}
    with bar(f"read {path.name}", path.stat().st_size / 1e6, "MB") as shown:
        for number, line in _lines(path, shown):
            word, _, numbers = line.rstrip().partition(b" ")  # fastText ends its lines with a space
            width = numbers.count(b" ") + 1
            if not word.isascii():
                word = normal_form(word.decode("utf-8", "replace")).encode()
            # A wider line's word holds spaces (glove.840B: "at name@domain.com").
            if word not in wanted or width > size or wanted[word] in vectors:
                continue
            if width < size:
                raise WordVectorError(
                    f"{path}, line {number}: {word.decode()!r} has {width} numbers, word_vectors.size is {size}"
                )
            vectors[wanted[word]] = _finite(numbers, f"{path}, line {number}: the vector of {word.decode()!r}")
    if not vectors:
        raise WordVectorError(
            f"{path} has no vector of {size} numbers for any of the {len(vocabulary)} words of queries and labels. "
            f"Its first lines are {_first_lines(path)}"
        )
    logger.info("word vectors: %s knows %d of %d words", path.name, len(vectors), len(vocabulary))
    return list(vectors), np.stack(list(vectors.values()))


def refuse_other_files(path: Path, size: int) -> None:
    """Look at the head of a file, before gigabytes are read.

    Raises:
        WordVectorError: With what the file holds, if that is not text with vectors of ``size`` numbers.
    """
    if not path.is_file():
        raise WordVectorError(
            f"word_vectors.glove_file {path.absolute()} {'is no file' if path.exists() else 'does not exist'}. Put a "
            "GloVe text file there, or set it to null to train vectors on the training queries"
        )
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if (fault := _fault(head, size)) is not None:
        raise WordVectorError(f"word_vectors.glove_file {path} {fault}")


def _fault(head: bytes, size: int) -> str | None:
    """Say what is wrong with the first bytes of a file; ``None`` for text with vectors of ``size`` numbers."""
    for magic, kind in PACKED.items():
        if head.startswith(magic):
            return f"is {kind}, a packed file: unpack it, and name the text file"
    if head.startswith(WIDE_LETTERS):
        return f"is UTF-16 text. {WANTED}: iconv -f UTF-16 -t UTF-8"
    if b"\0" in head:
        return f"is binary, as word2vec's and fastText's .bin files are. {WANTED}: a .txt or .vec file"
    lines = head.removeprefix(BOM).splitlines()[: None if len(head) < HEAD_BYTES else -1]  # the last may be cut
    if not lines:
        return "is empty" if not head else f"has a first line of more than {HEAD_BYTES:,} bytes. {WANTED}"
    header = HEADER.fullmatch(lines[0])
    vectors = lines[1:] if header else lines
    if vectors and b"\t" in vectors[0]:
        return f"has tabs between its fields: {_shorten(vectors[0])}. {WANTED}: tr '\\t' ' '"
    widths = Counter(line.rstrip().count(b" ") for line in vectors)
    if not widths or size in widths:
        return None
    width = widths.most_common(1)[0][0]
    return (
        f"holds {width} numbers a word, word_vectors.size is {size}: {_shorten(lines[0])}. Set word_vectors.size to "
        f"the file's width. {WANTED}"
    )


def _lines(path: Path, shown: Bar) -> Iterator[tuple[int, bytes]]:
    """Yield each line and its number, from 1, without byte order mark and header."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            shown.advance(len(line) / 1e6)
            text = line.removeprefix(BOM) if number == 1 else line
            if number > 1 or not HEADER.fullmatch(text):
                yield number, text


def _finite(numbers: bytes, place: str) -> np.ndarray:
    """Read numbers between spaces as float32; ``place`` begins the message."""
    try:
        with np.errstate(over="ignore"):  # a number beyond float32 becomes inf, which is refused below
            vector = np.array(numbers.split(b" "), np.float32)
    except ValueError as error:
        raise WordVectorError(f"{place} cannot be read: {error}. Delete the line, or take a sound file") from error
    wrong = vector[~np.isfinite(vector)]
    if len(wrong):
        raise WordVectorError(f"{place} holds {wrong[0]}. Delete the line, or take a sound file")
    return vector


def _first_lines(path: Path) -> str:
    with path.open("rb") as file:
        return " and ".join(_shorten(line) for line in (file.readline(HEAD_BYTES), file.readline(HEAD_BYTES)) if line)


def _shorten(line: bytes) -> str:
    """Quote the beginning of a line."""
    text = line.decode(errors="backslashreplace").rstrip()
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
