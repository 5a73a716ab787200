from dataclasses import replace

import numpy as np
import pybase64
import pytest

from multimodal_recall.data.decoding import ON_ONE_CORE, Rows, decode_rows, feature_width, to_float16
from multimodal_recall.data.official_format import OfficialRow, encode_row
from tests.conftest import make_row


def decode(*lines: bytes, largest_first: bool = False) -> tuple[Rows, dict[int, str]]:
    return decode_rows(lines, 8, 33, 12, largest_first, with_torch=False)


def fields_of(row: OfficialRow) -> list[bytes]:
    return encode_row(row).split(b"\t")


def test_a_row_comes_back_equal() -> None:
    row = make_row(boxes=3, query='"women\'s" t-shirt, null')
    rows, reasons = decode(encode_row(row))
    assert reasons == {}
    assert rows.queries == [row.query]
    found = [rows.product_ids, rows.image_h, rows.image_w, rows.num_boxes, rows.query_ids, rows.counts]
    assert np.concatenate(found).tolist() == [row.product_id, 100, 200, 3, row.query_id, 3]
    np.testing.assert_array_equal(rows.boxes, row.boxes)
    np.testing.assert_array_equal(rows.labels, row.labels)
    np.testing.assert_array_equal(rows.features, row.features.astype(np.float16))


def test_negative_ids_and_ids_of_19_digits_are_read() -> None:
    ids = [-(2**63), -1, 1_234_567_890_123_456_789, 2**63 - 1]
    rows, reasons = decode(*(encode_row(replace(make_row(), query_id=number, product_id=number)) for number in ids))
    assert reasons == {}
    assert rows.product_ids.tolist() == rows.query_ids.tolist() == ids


def test_a_number_of_boxes_that_is_none_has_no_feature_width() -> None:
    fields = fields_of(make_row())
    assert feature_width(b"\t".join(fields)) == 8
    for wrong in (b"9" * 5000, b"-2", b"0", b"2.0"):
        assert feature_width(b"\t".join([*fields[:3], wrong, *fields[4:]])) is None
    assert feature_width(b"broken") is None


@pytest.mark.parametrize("largest_first", [False, True])
def test_a_block_equals_its_rows_one_by_one(largest_first: bool) -> None:
    lines = [encode_row(make_row(product, boxes=1 + product % 17)) for product in range(40)]
    lines[7], lines[23] = b"broken", lines[23][:-30]
    together, reasons = decode(*lines, largest_first=largest_first)
    assert set(reasons) == {7, 23}
    assert together.places.tolist() == [place for place in range(40) if place not in reasons]
    alone = [decode(lines[place], largest_first=largest_first)[0] for place in together.places]
    for name in ("product_ids", "image_h", "num_boxes", "query_ids", "counts", "boxes", "labels", "features"):
        np.testing.assert_array_equal(getattr(together, name), np.concatenate([getattr(rows, name) for rows in alone]))
    assert together.queries == [query for rows in alone for query in rows.queries]


def test_a_91_box_row_keeps_the_first_twelve() -> None:
    row = make_row(boxes=91)
    rows, _ = decode(encode_row(row))
    assert (rows.num_boxes.tolist(), rows.counts.tolist()) == ([91], [12])
    np.testing.assert_array_equal(rows.boxes, row.boxes[:12])
    np.testing.assert_array_equal(rows.features, row.features[:12].astype(np.float16))


def test_largest_first_keeps_the_largest_boxes_with_their_features_and_labels() -> None:
    row = make_row(boxes=20)
    area = (row.boxes[:, 2] - row.boxes[:, 0]) * (row.boxes[:, 3] - row.boxes[:, 1])
    largest = np.argsort(-area, kind="stable")[:12]
    rows, _ = decode(encode_row(row), largest_first=True)
    np.testing.assert_array_equal(rows.boxes, row.boxes[largest])
    np.testing.assert_array_equal(rows.features, row.features[largest].astype(np.float16))
    np.testing.assert_array_equal(rows.labels, row.labels[largest])


def test_the_box_order_is_top_left_bottom_right() -> None:
    # Given a box that fits a wide image only when its first side is the top
    wide = np.array([[0, 150, 90, 199]], np.float32)
    sound, turned = (replace(make_row(boxes=1), boxes=boxes) for boxes in (wide, wide[:, [1, 0, 3, 2]]))
    rows, reasons = decode(encode_row(sound), encode_row(turned))
    assert rows.boxes.tolist() == wide.tolist()
    assert reasons == {1: "a box leaves the image of 100 x 200 pixels: bottom by 99 pixels (top, left, bottom, right)"}


