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
SUBMISSION_COLUMNS = ["query-id", "product1", "product2", "product3", "product4", "product5"]


class RawFileError(Exception):
    """A raw file does not have the layout that it should have."""


class BadRow(ValueError):
    """A TSV line does not have the official layout; the message is the reason."""


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
