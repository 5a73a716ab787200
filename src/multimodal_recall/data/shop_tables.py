"""A shop's own tables as they come: CSV, TSV or parquet, in any common encoding, read by block with line numbers."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from more_itertools import chunked

from multimodal_recall.data.official_format import RawFileError
from multimodal_recall.data.own_parquet import open_parquet, read_batches

ROWS_PER_BLOCK = 1 << 15
LONGEST_FIELD = 1 << 24  # characters; Python's own limit is 131,072
MOST_LINES = 100
"""Lines of one row at most: beyond, a quote was opened and never closed."""
UNCLOSED = "a quote opens here and does not close"
NO_UTF8 = re.compile("[\udc80-\udcff]")
"""What Python reads a byte as that is no UTF-8."""
SHOWN_CHARACTERS = 200
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}

NO_WORD = re.compile(r"\W+")
KNOWN_HEADERS: Mapping[str, str] = {
    "sku": "sku product_id product item_id item article_number article artikelnummer artikelnr artikel_nr art_nr asin "
    "ean gtin id",
    "photo": "photo photos image images picture image_file image_name filename file img foto bild bilddatei",
    "title": "title name product_name product_title titel bezeichnung artikelbezeichnung produktname",
    "category": "category product_type department type kategorie warengruppe",
    "query": "query search_term search_query search term keyword q suchbegriff suchanfrage",
    "count": "count clicks click_count anzahl klicks",
    "date": "date day timestamp time datum",
    "relevance": "relevance rel grade judgement judgment rating",
}
"""Headers by which a column is guessed, the plainest first."""


@dataclass
class Block:
    """Some rows of a table."""

    lines: list[int] = field(default_factory=list)
    """Number of each row's first line in its file, the header's being 1; of a parquet table the row's, from 1."""
    rows: list[list[str]] = field(default_factory=list)
    """The asked for columns of each row; an absent value is empty."""
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    """Line, reason and start of each row that cannot be read."""


