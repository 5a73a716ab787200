"""Decode and check a block of lines of the official TSV: nearly all the work of ingest."""

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pybase64

from multimodal_recall.data.boxes import SIDES, box_fault, clip_boxes
from multimodal_recall.data.official_format import TSV_COLUMNS, BadRow, CutLine, FaultyLine, decode_query, whole_number
from multimodal_recall.data.schemas import TABLES

TABS_BEFORE_FEATURES = TSV_COLUMNS.index("features")
LARGEST_FLOAT16 = np.float16(65_504)
LARGEST_SIDE = 1_000_000  # pixels
ON_ONE_CORE = 32_768  # numbers that torch casts on one core; chunks are what is spread over cores


@dataclass(frozen=True)
class Rows:
    """The sound rows of a block of lines, column by column: n rows with b kept boxes in all."""

    places: np.ndarray  # (n,) int64, as all numbers of a row: the row's place among the lines of the block
    product_ids: np.ndarray
    image_h: np.ndarray
    image_w: np.ndarray
    num_boxes: np.ndarray  # (n,) boxes in the file
    query_ids: np.ndarray
    queries: list[str]
    counts: np.ndarray  # (n,) kept boxes
    clipped: np.ndarray  # (n,) boxes in the file that were clipped to the image
    boxes: np.ndarray  # (b, 4) float32: top, left, bottom, right in pixels, row after row
    labels: np.ndarray  # (b,) int64
    features: np.ndarray  # (b, F) float16

    def take(self, kept: np.ndarray) -> "Rows":
        """Select the rows where ``kept`` (n,) is true; without a copy where all rows are kept."""
        if kept.all():
            return self
        kept_boxes = np.repeat(kept, self.counts)
        columns = {name: value for name, value in vars(self).items() if name != "queries"}
        by_box = ("boxes", "labels", "features")
        taken = {name: value[kept_boxes if name in by_box else kept] for name, value in columns.items()}
        return Rows(**taken, queries=[query for query, keep in zip(self.queries, kept, strict=True) if keep])

    def to_products(self) -> pa.RecordBatch:
        """Give the products of the rows as a batch of ``products``; the features are not copied."""
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        feature_bytes = pa.py_buffer(ends * self.features.shape[1] * self.features.itemsize)
        offsets, buffers = pa.array(ends, pa.int32()), [None, feature_bytes, pa.py_buffer(self.features)]
        columns = {
            "product_id": pa.array(self.product_ids),
            "title": pa.nulls(len(self.counts), pa.string()),  # the TSV has neither
            "sku": pa.nulls(len(self.counts), pa.string()),
            "image_h": pa.array(self.image_h, pa.int32()),
            "image_w": pa.array(self.image_w, pa.int32()),
            "labels": pa.ListArray.from_arrays(offsets, pa.array(self.labels.astype(np.int16))),
            "features": pa.Array.from_buffers(pa.large_binary(), len(self.counts), buffers),
        }
        for name, side in zip(SIDES, self.boxes.T, strict=True):
            columns[name] = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(side)))
        schema = TABLES["products"]
        return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


