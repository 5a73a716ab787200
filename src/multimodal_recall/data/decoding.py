"""A block of lines of the official TSV to columns: split, decoded and checked, which is nearly all that ingest does."""

import binascii
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pybase64

from multimodal_recall.data.official_format import TSV_COLUMNS, BadRow, decode_query

TABS_BEFORE_FEATURES = TSV_COLUMNS.index("features")
LARGEST_FLOAT16 = np.float16(65_504)
LONGEST_NUMBER = 18  # digits that int64 holds for certain
LARGEST_SIDE = 1_000_000  # pixels
ON_ONE_CORE = 32_768  # numbers that torch casts on one core; chunks are what is spread over cores
TORCH_PAYS_BYTES = 2_000_000_000

Cast = Callable[[np.ndarray], np.ndarray]
"""Rounds float32 to float16."""


@dataclass(frozen=True)
class Rows:
    """The sound rows of a block of lines, column by column: n rows, b kept boxes in all."""

    places: np.ndarray
    """(n,) which of the block's lines."""
    product_ids: np.ndarray
    """(n,) int64, and so the other numbers."""
    image_h: np.ndarray
    image_w: np.ndarray
    num_boxes: np.ndarray
    """(n,) boxes in the file."""
    query_ids: np.ndarray
    queries: list[str]
    counts: np.ndarray
    """(n,) boxes kept."""
    boxes: np.ndarray
    """(b, 4) float32: top, left, bottom, right in pixels, row after row."""
    labels: np.ndarray
    """(b,) int64."""
    features: np.ndarray
    """(b, F) float16."""

    def take(self, kept: np.ndarray) -> "Rows":
        """The rows where ``kept`` (n,) is true; itself, without a copy, where it is true throughout."""
        if kept.all():
            return self
        of_box = np.repeat(kept, self.counts)
        columns = {name: value for name, value in vars(self).items() if name != "queries"}
        by_box = ("boxes", "labels", "features")
        taken = {name: value[of_box if name in by_box else kept] for name, value in columns.items()}
        return Rows(**taken, queries=[query for query, keep in zip(self.queries, kept, strict=True) if keep])


class Fields(NamedTuple):
    """A line taken apart, its boxes and labels decoded and its features not yet."""

    place: int
    product_id: int
    image_h: int
    image_w: int
    num_boxes: int
    query_id: int
    query: str
    boxes: bytearray
    labels: bytearray
    features: memoryview


def decode_rows(
    lines: Sequence[bytes],
    feature_size: int,
    label_count: int,
    max_boxes: int,
    largest_first: bool,
    cast: Cast,
) -> tuple[Rows, dict[int, str]]:
    """Read a block of TSV lines and check them; of the features of boxes that are not kept, only the length.

    Boxes, labels and features are rounded and checked for the whole block at once; a line on its own costs its split
    and three base64 decodings.

    Args:
        lines: Lines with or without line ends.
        feature_size: F, numbers a box feature holds.
        label_count: Labels are 0 to ``label_count - 1``.
        max_boxes: Boxes to keep of a row.
        largest_first: Keep the largest boxes, largest first, instead of the first of the file.
        cast: Rounds the features to float16; see ``float16_cast``.

    Returns:
        The sound rows, and the reason for each place of a line that is not one.
    """
    reasons: dict[int, str] = {}
    fields = _take_apart(lines, feature_size, reasons)
    numbers = np.array([row[:6] for row in fields], np.int64).reshape(-1, 6)
    counts = numbers[:, 4]
    boxes = np.frombuffer(b"".join(row.boxes for row in fields), "<f4").reshape(-1, 4)
    labels = np.frombuffer(b"".join(row.labels for row in fields), "<i8")
    row_of_box = np.repeat(np.arange(len(fields)), counts)
    reasons |= _unknown(fields, labels, row_of_box, label_count) | _misplaced(fields, boxes, row_of_box)
    order = np.arange(len(boxes))
    place = order - np.repeat(np.cumsum(counts) - counts, counts)
    if largest_first:
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        order = np.lexsort((-area, row_of_box))
    kept = order[place < max_boxes]  # row after row
    kept_counts = np.minimum(counts, max_boxes)
    decoded = counts if largest_first else kept_counts
    features = _decode_features(fields, decoded, feature_size, reasons)
    features = cast(features[kept] if largest_first else features)
    for row in np.unique(np.repeat(np.arange(len(fields)), kept_counts)[_out_of_range(features)]):
        reason = f"a feature is NaN or beyond {LARGEST_FLOAT16:.0f}"
        reasons.setdefault(fields[row].place, reason)
    rows = Rows(
        *(np.ascontiguousarray(column) for column in numbers.T),
        [row.query for row in fields],
        kept_counts,
        boxes[kept],
        labels[kept],
        features,
    )
    return rows.take(np.array([row.place not in reasons for row in fields], bool)), reasons


