"""The layout of the official TSV, and how a line is written; ``decoding`` reads lines.

Layout: ``product_id image_h image_w num_boxes boxes features class_labels query query_id``, tab-separated, no quoting.
``boxes``, ``features`` and ``class_labels`` are base64 of little-endian float32 (n, 4), float32 (n, F), int64 (n,).
A box is (top, left, bottom, right) in pixels. Read as (x, y, x, y), 49 % of the boxes on non-square images would
leave the image.
"""

from dataclasses import dataclass

import numpy as np
import pybase64

TSV_COLUMNS = (
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
SMALLEST_ID, LARGEST_ID = -(2**63), 2**63 - 1
LONGEST_ID = 20  # characters
SUBMISSION_COLUMNS = ["query-id", "product1", "product2", "product3", "product4", "product5"]


class RawFileError(Exception):
    """A raw file does not have the layout that it should have."""


class BadRow(ValueError):
    """A TSV line does not have the official layout; the message is the reason."""


class CutLine(bytes):
    """The start of a line that is longer than a reader allows; the rest was skipped."""


class FaultyLine(bytes):
    """Stands in for a row of a parquet table that cannot be written as a line, with the reason."""

    reason = ""


@dataclass(frozen=True, slots=True)
class OfficialRow:
    """A (query, product) match that is to be written as a TSV line."""

    product_id: int
    image_h: int
    image_w: int
    boxes: np.ndarray  # (n, 4) float32: top, left, bottom, right in pixels
    features: np.ndarray  # (n, F) float32; the official features are never negative
    labels: np.ndarray  # (n,) int64
    query: str
    query_id: int

    @property
    def num_boxes(self) -> int:
        """n."""
        return len(self.boxes)


def encode_row(row: OfficialRow) -> bytes:
    """Write a row as a TSV line without its line end."""
    numbers = [row.product_id, row.image_h, row.image_w, row.num_boxes]
    arrays = [(row.boxes, "<f4"), (row.features, "<f4"), (row.labels, "<i8")]
    parts = [str(number).encode() for number in numbers]
    parts += [pybase64.b64encode(np.ascontiguousarray(array, dtype=kind)) for array, kind in arrays]
    return b"\t".join([*parts, row.query.encode(), str(row.query_id).encode()])


def whole_number(name: str, text: bytes) -> int:
    """Read a number, which stands in all files in its own digits: ``00123`` or ``0x1F`` may be an id that is a text.

    Raises:
        BadRow: If the text is not what Python writes for a number of 64 bits; with ``name``.
    """
    try:
        number = int(text) if len(text) <= LONGEST_ID else LARGEST_ID + 1
    except ValueError:
        number = LARGEST_ID + 1
    if SMALLEST_ID <= number <= LARGEST_ID and b"%d" % number == text:
        return number
    shown = text[: 2 * LONGEST_ID].decode("utf-8", "replace")
    raise BadRow(f"{name} is no whole number of 64 bits in its own digits, as 123 or -7: {shown!r}")


def is_id(value: object) -> bool:
    """Tell whether a value is an integer that the tables can hold, in 64 bits."""
    return type(value) is int and SMALLEST_ID <= value <= LARGEST_ID


def decode_query(field: bytes) -> str:
    """Read the query field.

    Raises:
        BadRow: If the query is empty or not UTF-8.
    """
    try:
        query = field.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRow("query is not UTF-8") from None
    if not query.strip():
        raise BadRow("empty query")
    return query