def test_boxes_that_leave_the_image_by_rounding_are_clipped_and_counted() -> None:
    boxes = np.array([[0, 0, 100.0001, 200.5], [-0.00002, 1, 9, 9], [1, 2, 3, 4]], np.float32)
    rows, reasons = decode(encode_row(make_row(1)), encode_row(replace(make_row(2, boxes=3), boxes=boxes)))
    assert reasons == {}
    assert rows.clipped.tolist() == [0, 2]
    assert rows.boxes[2:].tolist() == [[0, 0, 100, 200], [0, 1, 9, 9], [1, 2, 3, 4]]


def test_both_casts_round_to_the_same_bits() -> None:
    # every power of two that float16 and its subnormals have, ties between two neighbours, infinity, and -0.0
    steps = (1 + np.arange(4096) / 4096)[None] * 2.0 ** np.arange(-26, 17)[:, None]
    values = np.append(steps.ravel(), [0, -0.0, 65_504]).astype(np.float32)
    assert len(values) > 2 * ON_ONE_CORE  # so that torch's last part is a short one
    numpy, torch = (to_float16(values, with_torch) for with_torch in (False, True))
    np.testing.assert_array_equal(numpy.view(np.uint16), torch.view(np.uint16))


def test_minus_zero_is_no_negative_feature() -> None:
    features = np.array([[-0.0] * 8], np.float32)
    rows, reasons = decode(encode_row(replace(make_row(boxes=1), features=features)))
    assert reasons == {}
    assert not rows.features.any()


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
    nan, huge = features.copy(), -features
    nan[1, 3], huge[0, 0] = np.nan, -1e6
    box = make_row().boxes
    return {
        "eight fields": (sound[:8], "8 fields, wanted 9"),
        "ten fields": ([*sound, b""], "10 fields, wanted 9"),
        "empty line": ([b""], "1 fields, wanted 9"),
        "product id": (change(0, b"x1"), "product_id is no whole number"),
        "query id": (change(8, b""), "query_id is no whole number"),
        "number beyond int64": (change(0, b"9" * 19), "product_id is no whole number of 64 bits"),
        "leading zero": (
            change(8, b"007"),
            "query_id is no whole number of 64 bits in its own digits, as 123 or -7: '007'",
        ),
        "another base": (change(0, b"0x1F"), "product_id is no whole number"),
        "negative height": (change(1, b"-5"), "image_h -5"),
        "huge image": (change(1, b"100000000000"), "image_h 100000000000"),
        "no boxes": (change(3, b"0"), "num_boxes 0"),
        "more boxes than data": (change(3, b"3"), "boxes has 44 characters, num_boxes 3 wants 64"),
        "cut features": (change(5, sound[5][:-4]), "features has 84 characters, num_boxes 2 wants 88"),
        "bad base64": (change(5, b"!" + sound[5][1:]), "features is not base64"),
        "padding inside": (change(5, sound[5][:-4] + b"===="), "features"),
        "another width": (change(5, text(features[:, :5])), "features hold 5 numbers a box, ingest.feature_size is 8"),
        "NaN": (change(5, text(nan)), "a feature is NaN or beyond 65504"),
        "beyond float16": (change(5, text(huge)), "a feature is NaN or beyond"),
        "box outside": (change(4, text(box + 200)), "a box leaves the image"),
        "box NaN": (change(4, text(box * np.float32("nan"))), "a box holds a NaN"),
        "sides swapped": (change(4, text(box[:, [2, 3, 0, 1]])), "a box has its sides out of order: ["),
        "unknown label": (change(6, text(np.array([0, 33]))), "unknown label, wanted 0 to 32"),
        "negative label": (change(6, text(np.array([-1, 3]))), "unknown label"),
        "empty query": (change(7, b"  "), "empty query"),
        "not UTF-8": (change(7, b"caf\xe9"), "query is not UTF-8"),
    }


@pytest.mark.parametrize("fault", _broken())
def test_each_fault_has_its_reason(fault: str) -> None:
    fields, reason = _broken()[fault]
    rows, reasons = decode(encode_row(make_row(8)), b"\t".join(fields), encode_row(make_row(9)))
    assert rows.product_ids.tolist() == [8, 9]
    assert list(reasons) == [1]
    assert reason in reasons[1]
