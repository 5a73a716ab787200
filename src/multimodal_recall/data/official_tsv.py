"""The official TSV as a file: where its lines start, and how one is written. What a line holds: ``official_rows``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kedro.io import DatasetError

from multimodal_recall.data.official_format import TSV_COLUMNS

READ_BYTES = 1 << 20
BASE64 = ("boxes", "features", "class_labels")


@dataclass(frozen=True)
class OfficialTsv:
    """A handle on an official TSV; nothing is read before ``lines`` is walked."""

    path: Path

    def lines(self, number: int = 0, count: int = 1) -> Iterator[tuple[int, bytes]]:
        """Walk the lines of byte range ``number`` of ``count``, header left out.

        A line belongs to the range its first byte lies in, so that the ranges share out all lines whatever their
        length. Memory is one line and a read buffer.

        Yields:
            The line's byte offset in the file, and the line with its end: stripping it would copy it.

        Raises:
            DatasetError: If the file is empty or its header is not the official one.
        """
        size = self.path.stat().st_size
        start, end = number * size // count, (number + 1) * size // count
        with self.path.open("rb", buffering=READ_BYTES) as file:
            header = file.readline()
            if tuple(header.decode("utf-8", "replace").rstrip("\r\n").split("\t")) != TSV_COLUMNS:
                raise DatasetError(
                    f"{self.path}: the first line is {header[:120]!r}. Wanted the header {'<TAB>'.join(TSV_COLUMNS)}"
                )
            if start > file.tell():
                file.seek(start - 1)
                file.readline()
            offset = file.tell()
            while offset < end and (line := file.readline()):
                yield offset, line
                offset += len(line)
