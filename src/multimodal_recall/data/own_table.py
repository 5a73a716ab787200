"""The user's own parquet tables as ingest reads them: each row as the line that it would be in an official TSV.

The table of a split either has a row for each query and product with the arrays in it (``own_parquet.ParquetRows``), or
names query and product alone: then ``products.parquet`` beside it holds each product's arrays once.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from multimodal_recall.config.options import IngestOptions
from multimodal_recall.data.official_format import CutLine, FaultyLine, RawFileError, encode_row
from multimodal_recall.data.own_parquet import (
    NO_QUERY,
    PARQUET_COLUMNS,
    ROWS_PER_BATCH,
    open_parquet,
    read_batches,
    read_id,
    read_row,
)
from multimodal_recall.data.schemas import TABLES

PAIR_COLUMNS = ("query_id", "query", "product_id")
NAME_COLUMNS = ("title", "sku")
KEPT_BYTES = 1 << 10  # of a line that is too long
SHOWN_CHARACTERS = 200
NO_TEXT = re.compile(r"[\t\n]")


@dataclass(frozen=True)
class OwnTable:
    """A handle on a parquet table; ``lines`` reads it.

    Raises:
        RawFileError: Of its methods, if the file is no parquet table or a column is missing.
    """

    path: Path
    products: Self | None = None
    """The table that holds the products' arrays, where this one names products alone."""

    unit = 1, "rows"
    """Of ``size`` in the bar that shows progress, and its name."""

    def join(self, products: Self) -> Self:
        """Take the products' arrays from another table."""
        return replace(self, products=products)

    @cached_property
    def _file(self) -> pq.ParquetFile:
        return open_parquet(self.path)

    @property
    def size(self) -> int:
        """What ``lines`` cuts into ranges: the rows."""
        return self._file.metadata.num_rows

    @property
    def stored_bytes(self) -> int:
        """Bytes of all rows on disk, those of the products counted once."""
        return self.path.stat().st_size + (self.products.stored_bytes if self.products else 0)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self._file.schema_arrow.names

    def cut(self, count: int) -> str:
        """Describe a cut into ``count`` ranges, which tells tables of other ranges apart."""
        return f"{count} chunks of {self.path.name}, {self.size} rows"

    def byte(self, offset: int) -> None:
        """A row of a parquet table starts at no byte."""

    def shown(self, line: bytes) -> str:
        """Give a row as a person reads it, without its arrays."""
        if isinstance(line, FaultyLine):
            return line.decode("utf-8", "replace")
        fields = line.decode("utf-8", "replace").split("\t")
        return f"query_id {fields[-1]}, query {fields[-2]}, product_id {fields[0]}"[:SHOWN_CHARACTERS]

    def lines(
        self, number: int = 0, count: int = 1, longest: int = IngestOptions.max_line_bytes
    ) -> Iterator[tuple[int, bytes]]:
        """Read range ``number`` of ``count`` as lines of a TSV without line ends; ranges have equally many rows.

        Memory holds a batch of rows; where products have a table of their own, also those of the range.

        Yields:
            The row's number from 0, and the line; a ``CutLine`` for one of more than ``longest`` bytes, a
            ``FaultyLine`` for a row that no line can be written of.
        """
        self._check_columns()
        rows = _range(self.size, number, count)
        known = self.products.rows_of(self._product_ids(rows)) if self.products else None
        batches = self._batches(self._read_columns, rows)
        every = (cells for batch in batches for cells in batch.to_struct_array())
        yield from self._encode(enumerate(every, rows.start), known, longest)

    def draw_lines(
        self, wanted: int, random: np.random.Generator, longest: int = IngestOptions.max_line_bytes
    ) -> Iterator[tuple[int, bytes]]:
        """Draw different rows, or read all rows if there are no more than wanted; as ``lines`` does, in row order."""
        self._check_columns()
        rows = np.sort(random.choice(self.size, min(wanted, self.size), replace=False))
        cells = [cells for batch in self._take(self._read_columns, rows) for cells in batch.to_struct_array()]
        ids = _ids(pa.array([row["product_id"].as_py() for row in cells])).drop_null()
        known = self.products.rows_of(ids) if self.products else None
        yield from self._encode(zip(rows.tolist(), cells, strict=True), known, longest)

    @property
    def _columns(self) -> list[str]:
        """Names of the columns of a line."""
        return [name for name in PARQUET_COLUMNS if name in self.columns or self.products]

    @property
    def _read_columns(self) -> Sequence[str]:
        return PAIR_COLUMNS if self.products else self._columns

    def _encode(
        self,
        rows: Iterable[tuple[int, pa.StructScalar]],
        known: Mapping[int, pa.StructScalar] | None,
        longest: int,
    ) -> Iterator[tuple[int, bytes]]:
        """Write rows as lines; ``known`` holds the products' rows where they have a table of their own."""
        columns = self._columns
        for offset, cells in rows:
            try:
                line = encode_row(read_row(cells if known is None else _joined(cells, known), columns))
            except (ValueError, pa.ArrowException) as error:
                line = _faulty(cells, str(error))
            yield offset, line if len(line) < longest else CutLine(line[:KEPT_BYTES])

    def ids(self) -> np.ndarray:
        """Read the distinct products (n,) int64."""
        return self._product_ids(range(self.size)).to_numpy()

    def queries(self, longest: int = IngestOptions.max_line_bytes) -> Iterator[tuple[int, str | None]]:
        """Read 1, a row's size, and its query; ``None`` where ingest rejects the query."""
        for batch in self._batches(["query"], range(self.size)):
            for query in batch["query"].to_pylist():
                sound = isinstance(query, str) and query.strip() and not NO_TEXT.search(query)
                yield 1, query if sound and len(query) < longest else None

    def names(self, number: int, count: int) -> pa.Table | None:
        """Read the titles and SKUs of the products of a range; ``None`` without such a column.

        Returns:
            ``product_id``, ``title``, ``sku``, a distinct row each; both are null where the table has none.

        Raises:
            RawFileError: If a title or SKU is no text.
        """
        source, rows = self.products or self, _range(self.size, number, count)
        named = [name for name in NAME_COLUMNS if name in source.columns]
        if not named:
            return None
        ids = self._product_ids(rows) if self.products else None
        batches = source._batches(["product_id", *named], range(source.size) if self.products else rows)
        parts = [source._names_of_batch(batch, ids) for batch in batches]
        return pa.concat_tables([TABLES["names"].empty_table(), *parts]).group_by(TABLES["names"].names).aggregate([])

    def _names_of_batch(self, batch: pa.RecordBatch, ids: pa.Array | None) -> pa.Table:
        columns = {"product_id": _ids(batch["product_id"])}
        for name in NAME_COLUMNS:
            column = batch[name] if name in batch.schema.names else pa.nulls(len(batch), pa.string())
            if column.type not in (pa.string(), pa.large_string(), pa.null()):
                raise RawFileError(f"{self.path}: {name} is a {column.type}; wanted texts. Mend the table")
            columns[name] = column
        table = pa.table(columns).cast(TABLES["names"])
        kept = table["product_id"].is_valid() if ids is None else pc.is_in(table["product_id"], value_set=ids)
        return table.filter(kept)

    def rows_of(self, product_ids: pa.Array) -> dict[int, pa.StructScalar]:
        """Read the rows of some products, by id; no other rows are kept in memory.

        Raises:
            RawFileError: If a product has two rows.
        """
        columns, found = [name for name in PARQUET_COLUMNS if name not in NO_QUERY], dict[int, pa.StructScalar]()
        for batch in self._batches(columns, range(self.size)):
            ids = _ids(batch["product_id"])
            kept = batch.filter(pc.is_in(ids, value_set=product_ids))
            for number, cells in zip(_ids(kept["product_id"]).to_pylist(), kept.to_struct_array(), strict=True):
                if number in found:
                    raise RawFileError(f"{self.path} has two rows of product {number}. Keep one row of each product")
                found[number] = cells
        return found

    def _check_columns(self) -> None:
        wanted = PAIR_COLUMNS if self.products else PARQUET_COLUMNS
        missing = [name for name in wanted if name not in self.columns]
        if missing and (self.products or {*missing} != NO_QUERY.keys()):
            raise RawFileError(f"{self.path} has no column {missing}, only {self.columns}. Add them")
        if self.products:
            self.products._check_columns()

    def _product_ids(self, rows: range) -> pa.Array:
        ids = [_ids(batch["product_id"]) for batch in self._batches(["product_id"], rows)]
        return pc.unique(pa.chunked_array(ids, pa.int64())).drop_null()

    def _take(self, columns: Sequence[str], rows: np.ndarray) -> Iterator[pa.RecordBatch]:
        """Read single rows, in ascending order, from the row groups that hold them alone."""
        sizes = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        for group in np.unique(np.searchsorted(starts, rows, "right") - 1).tolist():
            place = starts[group]
            for batch in read_batches(self.path, self._file, ROWS_PER_BATCH, [*columns], [group]):
                yield batch.take(pa.array(rows[(rows >= place) & (rows < place + len(batch))] - place))
                place += len(batch)

    def _batches(self, columns: Sequence[str], rows: range) -> Iterator[pa.RecordBatch]:
        """Read the batches of some rows, from the row groups that hold them alone."""
        before = 0
        for group in range(self._file.num_row_groups):
            after = before + self._file.metadata.row_group(group).num_rows
            place = before
            before = after
            if after <= rows.start or place >= rows.stop:
                continue
            for batch in read_batches(self.path, self._file, ROWS_PER_BATCH, [*columns], [group]):
                first, last = max(rows.start - place, 0), min(rows.stop - place, len(batch))
                place += len(batch)
                if last > first:
                    yield batch.slice(first, last - first)


