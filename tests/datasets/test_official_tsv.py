from dataclasses import replace
from pathlib import Path

import numpy as np
import pybase64
import pytest
from kedro.io import DatasetError

from multimodal_recall.datasets.official_tsv import (
    COLUMNS,
    BadRow,
    OfficialRow,
    OfficialTsv,
    OfficialTsvDataset,
    decode_row,
    encode_row,
)
from tests.conftest import make_row

HOW = {"feature_size": 8, "label_count": 33, "max_boxes": 12}


def write_tsv(path: Path, lines: list[bytes], line_end: bytes = b"\n") -> OfficialTsv:
    header = "\t".join(COLUMNS).encode()
    path.write_bytes(line_end.join([header, *lines]) + line_end)
    return OfficialTsv(path)


def fields_of(row: OfficialRow) -> list[bytes]:
    return encode_row(row).split(b"\t")


def test_a_row_comes_back_equal() -> None:
    row = make_row(boxes=3, query='"women\'s" t-shirt, null')
    decoded = decode_row(encode_row(row), **HOW)
    for name in OfficialRow.__dataclass_fields__:
        wanted = getattr(row, name)
        if name == "features":
            wanted = wanted.astype(np.float16)
        np.testing.assert_array_equal(getattr(decoded, name), wanted)


def test_a_91_box_row_keeps_the_first_twelve() -> None:
    row = make_row(boxes=91)
    decoded = decode_row(encode_row(row), **HOW)
    assert decoded.num_boxes == 91
    np.testing.assert_array_equal(decoded.boxes, row.boxes[:12])
    np.testing.assert_array_equal(decoded.features, row.features[:12].astype(np.float16))


def test_largest_first_keeps_the_largest_boxes_with_their_features_and_labels() -> None:
    row = make_row(boxes=20)
    area = (row.boxes[:, 2] - row.boxes[:, 0]) * (row.boxes[:, 3] - row.boxes[:, 1])
    largest = np.argsort(-area, kind="stable")[:12]
    decoded = decode_row(encode_row(row), **HOW, largest_first=True)
    np.testing.assert_array_equal(decoded.boxes, row.boxes[largest])
    np.testing.assert_array_equal(decoded.features, row.features[largest].astype(np.float16))
    np.testing.assert_array_equal(decoded.labels, row.labels[largest])


def test_the_box_order_is_top_left_bottom_right() -> None:
    # Given a box that fits a wide image only when its first side is the top
    wide = np.array([[0, 150, 90, 199]], np.float32)
    assert decode_row(encode_row(replace(make_row(boxes=1), boxes=wide)), **HOW).boxes.tolist() == wide.tolist()
    with pytest.raises(BadRow, match="a box leaves the image of 100 x 200 pixels"):
        decode_row(encode_row(replace(make_row(boxes=1), boxes=wide[:, [1, 0, 3, 2]])), **HOW)


def _broken() -> dict[str, tuple[list[bytes], str]]:
    """Lines with one fault each, and the reason they must be rejected for."""

    def change(place: int, value: bytes) -> list[bytes]:
        fields = fields_of(make_row())
        fields[place] = value
        return fields

    def text(array: np.ndarray) -> bytes:
        return pybase64.b64encode(np.ascontiguousarray(array))

    sound = fields_of(make_row())
    features = make_row().features.copy()
    nan, negative, huge = (features.copy() for _ in range(3))
    nan[1, 3], negative[0, 0], huge[0, 0] = np.nan, -0.1, 1e6
    box = make_row().boxes
    return {
        "eight fields": (sound[:8], "8 fields, wanted 9"),
        "ten fields": ([*sound, b""], "10 fields, wanted 9"),
        "empty line": ([b""], "1 fields, wanted 9"),
        "product id": (change(0, b"x1"), "product_id is no whole number"),
        "query id": (change(8, b""), "query_id is no whole number"),
        "number beyond int64": (change(0, b"9" * 19), "product_id is no whole number of at most 18 digits"),
        "negative number": (change(8, b"-1"), "query_id is no whole number"),
        "huge image": (change(1, b"100000000000"), "image_h 100000000000"),
        "no boxes": (change(3, b"0"), "num_boxes 0"),
        "more boxes than data": (change(3, b"3"), "boxes has 44 characters, num_boxes 3 wants 64"),
        "cut features": (change(5, sound[5][:-4]), "features has 84 characters, num_boxes 2 wants 88"),
        "bad base64": (change(5, b"!" + sound[5][1:]), "features is not base64"),
        "padding inside": (change(5, sound[5][:-4] + b"===="), "features"),
        "NaN": (change(5, text(nan)), "a feature is negative, NaN or beyond 65504"),
        "negative": (change(5, text(negative)), "a feature is negative"),
        "beyond float16": (change(5, text(huge)), "a feature is negative, NaN or beyond"),
        "box outside": (change(4, text(box + 200)), "a box leaves the image"),
        "box NaN": (change(4, text(box * np.float32("nan"))), "a box leaves the image"),
        "sides swapped": (change(4, text(box[:, [2, 3, 0, 1]])), "a box leaves the image"),
        "unknown label": (change(6, text(np.array([0, 33]))), "unknown label, wanted 0 to 32"),
        "negative label": (change(6, text(np.array([-1, 3]))), "unknown label"),
        "empty query": (change(7, b"  "), "empty query"),
        "not UTF-8": (change(7, b"caf\xe9"), "query is not UTF-8"),
    }


@pytest.mark.parametrize("fault", _broken())
def test_each_fault_has_its_reason(fault: str) -> None:
    fields, reason = _broken()[fault]
    with pytest.raises(BadRow, match=reason):
        decode_row(b"\t".join(fields), **HOW)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50, 400])
def test_ranges_share_out_all_lines_whatever_their_number(tmp_path: Path, count: int) -> None:
    lines = [encode_row(make_row(product, boxes=1 + product % 9)) for product in range(40)]
    tsv = write_tsv(tmp_path / "train.tsv", lines)
    found = [line for number in range(count) for _, line in tsv.lines(number, count)]
    assert found == lines
    content = tsv.path.read_bytes()
    assert all(
        content[offset:].startswith(line) for number in range(count) for offset, line in tsv.lines(number, count)
    )


def test_windows_line_ends_and_a_last_line_without_end(tmp_path: Path) -> None:
    lines = [encode_row(make_row(product)) for product in range(3)]
    tsv = write_tsv(tmp_path / "train.tsv", lines, b"\r\n")
    assert [line for _, line in tsv.lines()] == lines
    tsv.path.write_bytes(tsv.path.read_bytes()[:-2])
    assert [line for _, line in tsv.lines()] == lines


@pytest.mark.parametrize("content", [b"", b"1\t2\t3\n", b"\xff\xfe\n"])
def test_a_file_without_the_header_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.tsv").write_bytes(content)
    with pytest.raises(DatasetError, match=r"train\.tsv: the first line is .* Wanted the header product_id"):
        list(OfficialTsv(tmp_path / "train.tsv").lines())


def test_a_missing_file_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"train\.tsv does not exist\. Put the official file there, or point `raw`"):
        OfficialTsvDataset(str(tmp_path / "train.tsv")).load()


def test_rows_are_written_one_by_one(tmp_path: Path) -> None:
    dataset = OfficialTsvDataset(str(tmp_path / "train.tsv"))
    rows = [make_row(product) for product in range(3)]
    dataset.save(rows)
    assert [line for _, line in dataset.load().lines()] == [encode_row(row) for row in rows]
