"""Whatever stands in a file: each line becomes a pair or a rejected row, and a sound one holds what it held."""

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pybase64
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal_recall.config.options import IngestOptions
from multimodal_recall.data.chunk_reader import IngestError
from multimodal_recall.data.official_format import TSV_COLUMNS, OfficialRow, encode_row
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk
from tests.conftest import make_row
from tests.pipelines.test_ingest import LABELS, WHOLE

HEADER = "\t".join(TSV_COLUMNS).encode() + b"\n"
SOUND_IDS = 10**16  # so far from the ids of faulty rows that no fault makes one of them
PRODUCT_ID, IMAGE_H, IMAGE_W, NUM_BOXES, BOXES, FEATURES, CLASS_LABELS, QUERY, QUERY_ID = range(9)

Fault = Callable[[st.DrawFn, list[bytes], OfficialRow], None]

queries = st.one_of(
    st.text(st.characters(exclude_characters="\t\n", exclude_categories=["Cs"]), min_size=1).filter(str.strip),
    st.sampled_from(['"sale books', "null", "NA", "nan", "a\0b", "\0", "'s shirt", "1e5", "a\rb", "\ufeffhat", '""']),
)


@dataclass(frozen=True)
class Line:
    """A line of a file, and what must become of it."""

    text: bytes
    row: OfficialRow | None = None
    """What a sound line holds."""
    faulty: bool = False
    """It must be rejected; a line that is neither sound nor faulty may go either way."""


@st.composite
def sound_lines(draw: st.DrawFn) -> Line:
    product = draw(st.integers(0, 40))
    row = make_row(
        SOUND_IDS + product, 1 + product % 15, draw(queries), query_id=draw(st.integers(-(2**63), 2**63 - 1))
    )
    return Line(encode_row(row), row)


@st.composite
def faulty_lines(draw: st.DrawFn, fault: Fault) -> Line:
    row = make_row(draw(st.integers(1, 10**9)), draw(st.integers(1, 12)), draw(queries))
    fields = encode_row(row).split(b"\t")
    fault(draw, fields, row)
    return Line(b"\t".join(fields), faulty=True)


@st.composite
def odd_lines(draw: st.DrawFn) -> Line:
    """Lines that were mangled blindly: what comes out may be a row, another one than it was."""
    text = encode_row(make_row(draw(st.integers(1, 9)), draw(st.integers(1, 3)), draw(queries)))
    fields = text.split(b"\t")
    place, other = draw(st.integers(0, 8)), draw(st.integers(0, 8))
    match draw(st.sampled_from(["swap", "copy", "cut", "flip", "noise"])):
        case "swap":
            fields[place], fields[other] = fields[other], fields[place]
            text = b"\t".join(fields)
        case "copy":
            fields[place] = fields[other]
            text = b"\t".join(fields)
        case "cut":
            text = text[: draw(st.integers(0, len(text)))]
        case "flip":
            changed = bytearray(text)
            changed[draw(st.integers(0, len(text) - 1))] ^= 1 << draw(st.integers(0, 7))
            text = bytes(changed)
        case "noise":
            text = draw(st.binary(max_size=40))
    return Line(text)


def base64(array: np.ndarray, kind: str) -> bytes:
    return pybase64.b64encode(np.ascontiguousarray(array, kind))


