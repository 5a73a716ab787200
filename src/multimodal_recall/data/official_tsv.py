"""The official TSV as a file: where its lines start. The layout of a line stands in ``official_format``."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from multimodal_recall.config.options import IngestOptions
from multimodal_recall.data.official_format import TSV_COLUMNS, BadRow, CutLine, RawFileError, decode_query

READ_BYTES = 1 << 20
KEPT_BYTES = 1 << 10  # of a line that is too long
SHOWN_BYTES = 800


@dataclass(frozen=True)
class OfficialTsv:
    """A handle on an official TSV; ``lines`` reads the file."""

    path: Path

    unit = 1e6, "MB"
    """Of ``size`` in the bar that shows progress, and its name."""

    @property
    def size(self) -> int:
        """What ``lines`` cuts into ranges: the file's bytes."""
        return self.path.stat().st_size

    @property
    def stored_bytes(self) -> int:
        """Bytes of all rows on disk."""
        return self.size

    def cut(self, count: int) -> str:
        """Describe a cut into ``count`` ranges, which tells tables of other ranges apart."""
        return f"{count} chunks of {self.path.name}, {self.size} bytes"

    def byte(self, offset: int) -> int:
        """Give the byte at which a row of ``lines`` starts."""
        return offset

    def shown(self, line: bytes) -> str:
        """Give the start of a line as a person reads it."""
        return line[:SHOWN_BYTES].decode("utf-8", "replace").rstrip("\r\n")

    def queries(self, longest: int = IngestOptions.max_line_bytes) -> Iterator[tuple[int, str | None]]:
        """Read each line's bytes, and its query; ``None`` for a line that ingest rejects for its layout or query."""
        for _, line in self.lines(longest=longest):
            yield len(line), _query_of(line)

    def names(self, number: int, count: int) -> None:
        """A TSV has neither titles nor SKUs."""

    def lines(
        self, number: int = 0, count: int = 1, longest: int = IngestOptions.max_line_bytes
    ) -> Iterator[tuple[int, bytes]]:
        """Read the lines of byte range ``number`` of ``count``, without the header.

        A line belongs to the range of its first byte: the ranges share out all lines, whatever their length. Memory
        holds one line and a read buffer.

        Yields:
            The line's byte offset in the file, and the line with its line end, which is cheaper than a copy without;
            of a line of more than ``longest`` bytes, a ``CutLine``.

        Raises:
            RawFileError: If the file is empty or its header is not the official header.
        """
        size = self.path.stat().st_size
        yield from self._between(number * size // count, (number + 1) * size // count, longest)

    def draw_lines(
        self, wanted: int, random: np.random.Generator, longest: int = IngestOptions.max_line_bytes
    ) -> Iterator[tuple[int, bytes]]:
        """Draw different lines at random places of the file, or read all its lines if there are no more than wanted.

        A line is drawn the more often the longer the line before it; no other line is read.

        Yields:
            Byte offset and line, as ``lines`` does, in the order of the file.

        Raises:
            RawFileError: As ``lines`` does.
        """
        if sum(1 for _ in islice(self.lines(longest=longest), wanted + 1)) <= wanted:
            yield from self.lines(longest=longest)
            return
        size, drawn = self.path.stat().st_size, {}
        while len(drawn) < wanted:
            start = int(random.integers(size))
            found = next(self._between(start, size, longest), None) or next(self.lines(longest=longest))
            drawn[found[0]] = found
        yield from (drawn[offset] for offset in sorted(drawn))

    def _between(self, start: int, end: int, longest: int) -> Iterator[tuple[int, bytes]]:
        """Read the lines whose first byte lies in a byte range, as ``lines`` does."""
        with self.path.open("rb", buffering=READ_BYTES) as file:
            header = file.readline(READ_BYTES)
            if tuple(header.decode("utf-8", "replace").rstrip("\r\n").split("\t")) != TSV_COLUMNS:
                raise RawFileError(
                    f"{self.path}: the first line is {header[:120]!r}. Wanted the header {'<TAB>'.join(TSV_COLUMNS)}"
                )
            if start > file.tell():
                file.seek(start - 1)
                _skip_line(file)
            offset = file.tell()
            while offset < end and (line := file.readline(longest)):
                length = len(line)
                if length == longest and line[-1:] != b"\n":
                    length += _skip_line(file)
                    line = CutLine(line[:KEPT_BYTES])
                yield offset, line
                offset += length


def _query_of(line: bytes) -> str | None:
    """Decode the query of a TSV line; ``None`` for a line that ingest rejects."""
    if isinstance(line, CutLine) or line.count(b"\t") != len(TSV_COLUMNS) - 1:
        return None
    try:
        return decode_query(line.split(b"\t")[TSV_COLUMNS.index("query")])
    except BadRow:
        return None


def _skip_line(file: BinaryIO) -> int:
    """Read on to the end of a line without keeping it, and count its bytes."""
    skipped = 0
    while part := file.readline(READ_BYTES):
        skipped += len(part)
        if part[-1:] == b"\n":
            break
    return skipped