class SplitLine(NamedTuple):
    """A line split into its fields: boxes and labels are decoded, features are still base64."""

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
    with_torch: bool,
    with_queries: bool = True,
) -> tuple[Rows, dict[int, str]]:
    """Decode a block of TSV lines and check them; of features beyond ``max_boxes`` only the text's length is checked.

    Boxes, labels and features are rounded and checked for the whole block at once; a single line costs its split and
    three base64 decodings.

    Args:
        feature_size: F, numbers of a box feature.
        label_count: Labels are 0 to ``label_count - 1``.
        largest_first: Keep the largest boxes, largest first, instead of the first boxes of the file.
        with_torch: Round features with torch; see ``to_float16``.
        with_queries: Read query and query id; ``False``, for a catalogue: each row has an empty query of id 0.

    Returns:
        The sound rows; and for the place of each faulty line the reason.
    """
    split, reasons = _split_lines(lines, feature_size, with_queries)
    numbers = np.array([line[:6] for line in split], np.int64).reshape(-1, 6)
    counts = numbers[:, 4]
    boxes = np.frombuffer(b"".join(line.boxes for line in split), "<f4").reshape(-1, 4)
    labels = np.frombuffer(b"".join(line.labels for line in split), "<i8")
    line_of_box = np.repeat(np.arange(len(split)), counts)
    boxes, clipped, box_faults = _fit_boxes(split, boxes, line_of_box)
    reasons |= _label_faults(split, labels, line_of_box, label_count) | box_faults
    order = np.arange(len(boxes))
    rank = order - np.repeat(np.cumsum(counts) - counts, counts)
    if largest_first:
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        order = np.lexsort((-area, line_of_box))
    kept = order[rank < max_boxes]  # line after line
    kept_counts = np.minimum(counts, max_boxes)
    decoded, feature_faults = _decode_features(split, counts if largest_first else kept_counts, feature_size)
    features = to_float16(decoded[kept] if largest_first else decoded, with_torch)
    for row in np.unique(np.repeat(np.arange(len(split)), kept_counts)[_out_of_range(features)]):
        feature_faults.setdefault(split[row].place, f"a feature is NaN or beyond {LARGEST_FLOAT16:.0f}")
    reasons = feature_faults | reasons
    columns, queries = map(np.ascontiguousarray, numbers.T), [line.query for line in split]
    rows = Rows(*columns, queries, kept_counts, clipped, boxes[kept], labels[kept], features)
    return rows.take(np.array([line.place not in reasons for line in split], bool)), reasons


def _split_lines(
    lines: Sequence[bytes], feature_size: int, with_queries: bool
) -> tuple[list[SplitLine], dict[int, str]]:
    """Split the lines that have the official layout; give the reason for each other line."""
    split, reasons = [], {}
    for place, line in enumerate(lines):
        try:
            split.append(_split_line(place, line, feature_size, with_queries))
        except BadRow as error:
            reasons[place] = str(error)
    return split, reasons


def _split_line(place: int, line: bytes, feature_size: int, with_queries: bool) -> SplitLine:
    """Split a line without reading or copying its features, whose length follows from ``num_boxes``."""
    if isinstance(line, CutLine):
        raise BadRow("the line is longer than ingest.max_line_bytes")
    if isinstance(line, FaultyLine):
        raise BadRow(line.reason)
    start = 0
    for _ in range(TABS_BEFORE_FEATURES):
        start = line.find(b"\t", start) + 1
        if not start:
            raise _layout_fault(line)
    *fields, boxes, _ = line[:start].split(b"\t")
    numbers = list(map(whole_number, TSV_COLUMNS, fields))
    _, height, width, count = numbers
    if count < 1 or not 1 <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise BadRow(f"num_boxes {count}, image_h {height}, image_w {width}: wanted a box, sides of 1 to 1,000,000")
    box_bytes = _decode("boxes", boxes, count, 16)
    end = start + _text_length(count * feature_size * 4)
    rest = line[end:].rstrip(b"\r\n").split(b"\t", 4)
    if len(rest) != 4 or rest[0]:
        raise _layout_fault(line, count, feature_size)
    _, labels, query, query_id = rest
    label_bytes = _decode("class_labels", labels, count, 8)
    asked = (whole_number("query_id", query_id), decode_query(query)) if with_queries else (0, "")
    features = memoryview(line)[start:end]
    return SplitLine(place, *numbers, *asked, box_bytes, label_bytes, features)


def _layout_fault(line: bytes, num_boxes: int = 0, feature_size: int = 0) -> BadRow:
    """Say why a line cannot be split at the places where its tabs should be."""
    if (found := line.count(b"\t") + 1) != len(TSV_COLUMNS):  # a split of megabytes of tabs would take gigabytes
        return BadRow(f"{found} fields, wanted {len(TSV_COLUMNS)}")
    if width := feature_width(line):
        return BadRow(f"features hold {width} numbers a box, ingest.feature_size is {feature_size}")
    return _length_fault(
        "features", len(line.split(b"\t")[TABS_BEFORE_FEATURES]), num_boxes, num_boxes * feature_size * 4
    )


def feature_width(line: bytes) -> int | None:
    """Work out how many numbers a box feature of the line holds; ``None`` where no number fits ``num_boxes``."""
    fields = line.split(b"\t", len(TSV_COLUMNS))
    try:
        num_boxes = whole_number("num_boxes", fields[TABS_BEFORE_FEATURES - 2])
    except (BadRow, IndexError):
        return None
    if len(fields) != len(TSV_COLUMNS) or num_boxes < 1:
        return None
    length = len(fields[TABS_BEFORE_FEATURES])
    width = length // 4 * 3 // (4 * num_boxes)
    return width if width and _text_length(num_boxes * width * 4) == length else None


