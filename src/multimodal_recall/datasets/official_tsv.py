"""The official TSV: where its lines start, and what a line holds.

Layout: ``product_id image_h image_w num_boxes boxes features class_labels query query_id``, tab-separated, no quoting.
``boxes``, ``features`` and ``class_labels`` are base64 of little-endian float32 (n, 4), float32 (n, F), int64 (n,).
A box is (top, left, bottom, right) in pixels. Read as (x, y, x, y), 49 % of the boxes on non-square images would
leave the image.
"""

import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pybase64
from kedro.io import DatasetError

from multimodal_recall.datasets.small_files import RAW_ADVICE
from multimodal_recall.datasets.whole import WholeDataset

COLUMNS = (
    "product_id",
    "image_h",
    "image_w",
    "num_boxes",
    "boxes",
    "features",
    "class_labels",
    "query",
    "query_id",
)
LARGEST_FLOAT16 = 65_504.0
LONGEST_NUMBER = 18  # digits that int64 holds for certain
LARGEST_SIDE = 1_000_000  # pixels
READ_BYTES = 1 << 20


class BadRow(ValueError):
    """A TSV line that is not a row; the message is the reason."""


@dataclass(frozen=True, slots=True)
class OfficialRow:
    """One (query, product) match."""

    product_id: int
    image_h: int
    image_w: int
    num_boxes: int
    """Boxes of the image in the file; the arrays below may hold fewer."""
    boxes: np.ndarray
    """(n, 4) float32: top, left, bottom, right in pixels."""
    features: np.ndarray
    """(n, F) float32 on the way to a file, float16 on the way from one; never negative."""
    labels: np.ndarray
    """(n,) int64."""
    query: str
    query_id: int


def encode_row(row: OfficialRow) -> bytes:
    """Write a row as a TSV line without its line end."""
    fields = [row.product_id, row.image_h, row.image_w, row.num_boxes]
    arrays = [(row.boxes, "<f4"), (row.features, "<f4"), (row.labels, "<i8")]
    parts = [str(field).encode() for field in fields]
    parts += [pybase64.b64encode(np.ascontiguousarray(array, dtype=kind)) for array, kind in arrays]
    return b"\t".join([*parts, row.query.encode(), str(row.query_id).encode()])


def decode_row(
    line: bytes, feature_size: int, label_count: int, max_boxes: int, largest_first: bool = False
) -> OfficialRow:
    """Read a TSV line and check it; of the features of boxes that are not kept, only the length.

    Args:
        line: The line without its line end.
        feature_size: F, numbers a box feature holds.
        label_count: Labels are 0 to ``label_count - 1``.
        max_boxes: Boxes to keep.
        largest_first: Keep the largest boxes, largest first, instead of the first of the file.

    Returns:
        The row with at most ``max_boxes`` boxes, its features as float16.

    Raises:
        BadRow: If any field is not what the layout says; the message says which and why.
    """
    fields = line.split(b"\t")
    if len(fields) != len(COLUMNS):
        raise BadRow(f"{len(fields)} fields, wanted {len(COLUMNS)}")
    product_id, image_h, image_w, num_boxes = (
        _whole_number(name, field) for name, field in zip(COLUMNS[:4], fields[:4], strict=True)
    )
    if num_boxes < 1 or not 1 <= min(image_h, image_w) <= max(image_h, image_w) <= LARGEST_SIDE:
        raise BadRow(f"num_boxes {num_boxes}, image_h {image_h}, image_w {image_w}: wanted 1 or more, sensible sides")
    boxes = _decode("boxes", fields[4], "<f4", num_boxes, 4)
    if not _inside(boxes, image_h, image_w):
        raise BadRow(f"a box leaves the image of {image_h} x {image_w} pixels (top, left, bottom, right)")
    labels = _decode("class_labels", fields[6], "<i8", num_boxes, 1)[:, 0]
    if labels.min() < 0 or labels.max() >= label_count:
        raise BadRow(f"unknown label, wanted 0 to {label_count - 1}, found {labels.min()} to {labels.max()}")
    kept = slice(0, max_boxes)
    if largest_first:
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        kept = np.argsort(-area, kind="stable")[:max_boxes]
    readable = num_boxes if largest_first else min(num_boxes, max_boxes)
    features = _decode("features", fields[5], "<f4", num_boxes, feature_size, readable)[kept]
    if not (features.min() >= 0 and features.max() <= LARGEST_FLOAT16):  # so written, NaN fails too
        raise BadRow(f"a feature is negative, NaN or beyond {LARGEST_FLOAT16:.0f}")
    return OfficialRow(
        product_id,
        image_h,
        image_w,
        num_boxes,
        boxes[kept],
        features.astype(np.float16),
        labels[kept],
        decode_query(fields[7]),
        _whole_number("query_id", fields[8]),
    )