@dataclass(frozen=True)
class ShopTable:
    """A handle on a table of a shop; ``blocks`` reads it.

    Raises:
        RawFileError: Of its methods, if the file is no table.
    """

    path: Path

    @cached_property
    def is_parquet(self) -> bool:
        """Whether the file is parquet, whatever it is called."""
        with self.path.open("rb") as file:
            return file.read(4) == b"PAR1"

    @cached_property
    def encoding(self) -> str:
        """What the byte order mark says; else UTF-8, or Windows' Latin-1 if most lines beyond ASCII are no UTF-8."""
        with self.path.open("rb") as file:
            start = file.read(3)
            marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
            if marked:
                return marked
            file.seek(0)
            sound = broken = 0
            while block := file.read(1 << 20):
                block += file.readline(LONGEST_FIELD)
                lines = [] if block.isascii() else [line for line in block.splitlines() if not line.isascii()]
                sound += (utf8 := sum(map(_is_utf8, lines)))
                broken += len(lines) - utf8
        return "utf-8" if sound >= broken else "cp1252"

    @cached_property
    def delimiter(self) -> str:
        """The sign that stands most often in the header."""
        with self._open() as file:
            header = file.readline(LONGEST_FIELD)
        counts = {sign: len(next(csv.reader([header], delimiter=sign), [])) for sign in DELIMITERS}
        return max(counts, key=counts.__getitem__)

    @cached_property
    def columns(self) -> list[str]:
        """Names of the columns."""
        if self.is_parquet:
            return self._parquet.schema_arrow.names
        with self._open() as file:
            names = next(csv.reader([file.readline(LONGEST_FIELD)], delimiter=self.delimiter), [])
        if not any(map(str.strip, names)):
            raise RawFileError(f"{self.path} has no header. Write the names of the columns into its first line")
        return [NO_UTF8.sub("\ufffd", name).strip() for name in names]

    @property
    def form(self) -> str:
        """Describe the file in words."""
        if self.is_parquet:
            return "parquet"
        coded = {"cp1252": "Latin-1 (Windows-1252), as it is no UTF-8", "utf-8-sig": "UTF-8 with a byte order mark"}
        return f"{DELIMITERS[self.delimiter]} between columns, {coded.get(self.encoding, self.encoding.upper())}"

    def find(self, wanted: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
        """Give the header of each of the wanted columns: the chosen one, else a known one; a column may be missing.

        Raises:
            RawFileError: If a chosen header does not exist, or a header that is used stands twice.
        """
        by_name = {NO_WORD.sub("_", name.casefold()).strip("_"): name for name in reversed(self.columns)}
        found = {}
        for kind in wanted:
            known = (by_name[name] for name in KNOWN_HEADERS[kind].split() if name in by_name)
            if header := chosen.get(kind) or next(known, None):
                if (count := self.columns.count(header)) != 1:
                    what = "no column" if not count else f"{count} columns"
                    raise RawFileError(f"{self.path} has {what} {header!r}. Its columns are {self.columns}")
                found[kind] = header
        return found

    def blocks(self, headers: Sequence[str]) -> Iterator[Block]:
        """Read the named columns, ``ROWS_PER_BLOCK`` rows at a time."""
        yield from self._parquet_blocks(headers) if self.is_parquet else self._text_blocks(headers)

    @cached_property
    def _parquet(self) -> pq.ParquetFile:
        return open_parquet(self.path)

    def _parquet_blocks(self, headers: Sequence[str]) -> Iterator[Block]:
        row = 1
        for batch in read_batches(self.path, self._parquet, ROWS_PER_BLOCK, [*headers]):
            columns = [_texts(self.path, name, batch[name]) for name in headers]
            yield Block([*range(row, row + len(batch))], [list(cells) for cells in zip(*columns, strict=True)])
            row += len(batch)

    def _text_blocks(self, headers: Sequence[str]) -> Iterator[Block]:
        places, rows = [self.columns.index(name) for name in headers], self._rows()
        for some in chunked(rows, ROWS_PER_BLOCK):
            block = Block()
            for line, fields, text in some:
                row = fields if isinstance(fields, str) else _unless_broken([fields[place] for place in places])
                if isinstance(row, str):
                    block.faults.append((line, row, NO_UTF8.sub("\ufffd", text[:SHOWN_CHARACTERS])))
                else:
                    block.lines.append(line)
                    block.rows.append(row)
            yield block

    def _open(self) -> io.TextIOWrapper:
        errors = "surrogateescape" if self.encoding.startswith("utf-8") else "replace"
        return self.path.open(encoding=self.encoding, errors=errors)

    def _rows(self) -> Iterator[tuple[int, list[str] | str, str]]:
        """Read the rows after the header: line, fields or a fault's reason, text."""
        csv.field_size_limit(LONGEST_FIELD)
        with self._open() as file:
            file.readline(LONGEST_FIELD)
            waiting, number = list[str](), 2
            while text := waiting.pop(0) if waiting else file.readline(LONGEST_FIELD):
                fields, used = self._fields(text, waiting, file)
                if used or text.strip():
                    yield number, fields, text
                del waiting[:used]
                number += 1 + used

    def _fields(self, text: str, waiting: list[str], file: io.TextIOWrapper) -> tuple[list[str] | str, int]:
        """Split a row that begins with ``text``, and count the further lines that it takes from ``waiting``.

        A quote inside a field without quotes is a sign like others, as in ``12" pizza``.
        """
        if '"' not in text:
            return self._counted(text.rstrip("\n").split(self.delimiter)), 0
        lines = [text]
        while True:
            try:
                fields = self._counted(next(csv.reader(lines, delimiter=self.delimiter, strict=True)))
                return (UNCLOSED, 0) if isinstance(fields, str) and len(lines) > 1 else (fields, len(lines) - 1)
            except csv.Error as error:
                if "unexpected end" not in str(error):
                    return self._counted(text.rstrip("\n").split(self.delimiter)), 0
            if len(lines) > len(waiting):
                waiting += filter(None, [file.readline(LONGEST_FIELD)])
            if len(lines) > min(len(waiting), MOST_LINES):
                return UNCLOSED, 0
            lines.append(waiting[len(lines) - 1])

    def _counted(self, fields: list[str]) -> list[str] | str:
        """Give the fields, those of the header alone; a last empty field may be missing."""
        wanted, found = len(self.columns), len(fields)
        if found > wanted and any(map(str.strip, fields[wanted:])):
            return f"{found} fields, the header has {wanted}: put a field that holds the separator into quotes"
        if found < wanted - 1:
            return f"{found} fields, the header has {wanted}"
        return [*fields, ""][:wanted]


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unless_broken(row: list[str]) -> list[str] | str:
    """Give the row, or the reason why it is rejected."""
    text = "".join(row)
    return "it has a byte that is no UTF-8, unlike most of the file" if NO_UTF8.search(text) else row


def _texts(path: Path, name: str, column: pa.Array) -> list[str]:
    """Read a column of a parquet table as texts."""
    try:
        return [text or "" for text in _whole(column).cast(pa.string()).to_pylist()]
    except pa.ArrowException as error:
        raise RawFileError(f"{path}: the column {name!r} is a {column.type}; wanted texts or numbers") from error


def _whole(column: pa.Array) -> pa.Array:
    """Read floats that are all whole as whole numbers: pandas writes numbers with a gap so, and 4e12 is no SKU."""
    try:
        return column.cast(pa.int64()) if pa.types.is_floating(column.type) else column
    except pa.ArrowInvalid:
        return column