def _length_fault(name: str, found: int, num_boxes: int, data_bytes: int) -> BadRow:
    return BadRow(f"{name} has {found} characters, num_boxes {num_boxes} wants {_text_length(data_bytes)}")


def _fit_boxes(
    split: list[SplitLine], boxes: np.ndarray, line_of_box: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Clip the boxes; count the clipped boxes of each line (n,), and say why a line with a faulty box is refused."""
    sizes = np.array([(line.image_h, line.image_w) for line in split]).reshape(-1, 2)
    boxes, clipped, faulty = clip_boxes(boxes, sizes[line_of_box])
    lines, first = np.unique(line_of_box[faulty], return_index=True)
    faults = zip(lines.tolist(), boxes[faulty][first], strict=True)
    reasons = {split[line].place: box_fault(box, *sizes[line].tolist()) for line, box in faults}
    return boxes, np.bincount(line_of_box[clipped], minlength=len(split)), reasons


def _label_faults(
    split: list[SplitLine], labels: np.ndarray, line_of_box: np.ndarray, label_count: int
) -> dict[int, str]:
    reasons = {}
    for number in np.unique(line_of_box[(labels < 0) | (labels >= label_count)]):
        found = labels[line_of_box == number]
        wanted = f"wanted 0 to {label_count - 1}, found {found.min()} to {found.max()}"
        reasons[split[number].place] = f"unknown label, {wanted}"
    return reasons


def _decode_features(
    split: list[SplitLine], counts: np.ndarray, feature_size: int
) -> tuple[np.ndarray, dict[int, str]]:
    """Decode the features of the first ``counts`` boxes of each line: (sum of ``counts``, F) float32.

    The features of a line that is not base64 are zeros, and the reason is given for its place.
    """
    decoded: list[bytes | bytearray] = []
    reasons = {}
    for line, count in zip(split, counts.tolist(), strict=True):
        try:
            decoded.append(_decode("features", line.features, line.num_boxes, feature_size * 4, count))
        except BadRow as error:
            reasons[line.place] = str(error)
            decoded.append(bytes(count * feature_size * 4))
    return np.frombuffer(bytearray().join(decoded), "<f4").reshape(-1, feature_size), reasons


def to_float16(values: np.ndarray, with_torch: bool) -> np.ndarray:
    """Round float32 to float16 with torch or with numpy, to the same bits."""
    # Nanoseconds a number on one AVX2 core, without zeros and with 75 % of them: numpy 3.8 and 5.6, pyarrow 3.9 and
    # 7.4, the same rounding in numpy's integers 4.2 and 4.5, torch 0.6. See TORCH_PAYS_BYTES.
    if not with_torch:
        with np.errstate(over="ignore"):  # a number beyond float16 becomes infinite and is refused
            return values.astype(np.float16)
    import torch

    rounded = np.empty(values.shape, np.float16)
    parts = (torch.from_numpy(array.ravel()).split(ON_ONE_CORE) for array in (rounded, values))
    for target, source in zip(*parts, strict=True):
        target.copy_(source)
    return rounded


def _out_of_range(features: np.ndarray) -> np.ndarray:
    """Find the boxes (b,) with a float16 feature that is NaN or infinite."""
    bits = features.view(np.uint16)  # ascending: finite numbers, infinity, NaN, then the same below zero
    if bits.max(initial=0) <= LARGEST_FLOAT16.view(np.uint16):
        return np.zeros(len(features), bool)
    return ~np.isfinite(features).all(axis=1)


def _decode(name: str, field: bytes | memoryview, boxes: int, box_bytes: int, readable: int | None = None) -> bytearray:
    """Decode base64 of ``boxes`` times ``box_bytes`` bytes, only as much text as ``readable`` boxes need."""
    if len(field) != _text_length(boxes * box_bytes):
        raise _length_fault(name, len(field), boxes, boxes * box_bytes)
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
    """Give the length of the base64 text of ``data_bytes`` bytes, padding included."""
    return -(-data_bytes // 3) * 4
