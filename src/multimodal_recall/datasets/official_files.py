"""The official TSV as a dataset of the catalog."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from kedro.io import DatasetError

from multimodal_recall.data.official_format import TSV_COLUMNS, OfficialRow, RawFileError, encode_row
from multimodal_recall.data.official_tsv import READ_BYTES, OfficialTsv
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
