"""Photos of every kind that shops have, drawn here: each is opened as people see it, or refused with its reason."""

import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from multimodal_recall.data import photos
from multimodal_recall.data.photos import LONGEST_SIDE, PhotoError, open_photo, photo_path, product_box, whole_box

RED, BLUE, WHITE = (220, 30, 40), (30, 40, 210), (255, 255, 255)
UPRIGHT_SIX = 6  # EXIF's word for: turn me a quarter to the right


def halves(mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    return picture.convert(mode)


def seen_through() -> Image.Image:
    """Red on the left, transparent black on the right."""
    picture = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    picture.paste((*RED, 255), (0, 0, 30, 40))
    return picture


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = UPRIGHT_SIX
    return exif


def write_png_of_16_bits(path: Path) -> None:
    """Pillow writes no such PNG: red on the left, blue on the right, 16 bits a channel."""
    line = b"\0" + b"".join(
        struct.pack(">3H", *(257 * level for level in colour)) for colour in [RED] * 30 + [BLUE] * 30
    )
    chunks = [
        (b"IHDR", struct.pack(">2I5B", 60, 40, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(line * 40)),
        (b"IEND", b""),
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(map(png_chunk, *zip(*chunks, strict=True))))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_frames(path: Path) -> None:
    halves().save(path, save_all=True, append_images=[Image.new("RGB", (60, 40), WHITE)])


SOUND: dict[str, Callable[[Path], None]] = {
    "plain.jpg": lambda path: halves().save(path, quality=95, subsampling=0),
    "progressive.jpg": lambda path: halves().save(path, quality=95, progressive=True),
    "cmyk.jpg": lambda path: halves("CMYK").save(path, quality=95),
    "plain.png": lambda path: halves().save(path),
    "palette.png": lambda path: halves().quantize(4).save(path),
    "sixteen_bits.png": write_png_of_16_bits,
    "plain.webp": lambda path: halves().save(path, lossless=True),
    "plain.bmp": lambda path: halves().save(path),
    "plain.tif": lambda path: halves().save(path),
    "cmyk.tif": lambda path: halves("CMYK").save(path),
    "plain.avif": lambda path: halves().save(path, quality=95),
    "plain.jp2": lambda path: halves().save(path),
    "no_ending": lambda path: halves().save(path, "PNG"),
    "a_png_called.jpg": lambda path: halves().save(path, "PNG"),
    "first_of_two.gif": write_frames,
    "first_of_two.webp": lambda path: halves().save(
        path, save_all=True, lossless=True, append_images=[Image.new("RGB", (60, 40), WHITE)]
    ),
    "first_of_two.png": write_frames,
    "first_of_two.tif": write_frames,
}
TRANSPARENT: dict[str, Callable[[Path], None]] = {
    "alpha.png": lambda path: seen_through().save(path),
    "alpha.webp": lambda path: seen_through().save(path, lossless=True),
    "palette.png": lambda path: seen_through().quantize(8).save(path),
    "palette.gif": lambda path: seen_through().save(path),
    "colour_key.png": lambda path: halves().save(path, transparency=BLUE),
}
TURNED = ["turned.jpg", "turned.png", "turned.webp", "turned.tif", "turned.avif"]


def colours(picture: Image.Image) -> list[tuple[int, int, int]]:
    """Colours in the middle of the left half and of the right half."""
    assert picture.mode == "RGB"
    return [picture.getpixel((picture.width * place // 4, picture.height // 2)) for place in (1, 3)]


def assert_near(found: list[tuple[int, int, int]], wanted: list[tuple[int, int, int]]) -> None:
    np.testing.assert_allclose(found, wanted, atol=16)


@pytest.mark.parametrize("name", SOUND)
def test_every_kind_of_photo_shows_its_colours(tmp_path: Path, name: str) -> None:
    SOUND[name](tmp_path / name)
    photo = open_photo(tmp_path / name)
    assert photo.size == (60, 40)
    assert_near(colours(photo), [RED, BLUE])


@pytest.mark.parametrize("name", TRANSPARENT)
def test_what_is_transparent_becomes_white(tmp_path: Path, name: str) -> None:
    TRANSPARENT[name](tmp_path / name)
    assert_near(colours(open_photo(tmp_path / name)), [RED, WHITE])


@pytest.mark.parametrize("name", TURNED)
def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path, name: str) -> None:
    halves().save(tmp_path / name, exif=turned())
    photo = open_photo(tmp_path / name)
    assert photo.size == (40, 60)
    assert_near(colours(photo.rotate(90, expand=True)), [RED, BLUE])


def test_exif_that_cannot_be_read_turns_nothing(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.webp", lossless=True, exif=b"Exif\0\0MM\0\xb0\0\0\0\x08")
    assert_near(colours(open_photo(tmp_path / "a.webp")), [RED, BLUE])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_grey_photos_keep_their_levels(tmp_path: Path, mode: str) -> None:
    grey = Image.new("L", (60, 40), 0)
    grey.paste(255, (30, 0, 60, 40))
    half = Image.fromarray(np.asarray(grey).astype(np.uint16) * 128)  # half as bright
    (half if mode == "I;16" else grey.convert(mode)).save(tmp_path / "grey.png")
    bright = 127 if mode == "I;16" else 255
    assert_near(colours(open_photo(tmp_path / "grey.png")), [(0, 0, 0), (bright, bright, bright)])


def test_a_huge_jpeg_is_opened_small_and_in_little_memory(tmp_path: Path) -> None:
    halves(size=(9000, 6000)).save(tmp_path / "huge.jpg", exif=turned())
    photo = open_photo(tmp_path / "huge.jpg")
    assert photo.size == (round(LONGEST_SIDE * 2 / 3), LONGEST_SIDE)
    assert_near(colours(photo.rotate(90, expand=True)), [RED, BLUE])


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def write_noise(path: Path, kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, kind)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"])
def test_a_photo_that_is_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo"
    content = write_noise(path, kind)
    path.write_bytes(cut(content))
    with pytest.raises(PhotoError, match=rf"^damaged or cut off \({len(cut(content)):,} bytes\): "):
        open_photo(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "JPEG2000"])
def test_whatever_is_damaged_no_other_error_escapes(tmp_path: Path, kind: str) -> None:
    path, random = tmp_path / "photo", np.random.default_rng(1)
    content, refused = write_noise(path, kind), 0
    for _ in range(30):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(0, len(damaged), 12)] = random.integers(0, 256, 12)
        path.write_bytes(damaged.tobytes()[: random.integers(1, 2 * len(content))])
        try:
            assert open_photo(path).mode == "RGB"
        except PhotoError as error:
            assert str(error)  # noqa: PT017 - any reason
            refused += 1
    assert refused


def header_of_a_bomb(path: Path, side: int) -> None:
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(content + png_chunk(b"IDAT", zlib.compress(b"\0" * 10**6)) + png_chunk(b"IEND", b""))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no bytes": (lambda path: path.touch(), r"the file is empty \(0 bytes\)"),
    "a text": (lambda path: path.write_text("<html>404</html>"), "no photo of a known kind .* begins with b'<html>404"),
    "a drawing that runs a program": (lambda path: halves().save(path, "EPS"), "no photo of a known kind"),
    "no file": (lambda path: None, "there is no such file in the folder of photos: photo"),
    "a folder": (Path.mkdir, "there is no such file in the folder of photos: photo"),
    "a pipe": (os.mkfifo, "there is no such file in the folder of photos: photo"),
    "a bomb": (lambda path: header_of_a_bomb(path, 100_000), "it has more than 178,956,970 pixels; scale it down"),
    "a large PNG": (lambda path: header_of_a_bomb(path, 10_000), "it has 10,000 x 10,000 pixels, and at most"),
    "a start alone": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0"), r"damaged .*\(4 bytes\): it begins as JPEG"),
    "a strip": (
        lambda path: Image.new("RGB", (6000, 2)).save(path, "PNG"),
        "it has 6,000 x 2 pixels: a side more than 20 times as long as the other is no product photo's",
    ),
    "levels of 32 bits": (
        lambda path: Image.new("F", (60, 40), 0.5).save(path, "TIFF"), "it has 32 bits a level, .*; save it"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_photo_is_refused_with_its_reason(tmp_path: Path, fault: str) -> None:
    write, reason = REFUSED[fault]
    write(tmp_path / "photo")
    tracemalloc.start()
    with pytest.raises(PhotoError, match=reason):
        open_photo(tmp_path / "photo")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**7


def test_heic_names_the_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "find_spec", lambda name: None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(PhotoError, match="HEIC photo, which takes a further package: pip install pillow-heif"):
        open_photo(tmp_path / "a.heic")


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "..", "a\0b.jpg", "..\\secret.jpg", "a\\..\\..\\b"]
)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PhotoError, match="leads out of the folder of photos; name a file below it"):
        photo_path(tmp_path, name)


@pytest.mark.parametrize("name", ["", " ", ".", "a/.."])
def test_an_empty_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PhotoError, match="no photo is named"):
        photo_path(tmp_path, name)


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "a\\" + "x" * 300, "é/" * 1_500 + "a.jpg", "a.jpg," * 60])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PhotoError, match="is longer than the name of a file can be"):
        photo_path(tmp_path, name)


