"""What a line of the official TSV holds, and how one is written; read again in ``decoding``.

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


class BadRow(ValueError):
    """A TSV line that is not a row; the message is the reason."""


@dataclass(frozen=True, slots=True)
class OfficialRow:
    """One (query, product) match, on its way to a file."""

    product_id: int
    image_h: int
    image_w: int
    num_boxes: int
    boxes: np.ndarray
    """(n, 4) float32: top, left, bottom, right in pixels."""
    features: np.ndarray
    """(n, F) float32; the official ones are never negative."""
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


SUBMITTED = 5
"""Products of a query in a submission."""
SUBMISSION_COLUMNS = ["query-id", *(f"product{rank}" for rank in range(1, SUBMITTED + 1))]
