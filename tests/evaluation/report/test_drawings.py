import io
import re
from base64 import b64decode
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from multimodal_recall.evaluation.report.drawings import box_colours, draw_product, draw_strip, short_label

TIMES = "\N{MULTIPLICATION SIGN}"
PRODUCT = {
    "product_id": 7,
    "image_h": 200,
    "image_w": 100,
    "top": [10.0, 0.0],
    "left": [20.0, 0.0],
    "bottom": [40.0, 200.0],
    "right": [80.0, 90.0],
    "labels": ["<shoes>", "others"],
}
COLOURS = box_colours([PRODUCT["labels"]])


def test_boxes_are_drawn_to_scale_largest_first() -> None:
    drawing = draw_product(PRODUCT, COLOURS, None)
    found = re.findall(r'class="box" [^>]*x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', drawing.svg)
    assert found == [("0", "0", "90", "200"), ("20", "10", "60", "30")]
    assert '<rect class="edge" width="100" height="200"/>' in drawing.svg
    assert drawing.boxes == [("others", f"90 {TIMES} 200"), ("<shoes>", f"60 {TIMES} 30")]
    assert drawing.more == 0
    assert f'aria-label="2 boxes: others 90 {TIMES} 200, &lt;shoes&gt; 60 {TIMES} 30"' in drawing.svg


def test_a_strip_shows_its_products_in_order_and_frames_the_right_ones() -> None:
    products = pd.DataFrame(
        [{**PRODUCT, "caption": "<1>", "framed": True}, {**PRODUCT, "caption": "2", "framed": False}]
    )
    strip = draw_strip(products, COLOURS, None)
    assert re.findall(r'<figure class="(\w*)"><figcaption>(.*?)</figcaption><svg', strip) == [
        ("framed", "&lt;1&gt;"),
        ("", "2"),
    ]
    assert strip.count("<p>1 others, 2 &lt;shoes&gt;</p>") == 2


def test_only_the_largest_boxes_are_listed_but_all_are_drawn() -> None:
    crowd = {name: value * 6 if isinstance(value, list) else value for name, value in PRODUCT.items()}
    drawing = draw_product(crowd, COLOURS, None)
    assert drawing.svg.count('class="box"') == 12
    assert len(drawing.boxes) + drawing.more == 12


def test_numbers_of_boxes_with_one_corner_do_not_cover_each_other() -> None:
    crowd = {name: value * 3 if isinstance(value, list) else value for name, value in PRODUCT.items()}
    places = re.findall(r'<text x="(\d+)" y="(\d+)"', draw_product(crowd, COLOURS, None).svg)
    assert len(set(places)) == 6


def test_a_photo_is_embedded_scaled_down(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 2000), "red").save(tmp_path / "7.jpg")
    svg = draw_product(PRODUCT, COLOURS, tmp_path).svg
    data = re.search(r'href="data:image/jpeg;base64,([^"]+)" width="100" height="200"', svg)
    with Image.open(io.BytesIO(b64decode(data[1]))) as photo:
        assert photo.size == (160, 320)
    assert "<image" not in draw_product({**PRODUCT, "product_id": 8}, COLOURS, tmp_path).svg


def test_labels() -> None:
    assert short_label("top clothes (coat, jacket, shirt, etc.)") == "top clothes"
    assert short_label("luggage, leather goods") == "luggage"
    assert COLOURS["others"] == "var(--soft)"
    assert COLOURS["<shoes>"].startswith("hsl(")


@pytest.mark.parametrize("content", [b"", b"no photo", b"\xff\xd8\xff\xe0 cut off"])
def test_a_broken_photo_is_named_and_the_boxes_are_drawn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "7.jpg").write_bytes(content)
    drawing = draw_product({**PRODUCT, "product_id": 7}, COLOURS, tmp_path)
    assert f"the photo {tmp_path / '7.jpg'} cannot be read" in caplog.text
    assert drawing == draw_product({**PRODUCT, "product_id": 7}, COLOURS, None)