def _range(size: int, number: int, count: int) -> range:
    """Give the row numbers of range ``number`` of ``count``."""
    return range(number * size // count, (number + 1) * size // count)


def _ids(values: pa.Array) -> pa.Array:
    """Read ids (n,) as int64; null where a value is no whole number of 64 bits."""
    if pa.types.is_signed_integer(values.type):
        return values.cast(pa.int64())
    return pa.array([_id_or_none(value) for value in values], pa.int64())


def _id_or_none(value: pa.Scalar) -> int | None:
    try:
        return read_id("product_id", value)
    except ValueError:
        return None


def _joined(cells: Mapping[str, pa.Scalar], products: Mapping[int, pa.StructScalar]) -> dict[str, pa.Scalar]:
    """Put the arrays of a row's product beside the row's query."""
    number = read_id("product_id", cells["product_id"])
    if number not in products:
        raise ValueError(f"product {number} stands in no row of the table of products")
    return {**products[number], **cells}


def _faulty(cells: Mapping[str, pa.Scalar], reason: str) -> FaultyLine:
    """Note why a row cannot be written as a line, with what a person needs to find the row."""
    shown = ", ".join(f"{name} {cells[name]}" for name in PAIR_COLUMNS if name in cells)
    line = FaultyLine(shown[:SHOWN_CHARACTERS].encode())
    line.reason = reason
    return line
