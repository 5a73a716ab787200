import io
import re
from base64 import b64decode
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from multimodal_recall.evaluation.report.drawings import box_colours, draw_product, draw_strip, find_photo, short_label

TIMES = "\N{MULTIPLICATION SIGN}"
PRODUCT = {
    "product_id": 7,
    "title": "red <boots>",
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
    told = f"2 boxes: others 90 {TIMES} 200, &lt;shoes&gt; 60 {TIMES} 30"
    assert f'aria-label="red &lt;boots&gt;; {told}"' in drawing.svg
    assert f'aria-label="{told}"' in draw_product({**PRODUCT, "title": None}, COLOURS, None).svg
    assert (drawing.title, drawing.has_photo) == ("red <boots>", False)


def test_a_strip_shows_its_products_in_order_and_frames_the_right_ones() -> None:
    products = pd.DataFrame(
        [{**PRODUCT, "caption": "<1>", "framed": True}, {**PRODUCT, "caption": "2", "framed": False}]
    )
    strip = draw_strip(products, COLOURS, None)
    assert re.findall(r'<figure class="(\w*)" tabindex="0"><figcaption>(.*?)</figcaption><svg', strip) == [
        ("framed", "&lt;1&gt;"),
        ("", "2"),
    ]
    below = '<p class="title">red &lt;boots&gt;</p><p>product 7</p><p class="labels">1 others, 2 &lt;shoes&gt;</p>'
    assert strip.count(below) == 2
    assert 'class="title"' not in draw_strip(products.assign(title=None), COLOURS, None)


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


def embedded(folder: Path) -> tuple[str, bytes]:
    """Type and content of the photo in a drawing."""
    found = re.search(r'href="data:image/(\w+);base64,([^"]+)"', draw_product(PRODUCT, COLOURS, folder).svg)
    return found[1], b64decode(found[2])


def test_a_small_png_is_embedded_as_it_is(tmp_path: Path) -> None:
    Image.new("P", (60, 120), 3).save(tmp_path / "7.png", bits=4)
    assert embedded(tmp_path) == ("png", (tmp_path / "7.png").read_bytes())


def test_a_large_png_is_scaled_down_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (1000, 2000), (255, 0, 0, 0)).save(tmp_path / "7.png")
    kind, content = embedded(tmp_path)
    with Image.open(io.BytesIO(content)) as photo:
        assert (kind, photo.format, photo.size, photo.getpixel((5, 5))) == ("jpeg", "JPEG", (160, 320), (255, 255, 255))


def test_a_jpeg_comes_before_a_png(tmp_path: Path) -> None:
    assert find_photo(7, None) is None
    assert find_photo(7, tmp_path) is None
    for ending in ("png", "jpeg", "jpg"):
        (tmp_path / f"7.{ending}").touch()
        assert find_photo(7, tmp_path) == tmp_path / f"7.{ending}"


def test_nothing_lies_over_a_photo_but_boxes_on_demand(tmp_path: Path) -> None:
    Image.new("RGB", (100, 200), "red").save(tmp_path / "7.jpg")
    drawing = draw_product(PRODUCT, COLOURS, tmp_path)
    assert drawing.has_photo
    photo, _, after = drawing.svg.partition('preserveAspectRatio="none"/>')
    assert photo.startswith('<svg class="product photo"')
    assert re.fullmatch(r'<g class="boxes">(<rect class="box".*?</rect>){2}(<text.*?</text>){2}</g></svg>', after)
    assert 'class="product"' in draw_product(PRODUCT, COLOURS, None).svg


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


def test_a_png_with_a_text_that_unpacks_to_megabytes_is_drawn_as_boxes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = PngInfo()
    text.add_text("comment", "x" * 5_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "7.png", pnginfo=text)
    assert draw_product({**PRODUCT, "product_id": 7}, COLOURS, tmp_path).svg
    assert f"the photo {tmp_path / '7.png'} cannot be read" in caplog.text