def _take_apart(lines: Sequence[bytes], feature_size: int, reasons: dict[int, str]) -> list[Fields]:
    """Split the lines, leaving those out that are no rows and noting why."""
    fields = []
    for place, line in enumerate(lines):
        try:
            fields.append(_fields_of(place, line, feature_size))
        except BadRow as error:
            reasons[place] = str(error)
    return fields


def _fields_of(place: int, line: bytes, feature_size: int) -> Fields:
    """Split a line without reading or copying its features, whose length follows from ``num_boxes``.

    Raises:
        BadRow: If a field is missing, or is not what the layout says.
    """
    start = 0
    for _ in range(TABS_BEFORE_FEATURES):
        start = line.find(b"\t", start) + 1
        if not start:
            raise _misshapen(line)
    product_id, image_h, image_w, num_boxes, boxes, _ = line[:start].split(b"\t")
    numbers = _whole_numbers(TSV_COLUMNS, (product_id, image_h, image_w, num_boxes))
    _, height, width, count = numbers
    if count < 1 or not 1 <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise BadRow(f"num_boxes {count}, image_h {height}, image_w {width}: wanted 1 or more, sensible sides")
    box_bytes = _decode("boxes", boxes, count, 16)
    end = start + _text_length(count * feature_size * 4)
    rest = line[end:].rstrip(b"\r\n").split(b"\t")
    if len(rest) != 4 or rest[0]:
        raise _misshapen(line, count, feature_size)
    _, labels, query, query_id = rest
    label_bytes = _decode("class_labels", labels, count, 8)
    query_number = _whole_numbers(TSV_COLUMNS[-1:], (query_id,))
    features = memoryview(line)[start:end]
    return Fields(place, *numbers, *query_number, decode_query(query), box_bytes, label_bytes, features)


def _misshapen(line: bytes, num_boxes: int = 0, feature_size: int = 0) -> BadRow:
    """Say why a line cannot be split at the places where its tabs should be."""
    fields = line.split(b"\t")
    if len(fields) != len(TSV_COLUMNS):
        return BadRow(f"{len(fields)} fields, wanted {len(TSV_COLUMNS)}")
    if width := feature_width(line):
        return BadRow(f"features hold {width} numbers a box, ingest.feature_size is {feature_size}")
    return _wrong_length("features", len(fields[TABS_BEFORE_FEATURES]), num_boxes, num_boxes * feature_size * 4)


def feature_width(line: bytes) -> int | None:
    """How many numbers a box's feature holds by a line's ``num_boxes``; ``None`` where its length fits no number."""
    fields = line.split(b"\t")
    if len(fields) != len(TSV_COLUMNS) or not fields[TABS_BEFORE_FEATURES - 2].isdigit():
        return None
    num_boxes, length = int(fields[TABS_BEFORE_FEATURES - 2]), len(fields[TABS_BEFORE_FEATURES])
    width = length // 4 * 3 // (4 * num_boxes) if num_boxes else 0
    return width if width and _text_length(num_boxes * width * 4) == length else None


def _wrong_length(name: str, found: int, num_boxes: int, data_bytes: int) -> BadRow:
    return BadRow(f"{name} has {found} characters, num_boxes {num_boxes} wants {_text_length(data_bytes)}")


def _whole_numbers(names: Sequence[str], fields: Sequence[bytes]) -> list[int]:
    """Read fields that hold a whole number each; ``names`` may go on after them."""
    for name, field in zip(names, fields, strict=False):
        if not field.isdigit() or len(field) > LONGEST_NUMBER:
            raise BadRow(f"{name} is no whole number of at most {LONGEST_NUMBER} digits")
    return [int(field) for field in fields]


