"""Read the user's own parquet table, which holds a detector's arrays, to be written as an official TSV.

A table without queries is a catalogue: each of its rows gets an empty query of id 0.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from multimodal_recall.data.official_format import LARGEST_ID, OfficialRow, RawFileError, is_id, whole_number
from multimodal_recall.data.schemas import TABLES
from multimodal_recall.runtime.progress import bar

ROWS_PER_BATCH = 256  # 25 MB of 12 boxes each, 2048 wide
NUMBERS, TEXTS = ([field.name for field in fields(OfficialRow) if field.type is kind] for kind in (int, str))
ARRAYS = {"boxes": pa.float32(), "features": pa.float32(), "class_labels": pa.int64()}
LARGEST_EXACT = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
"""Below it, a float holds each whole number as it is."""
PARQUET_COLUMNS = (*NUMBERS, *ARRAYS, *TEXTS)
NO_QUERY = {"query": "", "query_id": 0}


@dataclass(frozen=True)
class ParquetRows:
    """The rows of a table with the columns of the official TSV but ``num_boxes``; iteration reads the file.

    ``boxes`` (n, 4), ``features`` (n, F) and ``class_labels`` (n) are lists, or lists of lists, of any number type.
    ``query`` and ``query_id`` may both be missing.

    Raises:
        RawFileError: If the file is no parquet table, or a column is missing; for a row, if a value is null, an id or
            size is neither a whole number of 64 bits nor the text of its digits, the arrays do not fit each other, the
            features have another width than in the first row, or the query is no text or holds a tab or a line end.
    """

    path: Path

    def __iter__(self) -> Iterator[OfficialRow]:
        file = open_parquet(self.path)
        missing = [name for name in PARQUET_COLUMNS if name not in file.schema_arrow.names]
        if missing and {*missing} != NO_QUERY.keys():
            raise RawFileError(f"{self.path} has no column {missing}, only {file.schema_arrow.names}. Add them")
        columns = [name for name in PARQUET_COLUMNS if name not in missing]
        batches, first_width = read_batches(self.path, file, ROWS_PER_BATCH, columns=columns), None
        rows = (values for batch in batches for values in batch.to_struct_array())
        with bar(f"read {self.path.name}", file.metadata.num_rows, "rows") as shown:
            for place, values in enumerate(rows, start=1):
                try:
                    row = read_row(values, columns)
                    width = row.features.shape[1]
                    first_width = first_width or width
                    if width != first_width:
                        raise ValueError(f"features are {width} wide, those of row 1 {first_width}")
                except (ValueError, pa.ArrowException) as error:
                    raise RawFileError(f"{self.path}: row {place}: {error}. Mend the table") from error
                yield row
                shown.advance()


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file.

    Raises:
        RawFileError: If it is none, or a part that says what the file holds is damaged.
    """
    if not path.is_file():  # a pipe would be waited for without end
        raise RawFileError(f"{path} is no file. Name a parquet file")
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        _ = file.schema_arrow.names  # are decoded here
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise RawFileError(f"{path} is no sound parquet file: {error}") from error
    return file


def read_batches(
    path: Path, file: pq.ParquetFile, rows: int, columns: list[str], groups: list[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read batches of at most ``rows`` rows of some row groups, or of all.

    Raises:
        RawFileError: If the file is damaged, or a text is no UTF-8.
    """
    try:
        for batch in file.iter_batches(rows, groups, columns):
            batch.validate(full=True)
            yield batch
    except (OSError, pa.ArrowException) as error:
        raise RawFileError(f"{path} is damaged: {error}. Copy or write it again") from error


def read_own_titles(path: Path) -> pa.Table | None:
    """Read the titles of the products of a table for ``ParquetRows``, whose rows are sound; ``None`` without a column.

    Returns:
        ``titles``: a row for each product, null where it has no title in any row.

    Raises:
        RawFileError: If a title is no text, or a product has two different titles.
    """
    file, titles = open_parquet(path), dict[int, str | None]()
    if "title" not in file.schema_arrow.names:
        return None
    batches = read_batches(path, file, ROWS_PER_BATCH, ["product_id", "title"])
    rows = (values for batch in batches for values in batch.to_struct_array())
    for place, values in enumerate(rows, start=1):
        product, title = read_id("product_id", values["product_id"]), values["title"].as_py()
        if title is not None and not isinstance(title, str):
            raise RawFileError(f"{path}: row {place}: the title is {title!r}; wanted a text. Mend the table")
        known = titles.get(product)
        titles[product] = known if title is None else title
        if None not in (known, title) and known != title:
            raise RawFileError(
                f"{path}: row {place}: product {product} has the title {title!r}, and {known!r} in an "
                "earlier row. Give it one title in all its rows"
            )
    return pa.table({"product_id": list(titles), "title": list(titles.values())}, TABLES["titles"])


def read_row(row: Mapping[str, pa.Scalar], columns: Collection[str]) -> OfficialRow:
    """Read the columns of a row.

    Raises:
        ValueError: If a value is null, no number of 64 bits or no text, or if the arrays do not fit each other.
    """
    if null := [name for name in columns if not row[name].is_valid]:
        raise ValueError(f"{null} is null")
    numbers = {name: read_id(name, row[name]) for name in NUMBERS if name in columns}
    labels = _numbers(row["class_labels"], "class_labels")
    if not len(labels):
        raise ValueError("class_labels holds no number; wanted a number for each box")
    texts = {name: row[name].as_py() for name in TEXTS if name in columns}
    for name, text in texts.items():
        if not isinstance(text, str) or "\t" in text or "\n" in text:
            raise ValueError(f"the {name} is {text!r}; wanted a text without tabs and line ends")
    return OfficialRow(
        **(NO_QUERY | numbers | texts),
        boxes=_numbers(row["boxes"], "boxes", len(labels), 4),
        features=_numbers(row["features"], "features", len(labels)),
        labels=labels,
    )


def read_id(name: str, value: pa.Scalar) -> int:
    """Read a whole number, which may be held as text or as a float that is exact.

    Raises:
        ValueError: If it is no whole number of 64 bits.
    """
    number = value.as_py()
    if isinstance(number, str):
        return whole_number(name, number.encode())
    if isinstance(number, float | Decimal) and number % 1 == 0:
        exact = abs(number) <= LARGEST_EXACT.get(value.type, LARGEST_ID)
        number = int(number) if exact else number
    if not is_id(number):
        raise ValueError(f"{name} is {number!r} ({value.type}); wanted a whole number of 64 bits that is held exactly")
    return number


def _numbers(value: pa.Scalar, name: str, boxes: int | None = None, width: int | None = None) -> np.ndarray:
    """Read the numbers of a list (n,); for ``boxes`` (boxes, width), from a list a box or from a single flat list."""
    if not _is_list(value.type):
        raise ValueError(f"{name} is a {value.type}; wanted a list of numbers, or a list of such lists")
    items = numbers = value.values
    lengths = []
    if _is_list(items.type):
        lengths, numbers = pc.list_value_length(items).to_pylist(), items.flatten()
    if items.null_count or numbers.null_count:
        raise ValueError(f"{name} holds a null")
    array = numbers.cast(ARRAYS[name]).to_numpy()
    if boxes is None:
        return array
    each = width or len(array) // boxes
    if not each or len(array) != boxes * each or (lengths and lengths != [each] * boxes):
        held = f"{len(lengths)} lists of {sorted(set(lengths))} numbers" if lengths else f"{len(array)} numbers"
        raise ValueError(f"class_labels holds {boxes} numbers, {name} {held}; wanted {width or 'as many'} of each box")
    return array.reshape(boxes, each)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
