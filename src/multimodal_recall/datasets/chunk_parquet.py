"""Parquet tables: saved whole, loaded as lazy pyarrow datasets."""

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from kedro_datasets._typing import TablePreview

from multimodal_recall.datasets.whole import WholeDataset

# Small enough that `head` and a filter on `epoch` read little; large enough that 12 MB of features compress well.
ROWS_PER_GROUP = 16_384


class ChunkParquet(WholeDataset[pa.Table, ds.Dataset]):
    """One parquet file: ``save`` takes a table, ``load`` gives a lazy ``pyarrow.dataset.Dataset``.

    Nothing is read before ``to_table()``, ``head()`` or ``to_batches()`` asks, so a node can take the handles of
    thirty chunks and hold one in memory.
    """

    def _write(self, path: Path, data: pa.Table) -> None:
        # zstd-1 stores float16 features at 0.56 of their size (shared performance notes), dictionaries gain nothing.
        pq.write_table(
            data, path, compression="zstd", compression_level=1, row_group_size=ROWS_PER_GROUP, use_dictionary=False
        )

    def _read(self, path: Path) -> ds.Dataset:
        return ds.dataset(path, format="parquet")

    def preview(self, rows: int = 5) -> TablePreview:
        """The first rows for kedro-viz, binary columns as their length in bytes."""
        head = self.load().head(rows)
        for position, field in enumerate(head.schema):
            if pa.types.is_large_binary(field.type):
                sizes = [f"{len(value.as_py())} bytes" for value in head.column(position)]
                head = head.set_column(position, field.name, pa.array(sizes))
        return TablePreview(head.to_pandas().map(str).to_dict(orient="split"))