def drop_a_field(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    del fields[draw(st.integers(0, 8))]


def repeat_a_field(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    place = draw(st.integers(0, 8))
    fields.insert(place, fields[place])


def add_tabs(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    fields.insert(draw(st.integers(0, 9)), b"\t" * draw(st.integers(0, 3)))


def empty_the_line(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    fields[:] = [draw(st.sampled_from([b"", b" ", b"\0"]))]


def spoil_a_number(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    wrong = [
        b"",
        b"-0",
        b"+1",
        b"01",
        b"-9223372036854775809",
        b"1.0",
        b" 1",
        b"1e3",
        b"0x1",
        b"9223372036854775808",
        b"9" * 5000,
        "٣".encode(),
        b"\xb2",
        b"nan",
        b"1\0",
    ]
    fields[draw(st.sampled_from([PRODUCT_ID, IMAGE_H, IMAGE_W, NUM_BOXES, QUERY_ID]))] = draw(st.sampled_from(wrong))


def spoil_a_side(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    fields[draw(st.sampled_from([IMAGE_H, IMAGE_W]))] = draw(st.sampled_from([b"0", b"1000001", b"9" * 18]))


def miscount_the_boxes(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    counts = st.one_of(st.integers(0, 40), st.sampled_from([10**9, 2**31, 2**32 + row.num_boxes, 10**18 - 1]))
    fields[NUM_BOXES] = b"%d" % draw(counts.filter(lambda count: count != row.num_boxes))


def spoil_base64(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    place = draw(st.sampled_from([BOXES, FEATURES, CLASS_LABELS]))
    text = bytearray(fields[place])
    text[draw(st.integers(0, len(text) - 3))] = draw(st.sampled_from(b"!-_.= \0\xff\r"))
    fields[place] = bytes(text)


def cut_an_array(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    place = draw(st.sampled_from([BOXES, FEATURES, CLASS_LABELS]))
    fields[place] = fields[place][: draw(st.integers(0, len(fields[place]) - 1))]


def spoil_a_feature(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    features = row.features.copy()
    wrong = [np.nan, -np.nan, np.inf, -np.inf, -65_520.0, 65_520.0, 3e38]  # the nearest that float16 tells apart
    features[draw(st.integers(0, row.num_boxes - 1)), draw(st.integers(0, 7))] = draw(st.sampled_from(wrong))
    fields[FEATURES] = base64(features, "<f4")


def spoil_a_box(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    boxes = row.boxes.copy()
    side, wrong = draw(st.sampled_from([(0, -2), (1, -1.001), (0, 100.5), (1, 201), (2, 101.001), (3, 202), (2, -1)]))
    boxes[draw(st.integers(0, row.num_boxes - 1)), side] = draw(st.sampled_from([wrong, np.nan, np.inf, -np.inf]))
    fields[BOXES] = base64(boxes, "<f4")


def spoil_a_label(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    labels = row.labels.copy()
    wrong = [-1, 33, 2**16, 2**32 + 1, -(2**63), 2**63 - 1]
    labels[draw(st.integers(0, row.num_boxes - 1))] = draw(st.sampled_from(wrong))
    fields[CLASS_LABELS] = base64(labels, "<i8")


def spoil_the_query(draw: st.DrawFn, fields: list[bytes], row: OfficialRow) -> None:
    fields[QUERY] = draw(
        st.sampled_from([b"", b"  ", b"\r", "\u3000".encode(), b"caf\xe9", b"\xed\xa0\x80", b"\xc0\x80", b"a\xff"])
    )


FAULTS: list[Fault] = [
    drop_a_field,
    repeat_a_field,
    add_tabs,
    empty_the_line,
    spoil_a_number,
    spoil_a_side,
    miscount_the_boxes,
    spoil_base64,
    cut_an_array,
    spoil_a_feature,
    spoil_a_box,
    spoil_a_label,
    spoil_the_query,
]


def kept_boxes(row: OfficialRow, options: IngestOptions) -> OfficialRow:
    """The row as it must come out, but for the float16."""
    area = (row.boxes[:, 2] - row.boxes[:, 0]) * (row.boxes[:, 3] - row.boxes[:, 1])
    order = np.argsort(-area, kind="stable") if options.box_order == "largest_first" else np.arange(row.num_boxes)
    kept = order[: options.max_boxes]
    return replace(row, boxes=row.boxes[kept], features=row.features[kept], labels=row.labels[kept])


def check_row(pair: dict, product: dict, row: OfficialRow) -> None:
    assert (pair["product_id"], pair["query_id"], pair["query"]) == (row.product_id, row.query_id, row.query)
    assert (product["product_id"], product["image_h"], product["image_w"]) == (row.product_id, row.image_h, row.image_w)
    for number, side in enumerate(("top", "left", "bottom", "right")):
        assert product[side] == row.boxes[:, number].tolist()
    assert product["labels"] == row.labels.tolist()
    assert product["features"] == row.features.astype("<f2").tobytes()


def check_tables(made: dict[str, pa.Table], text: bytes, expected: dict[bytes, Line], options: IngestOptions) -> None:
    """Follow every line of the file to where it came out."""
    lines = text.removeprefix(HEADER).split(b"\n")
    lines = [line.rstrip(b"\r") for line in (lines if lines[-1] else lines[:-1])]
    pairs, products, rejected = (made[name].to_pylist() for name in ("pairs", "products", "rejected"))
    assert len(pairs) + len(rejected) == len(lines)
    for row in rejected:
        assert row["reason"]
        assert row["kind"] == "malformed"
        assert text[row["byte"] :].startswith(lines[row["row"] - 1])
        assert text[row["byte"] - 1 : row["byte"]] == b"\n"
    left_out = {row["row"] for row in rejected}
    kept = [expected.get(line) for number, line in enumerate(lines, 1) if number not in left_out]
    for line, pair in zip(kept, pairs, strict=True):
        assert line is None or not line.faulty
        if line and line.row:
            check_row(pair, products[pair["product_row"]], kept_boxes(line.row, options))
    told = [expected.get(lines[number - 1]) for number in left_out]
    assert not [line for line in told if line and line.row]
    assert len({pair["query"]: pair["query_row"] for pair in pairs}) == len({pair["query_row"] for pair in pairs})


def ingest_and_check(lines: list[Line], options: IngestOptions, end: bytes = b"\n", last_end: bytes = b"\n") -> None:
    text = HEADER + end.join(line.text for line in lines) + last_end
    with tempfile.TemporaryDirectory() as folder:
        tsv = OfficialTsv(Path(folder) / "train.tsv")
        tsv.path.write_bytes(text)
        try:
            made = ingest_chunk(tsv, LABELS, options, chunk=WHOLE)
        except IngestError as error:  # a file of which nothing is left is refused
            if any(line.row for line in lines) or not re.search("rows of chunk_000 are rejected|no rows", str(error)):
                raise
            return
    check_tables(made, text, {line.text: line for line in lines}, options)


def repeatable(examples: int) -> settings:
    return settings(max_examples=examples, derandomize=True, database=None, deadline=None)


# All boxes of faulty rows are kept: features of others are not looked at.
options = st.builds(
    IngestOptions,
    feature_size=st.just(8),
    max_boxes=st.sampled_from([12, 15]),
    box_order=st.sampled_from(["file", "largest_first"]),
    max_rejected_share=st.just(1.0),
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_row_is_rejected_and_its_neighbours_are_not(fault: Fault) -> None:
    @repeatable(25)
    @given(sound_lines(), faulty_lines(fault), sound_lines(), options)
    def check(before: Line, faulty: Line, after: Line, options: IngestOptions) -> None:
        ingest_and_check([before, faulty, after], options)

    check()


@repeatable(150)
@given(
    st.lists(
        st.one_of(sound_lines(), odd_lines(), st.sampled_from(FAULTS).flatmap(faulty_lines)), min_size=1, max_size=8
    ),
    options,
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"", b"\n", b"\r\n"]),
)
def test_any_file_is_shared_out_between_pairs_and_rejected_rows(
    lines: list[Line], options: IngestOptions, end: bytes, last_end: bytes
) -> None:
    ingest_and_check(lines, options, end, last_end)