def _whole_number(name: str, field: bytes) -> int:
    if not field.isdigit() or len(field) > LONGEST_NUMBER:
        raise BadRow(f"{name} is no whole number of at most {LONGEST_NUMBER} digits")
    return int(field)


def decode_query(field: bytes) -> str:
    """Read the query field.

    Raises:
        BadRow: If it is empty or not UTF-8.
    """
    try:
        query = field.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRow("query is not UTF-8") from None
    if not query.strip():
        raise BadRow("empty query")
    return query


def _inside(boxes: np.ndarray, image_h: int, image_w: int) -> bool:
    """Whether all boxes (n, 4) lie in the image, their sides in order; NaN does not."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return bool((low >= 0).all() and (low <= high).all() and (high <= (image_h, image_w)).all())


def _decode(name: str, field: bytes, kind: str, rows: int, columns: int, readable: int | None = None) -> np.ndarray:
    """Decode base64 into (readable, columns); only the needed prefix of the text is read.

    Raises:
        BadRow: If the text's length does not fit (rows, columns), or it is not base64.
    """
    row_bytes = np.dtype(kind).itemsize * columns
    if len(field) != _text_length(rows * row_bytes):
        raise BadRow(f"{name} has {len(field)} characters, num_boxes {rows} wants {_text_length(rows * row_bytes)}")
    wanted = (rows if readable is None else readable) * row_bytes
    try:
        # validate=True takes the SIMD path that refuses stray characters: 17-22 GB/s against 4-5.
        data = pybase64.b64decode(memoryview(field)[: _text_length(wanted)], validate=True)
    except binascii.Error as error:
        raise BadRow(f"{name} is not base64: {error}") from None
    if len(data) < wanted:
        raise BadRow(f"{name} holds {len(data)} bytes, num_boxes {rows} wants {wanted}")
    return np.frombuffer(data, kind, wanted // np.dtype(kind).itemsize).reshape(-1, columns)


def _text_length(data_bytes: int) -> int:
    """Length of the base64 text of so many bytes, padding included."""
    return -(-data_bytes // 3) * 4


@dataclass(frozen=True)
class OfficialTsv:
    """A handle on an official TSV; nothing is read before ``lines`` is walked."""

    path: Path

    def lines(self, number: int = 0, count: int = 1) -> Iterator[tuple[int, bytes]]:
        """Walk the lines of byte range ``number`` of ``count``, header left out, line ends stripped.

        A line belongs to the range its first byte lies in, so that the ranges share out all lines whatever their
        length. Memory is one line and a read buffer.

        Yields:
            The line's byte offset in the file, and the line.

        Raises:
            DatasetError: If the file is empty or its header is not the official one.
        """
        size = self.path.stat().st_size
        start, end = number * size // count, (number + 1) * size // count
        with self.path.open("rb", buffering=READ_BYTES) as file:
            header = file.readline()
            if tuple(header.decode("utf-8", "replace").rstrip("\r\n").split("\t")) != COLUMNS:
                raise DatasetError(
                    f"{self.path}: the first line is {header[:120]!r}. Wanted the header {'<TAB>'.join(COLUMNS)}"
                )
            if start > file.tell():
                file.seek(start - 1)
                file.readline()
            offset = file.tell()
            while offset < end and (line := file.readline()):
                yield offset, line.rstrip(b"\r\n")
                offset += len(line)


class OfficialTsvDataset(WholeDataset[Iterable[OfficialRow], OfficialTsv]):
    """An official TSV: ``save`` takes rows one by one, ``load`` gives a lazy handle."""

    def _write(self, path: Path, data: Iterable[OfficialRow]) -> None:
        with path.open("wb", buffering=READ_BYTES) as file:
            file.write("\t".join(COLUMNS).encode() + b"\n")
            for row in data:
                file.write(encode_row(row) + b"\n")

    def _read(self, path: Path) -> OfficialTsv:
        return OfficialTsv(path)

    def _advice(self) -> str:
        return RAW_ADVICE
