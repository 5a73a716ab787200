"""Parquet tables, saved atomically and loaded as lazy pyarrow datasets."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from kedro.io import DatasetError

from multimodal_recall.data.schemas import TABLES
from multimodal_recall.datasets.atomic import AtomicDataset, DamagedError, read_record, remake
from multimodal_recall.runtime.kedro_private import TablePreview

# Row groups are small, so that `head` and a filter on `epoch` read little.
ROWS_PER_GROUP = 16_384
# pyarrow holds a row group twice before it writes: at 16,384 products that took 0.2 GB more and half as long again.
BYTES_PER_GROUP = 1 << 24
MAGIC = b"PAR1"
TAIL_BYTES = 4 + len(MAGIC)  # the length of the footer, and the magic number
LONGEST_CELL = 16  # numbers of a list that a preview shows whole


class ChunkParquet(AtomicDataset[pa.Table, ds.Dataset]):
    """One parquet file: ``save`` takes a table, ``load`` gives a lazy ``pyarrow.dataset.Dataset``.

    ``to_table()``, ``head()`` and ``to_batches()`` read the file, so that a node can take the handles of thirty chunks
    and hold a single chunk in memory.
    """

    def _write(self, path: Path, data: pa.Table) -> None:
        codecs = dict(_codec(field) for field in data.schema)
        rows = min(ROWS_PER_GROUP, max(1, BYTES_PER_GROUP * data.num_rows // max(1, data.nbytes)))
        pq.write_table(
            data, path, compression=codecs, row_group_size=rows, use_dictionary=False, write_page_checksum=True
        )

    def _read(self, path: Path) -> ds.Dataset:
        return open_table(path)

    def _digest(self, path: Path) -> dict[str, Any]:
        return {**super()._digest(path), "footer": digest_footer(path)}

    def _verify(self, path: Path) -> None:
        verify_footer(path)

    def preview(self, rows: int = 5) -> TablePreview:
        """Show the first rows in kedro-viz, binary values as their length in bytes, long vectors by their ends."""
        head = self.load().head(rows)
        for position, field in enumerate(head.schema):
            if pa.types.is_large_binary(field.type):
                sizes = [f"{len(value.as_py())} bytes" for value in head.column(position)]
                head = head.set_column(position, field.name, pa.array(sizes))
        with np.printoptions(threshold=LONGEST_CELL):
            return TablePreview(head.to_pandas().map(str).to_dict(orient="split"))


class TitlesParquet(ChunkParquet):
    """``titles.parquet``, which a user may bring; loads as ``TABLES["titles"]``, ids and texts of any width.

    Raises:
        DatasetError: If the file is no parquet table, or a column is missing or of another kind.
    """

    def _read(self, path: Path) -> ds.Dataset:
        try:
            found = {field.name: field.type for field in open_table(path).schema}
        except pa.ArrowInvalid as error:
            raise DatasetError(f"{path} is no parquet file: {error}") from error
        sound = pa.types.is_signed_integer(found.get("product_id", pa.null()))
        if not sound or found.get("title") not in (pa.string(), pa.large_string()):
            columns = ", ".join(f"{name} ({kind})" for name, kind in found.items())
            raise DatasetError(f"{path} has the columns {columns}. Wanted product_id (int64) and title (string)")
        return open_table(path, TABLES["titles"])


def open_table(path: Path, schema: pa.Schema | None = None) -> ds.Dataset:
    """Open a parquet file as a lazy dataset; its pages are compared with their checksums when they are read.

    ``schema``: columns and types to read the file as, if others than its own.
    """
    # pyarrow would read a whole file before it gives the first batch: 0.5 GB in place of 0.07 for 0.47 GB of features.
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=False)
    return ds.dataset(path, schema, format=ds.ParquetFileFormat(default_fragment_scan_options=options))


def verify_footer(path: Path) -> None:
    """Compare the footer of a parquet file, which has no checksum, with the record.

    Raises:
        DamagedError: If the footer is not what was saved.
    """
    record = read_record(path)
    if record is not None and digest_footer(path) != record["digests"]["footer"]:
        raise DamagedError(f"{path} is damaged: its footer is not what was saved. Make it anew with: {remake(record)}")


def digest_footer(path: Path) -> str:
    """Hash the metadata at the end of a parquet file, with their length, and the magic number at both ends."""
    with path.open("rb") as file:
        start = file.read(len(MAGIC))
        length = file.seek(-TAIL_BYTES, os.SEEK_END)
        size = int.from_bytes(file.read(4), "little")
        file.seek(max(0, length - size))
        return hashlib.sha256(start + file.read()).hexdigest()


def _codec(field: pa.Field) -> tuple[str, str]:
    """Give a column's name in parquet and its compression: zstd, but none for features.

    Features are nearly all of a chunk: zstd makes them 2.7 times smaller, writing 7 and reading 6 times slower.
    """
    path = f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
    return path, "none" if pa.types.is_large_binary(field.type) else "zstd"