def _misplaced(fields: list[Fields], boxes: np.ndarray, row_of_box: np.ndarray) -> dict[int, str]:
    """Rows with a box (b, 4) that leaves the image or has its sides out of order; NaN does both."""
    sizes = np.array([(row.image_h, row.image_w) for row in fields]).reshape(-1, 2)[row_of_box]
    low, high = boxes[:, :2], boxes[:, 2:]
    inside = ((low >= 0) & (low <= high) & (high <= sizes)).all(axis=1)
    return {
        fields[row].place: f"a box leaves the image of {fields[row].image_h} x {fields[row].image_w} pixels "
        "(top, left, bottom, right)"
        for row in np.unique(row_of_box[~inside])
    }


def _unknown(fields: list[Fields], labels: np.ndarray, row_of_box: np.ndarray, label_count: int) -> dict[int, str]:
    """Rows with a label (b,) that is none."""
    unknown = (labels < 0) | (labels >= label_count)
    return {
        fields[row].place: f"unknown label, wanted 0 to {label_count - 1}, "
        f"found {labels[row_of_box == row].min()} to {labels[row_of_box == row].max()}"
        for row in np.unique(row_of_box[unknown])
    }


def _decode_features(
    fields: list[Fields], counts: np.ndarray, feature_size: int, reasons: dict[int, str]
) -> np.ndarray:
    """Decode the features of each row's first boxes, (sum of ``counts``, F) float32; zeros where they are no base64.

    Args:
        fields: The rows.
        counts: Boxes to decode of each.
        feature_size: F.
        reasons: Gets those of rows whose features are no base64.
    """
    decoded: list[bytes | bytearray] = []
    for row, count in zip(fields, counts.tolist(), strict=True):
        try:
            decoded.append(_decode("features", row.features, row.num_boxes, feature_size * 4, count))
        except BadRow as error:
            reasons.setdefault(row.place, str(error))
            decoded.append(bytes(count * feature_size * 4))
    return np.frombuffer(bytearray().join(decoded), "<f4").reshape(-1, feature_size)


def _out_of_range(features: np.ndarray) -> np.ndarray:
    """Which boxes (b,) have a feature that is NaN or infinite as float16 holds it."""
    bits = features.view(np.uint16)  # in this order: numbers, infinity, NaN, and the same below zero
    if bits.max(initial=0) <= LARGEST_FLOAT16.view(np.uint16):
        return np.zeros(len(features), bool)
    return ~np.isfinite(features).all(axis=1)


def float16_cast(text_bytes: int) -> Cast:
    """Give the faster way to round float32 to float16, both to the same bits, for so much TSV text.

    numpy takes 6 ns a number and torch 0.1, but its import 2.6 s, which 2 GB of text are worth (one core, AVX2).
    """
    if "torch" not in sys.modules and text_bytes < TORCH_PAYS_BYTES:
        return _numpy_cast
    import torch

    def cast(values: np.ndarray) -> np.ndarray:
        rounded = np.empty(values.shape, np.float16)
        parts = (torch.from_numpy(array.ravel()).split(ON_ONE_CORE) for array in (rounded, values))
        for target, source in zip(*parts, strict=True):
            target.copy_(source)
        return rounded

    return cast


def _numpy_cast(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # to infinity, as torch does without a warning
        return values.astype(np.float16)


def _decode(name: str, field: bytes | memoryview, boxes: int, box_bytes: int, readable: int | None = None) -> bytearray:
    """Decode base64 of ``boxes`` times ``box_bytes`` bytes, reading no more text than ``readable`` boxes need.

    Raises:
        BadRow: If the text's length does not fit, or it is not base64.
    """
    if len(field) != _text_length(boxes * box_bytes):
        raise _wrong_length(name, len(field), boxes, boxes * box_bytes)
    wanted = (boxes if readable is None else readable) * box_bytes
    try:
        # validate=True takes the SIMD path that refuses stray characters: 17-22 GB/s against 4-5.
        data = pybase64.b64decode_as_bytearray(memoryview(field)[: _text_length(wanted)], validate=True)
    except binascii.Error as error:
        raise BadRow(f"{name} is not base64: {error}") from None
    if len(data) < wanted:
        raise BadRow(f"{name} holds {len(data)} bytes, num_boxes {boxes} wants {wanted}")
    return data if len(data) == wanted else data[:wanted]


def _text_length(data_bytes: int) -> int:
    """Length of the base64 text of so many bytes, padding included."""
    return -(-data_bytes // 3) * 4
