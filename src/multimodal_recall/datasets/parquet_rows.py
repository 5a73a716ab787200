"""Rows from a parquet table of one's own: what a detector left as arrays, to be written as an official TSV."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io import DatasetError

from multimodal_recall.datasets.official_rows import OfficialRow

ROWS_PER_BATCH = 256  # 25 MB of 12 boxes each, 2048 wide
NUMBERS = ("product_id", "image_h", "image_w", "query_id")
ARRAYS = {"boxes": pa.float32(), "features": pa.float32(), "class_labels": pa.int64()}
COLUMNS = (*NUMBERS, *ARRAYS, "query")


@dataclass(frozen=True)
class ParquetRows:
    """The rows of a table with the columns of the official TSV but ``num_boxes``, read while they are walked.

    ``boxes`` (n, 4), ``features`` (n, F) and ``class_labels`` (n) are lists, or lists of lists, of any number type.

    Raises:
        DatasetError: If the file is no parquet table, or a column is missing; of a row, if one is null, an id or size
            is no whole number, the arrays do not fit each other, or the query holds a tab or a line end.
    """

    path: Path

    def __iter__(self) -> Iterator[OfficialRow]:
        try:
            file = pq.ParquetFile(self.path)
        except pa.ArrowInvalid as error:
            raise DatasetError(f"{self.path} is no parquet file: {error}") from error
        if missing := [name for name in COLUMNS if name not in file.schema_arrow.names]:
            raise DatasetError(f"{self.path} has no column {missing}, only {file.schema_arrow.names}. Add them")
        place = 0
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=list(COLUMNS)):
            for row in batch.to_struct_array():
                place += 1
                try:
                    yield _row_of(row)
                except (ValueError, pa.ArrowInvalid) as error:
                    raise DatasetError(f"{self.path}: row {place}: {error}. Mend the table") from error


def _row_of(row: pa.StructScalar) -> OfficialRow:
    if null := [name for name in COLUMNS if not row[name].is_valid]:
        raise ValueError(f"{null} is null")
    numbers = {name: row[name].cast(pa.int64()).as_py() for name in NUMBERS}
    boxes, features, labels = (_flat(row[name], kind) for name, kind in ARRAYS.items())
    count = len(labels)
    if not count or len(boxes) != 4 * count or not len(features) or len(features) % count:
        raise ValueError(
            f"class_labels holds {count} numbers, boxes {len(boxes)}, features {len(features)}; wanted one, four, and "
            "as many as the feature is wide, of each box"
        )
    query = str(row["query"])
    if "\t" in query or "\n" in query:
        raise ValueError(f"the query {query!r} holds a tab or a line end; wanted spaces")
    return OfficialRow(
        **numbers,
        num_boxes=count,
        boxes=boxes.reshape(count, 4),
        features=features.reshape(count, -1),
        labels=labels,
        query=query,
    )


def _flat(value: pa.Scalar, kind: pa.DataType) -> np.ndarray:
    """All numbers of a list, or of a list of lists, one after the other."""
    if not pa.types.is_nested(value.type):
        raise ValueError(f"an array is a {value.type}; wanted a list of numbers, or a list of such lists")
    numbers = value.values
    while pa.types.is_nested(numbers.type):
        numbers = numbers.flatten()
    if numbers.null_count:
        raise ValueError("an array holds a null")
    return numbers.cast(kind).to_numpy()
