"""The official TSV, and own parquet tables in its place, as datasets of the catalog."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from kedro.io import DatasetError

from multimodal_recall.data.official_format import TSV_COLUMNS, OfficialRow, RawFileError, encode_row
from multimodal_recall.data.official_tsv import READ_BYTES, OfficialTsv
from multimodal_recall.data.own_table import OwnTable
from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.datasets.small_files import RAW_ADVICE
from multimodal_recall.runtime.kedro_private import TablePreview

BASE64 = ("boxes", "features", "class_labels")


class OfficialTsvDataset(AtomicDataset[Iterable[OfficialRow], OfficialTsv]):
    """An official TSV: ``save`` takes rows and writes them one at a time, ``load`` gives a lazy handle."""

    advice = RAW_ADVICE

    def _write(self, path: Path, data: Iterable[OfficialRow]) -> None:
        try:
            with path.open("wb", buffering=READ_BYTES) as file:
                file.write("\t".join(TSV_COLUMNS).encode() + b"\n")
                for row in data:
                    file.write(encode_row(row) + b"\n")
        except RawFileError as error:  # of the file that the rows are read from
            raise DatasetError(str(error)) from error

    def _read(self, path: Path) -> OfficialTsv:
        return OfficialTsv(path)

    def preview(self, rows: int = 5) -> TablePreview:
        """Show the first rows in kedro-viz, base64 as its length."""
        head = [line.decode("utf-8", "replace").rstrip("\r\n") for _, line in islice(self.load().lines(), rows)]
        fields = [zip(TSV_COLUMNS, line.split("\t"), strict=False) for line in head]  # a bad row may have fewer
        data = [[f"{len(text):,} bytes" if name in BASE64 else text for name, text in row] for row in fields]
        return TablePreview({"index": list(range(len(data))), "columns": list(TSV_COLUMNS), "data": data})


class OwnTableFile(AtomicDataset[pa.RecordBatchReader | pa.Table, OwnTable]):
    """A parquet table of one's own: ``save`` takes a table or streams batches, ``load`` gives a lazy handle."""

    advice = RAW_ADVICE

    def _write(self, path: Path, data: pa.RecordBatchReader | pa.Table) -> None:
        batches = data.to_batches() if isinstance(data, pa.Table) else data
        with pq.ParquetWriter(path, data.schema, compression="zstd", write_page_checksum=True) as writer:
            for batch in batches:
                writer.write_batch(batch)

    def _read(self, path: Path) -> OwnTable:
        return OwnTable(path)

    def preview(self, rows: int = 5) -> TablePreview:
        """Show the first rows in kedro-viz, arrays as their length."""
        head = ds.dataset(self.load().path).head(rows).to_pandas()
        shown = head.map(lambda cell: f"{len(cell)} values" if isinstance(cell, np.ndarray) else str(cell))
        return TablePreview(shown.to_dict(orient="split"))