def test_a_name_below_the_folder_is_joined(tmp_path: Path) -> None:
    assert photo_path(tmp_path, "shirts/../shoes/7 b.jpg") == tmp_path / "shoes/7 b.jpg"


def test_a_path_from_windows_is_read_as_one_unless_a_file_has_this_name(tmp_path: Path) -> None:
    assert photo_path(tmp_path, "shoes\\red\\7.jpg") == tmp_path / "shoes/red/7.jpg"
    (tmp_path / "shoes\\7.jpg").touch()
    assert photo_path(tmp_path, "shoes\\7.jpg") == tmp_path / "shoes\\7.jpg"


@pytest.mark.parametrize(
    ("named", "is_file"),
    [
        ("M\u00fctze.jpg", "Mu\u0308tze.jpg"),  # a zip from a Mac
        ("Mu\u0308tze.jpg", "M\u00fctze.jpg"),
        ("red.jpg", "red.JPG"),
        ("red.JPG", "red.jpg"),
        ("Red.jpg", "Red.JPG"),
        ("Shoes\\Red.JPG", "shoes/red.jpg"),
        ("h\u00fcte/red.jpg", "HU\u0308TE/RED.JPG"),
    ],
)
def test_a_name_that_is_spelled_otherwise_finds_its_file(tmp_path: Path, named: str, is_file: str) -> None:
    (tmp_path / is_file).parent.mkdir(exist_ok=True)
    (tmp_path / is_file).touch()
    assert photo_path(tmp_path, named) == tmp_path / is_file
    (tmp_path / "other").mkdir()
    assert photo_path(tmp_path / "other", "red.jpg") == tmp_path / "other/red.jpg"


def test_of_two_spellings_the_named_one_is_taken_and_no_folder_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("red.jpg", "red.JPG", "RED.JPG"):
        (tmp_path / name).touch()
    monkeypatch.setattr(os, "scandir", None)
    monkeypatch.setattr(os, "listdir", None)
    assert [photo_path(tmp_path, name).name for name in ("red.JPG", "red.jpg", "RED.JPG")] == [
        "red.JPG", "red.jpg", "RED.JPG"
    ]  # fmt: skip


def drawn(background: str, box: tuple[int, int, int, int]) -> Image.Image:
    picture = Image.new("RGB", (120, 90), background)
    ImageDraw.Draw(picture).ellipse(box, fill=RED)
    return picture


@pytest.mark.parametrize("background", ["white", "black", "#c8d0d4"])
def test_the_cut_out_is_the_product_on_a_plain_background(tmp_path: Path, background: str) -> None:
    drawn(background, (30, 10, 79, 69)).save(tmp_path / "a.jpg", quality=95)
    found = product_box(open_photo(tmp_path / "a.jpg"))
    np.testing.assert_allclose(found, (10, 30, 70, 80), atol=3)
    assert product_box(drawn(background, (30, 10, 79, 69))) == (10, 30, 70, 80)


def test_a_product_that_touches_a_side_is_cut_out() -> None:
    picture = Image.new("RGB", (120, 90), "white")
    picture.paste(RED, (30, 40, 80, 90))
    assert product_box(picture) == (40, 30, 90, 80)


def test_nothing_is_cut_out_of_other_photos() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    assert product_box(Image.fromarray(noise)) is None
    assert product_box(Image.new("RGB", (120, 90), "white")) is None
    assert product_box(drawn("white", (0, 0, 119, 89))) is None
    assert product_box(Image.new("RGB", (1, 1))) is None


def test_the_whole_box_is_height_then_width() -> None:
    assert whole_box(Image.new("RGB", (120, 90))) == (0, 0, 90, 120)
