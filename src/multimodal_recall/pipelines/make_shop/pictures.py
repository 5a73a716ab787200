"""Draw a product as a small PNG, so that a person sees noun, colour, pattern, material, season and audience.

Shapes lie in a square of ``SIDE`` pixels. The pixels of a picture are numbers of a palette: another colour is another
palette of the same pixels.
"""

import io
import zlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 128
"""Pixels of the longer side of a picture."""
BADGE_SIDE = 22
PAPER, INK, FILL, SPOT, SHINE, BROWN, SUN, LEAF, ICE, BLOOM, FIGURE = range(11)
"""Numbers of the palette: what each pixel shows."""
BASE_PALETTE = {
    PAPER: "#ffffff",
    INK: "#3a3a3a",
    SHINE: "#f4fbff",
    BROWN: "#6b4423",
    SUN: "#f2b600",
    LEAF: "#c2611f",
    ICE: "#4aa3df",
    BLOOM: "#e0559b",
    FIGURE: "#7d8791",
}
FILLS = {
    "black": ("#262626", "#c9c9c9"),
    "white": ("#f2f2ee", "#8f97a3"),
    "red": ("#d3222a", "#ffffff"),
    "blue": ("#2358c4", "#ffffff"),
    "green": ("#2c8c3c", "#ffffff"),
    "pink": ("#f59bc0", "#9c2a5f"),
}
"""Of each colour the product's and its pattern's."""
SHAPES: dict[str, list[tuple]] = {
    "shirt": [
        ("polygon", (48, 34, 80, 34, 88, 40, 88, 112, 40, 112, 40, 40)),
        ("polygon", (40, 40, 16, 52, 26, 72, 40, 64)),
        ("polygon", (88, 40, 112, 52, 102, 72, 88, 64)),
    ],
    "jacket": [
        ("polygon", (46, 28, 82, 28, 90, 34, 90, 116, 38, 116, 38, 34)),
        ("polygon", (38, 32, 26, 38, 14, 96, 30, 100, 38, 66)),
        ("polygon", (90, 32, 102, 38, 114, 96, 98, 100, 90, 66)),
    ],
    "dress": [
        ("polygon", (46, 26, 54, 26, 58, 38, 70, 38, 74, 26, 82, 26, 86, 44, 76, 62, 52, 62, 42, 44)),
        ("polygon", (52, 62, 76, 62, 108, 118, 20, 118)),
    ],
    "jeans": [("polygon", (40, 26, 88, 26, 98, 118, 76, 118, 64, 56, 52, 118, 30, 118))],
    "handbag": [("polygon", (24, 64, 104, 64, 114, 112, 14, 112)), ("arc", (40, 30, 88, 98), 180, 360)],
    "shoes": [("polygon", (14, 60, 40, 60, 58, 74, 92, 80, 114, 92, 114, 102, 14, 102))],
    "boots": [
        ("polygon", (36, 26, 72, 26, 72, 80, 98, 90, 106, 104, 106, 108, 34, 108)),
        ("polygon", (34, 106, 54, 106, 54, 116, 34, 116)),
        ("polygon", (67, 106, 106, 106, 106, 116, 67, 116)),
    ],
    "hat": [("ellipse", (8, 80, 120, 108)), ("polygon", (38, 94, 44, 44, 56, 38, 72, 38, 84, 44, 90, 94))],
    "tea": [("polygon", (24, 58, 92, 58, 84, 104, 72, 112, 44, 112, 32, 104)), ("arc", (78, 62, 112, 98), 270, 450)],
    "lipstick": [
        ("polygon", (50, 60, 50, 40, 78, 26, 78, 60)),
        ("polygon", (46, 62, 82, 62, 82, 80, 46, 80)),
        ("polygon", (40, 82, 88, 82, 88, 118, 40, 118)),
    ],
    "doll": [
        ("ellipse", (48, 24, 80, 56)),
        ("polygon", (58, 54, 70, 54, 88, 100, 40, 100)),
        ("polygon", (58, 54, 34, 74, 40, 80, 60, 68)),
        ("polygon", (70, 54, 94, 74, 88, 80, 68, 68)),
        ("polygon", (54, 100, 62, 100, 62, 118, 54, 118)),
        ("polygon", (66, 100, 74, 100, 74, 118, 66, 118)),
    ],
    "blocks": [
        ("polygon", (20, 76, 62, 76, 62, 118, 20, 118)),
        ("polygon", (66, 76, 108, 76, 108, 118, 66, 118)),
        ("polygon", (43, 32, 85, 32, 85, 74, 43, 74)),
    ],
}
"""Of each noun the filled shapes: Pillow's drawing method and the arguments before its colour."""
LINES: dict[str, list[tuple[int, ...]]] = {
    "shirt": [(48, 34, 64, 48, 80, 34)],
    "jacket": [(64, 44, 64, 116), (46, 28, 64, 44, 82, 28), (44, 90, 56, 90), (72, 90, 84, 90)],
    "dress": [(52, 62, 76, 62)],
    "jeans": [(38, 34, 90, 34), (64, 34, 64, 56), (42, 36, 50, 46), (86, 36, 78, 46)],
    "handbag": [(22, 76, 106, 76), (60, 76, 60, 84, 68, 84, 68, 76)],
    "shoes": [(14, 94, 114, 94), (48, 74, 56, 66), (58, 80, 66, 72), (68, 84, 76, 76)],
    "boots": [(36, 36, 72, 36), (36, 108, 106, 108)],
    "hat": [(40, 82, 88, 82), (39, 90, 89, 90)],
    "tea": [(46, 50, 42, 42, 48, 34), (60, 50, 56, 42, 62, 34), (74, 50, 70, 42, 76, 34)],
    "lipstick": [(50, 46, 78, 46)],
    "doll": [(56, 38, 58, 38), (70, 38, 72, 38), (58, 47, 64, 50, 70, 47)],
    "blocks": [
        (30, 86, 52, 108),
        (30, 108, 52, 86),
        (78, 86, 96, 86, 96, 108, 78, 108, 78, 86),
        (54, 64, 64, 42, 74, 64, 54, 64),
    ],
}
"""Details of each noun, drawn over pattern and material."""


def draw_picture(noun: str, values: Mapping[str, str], image_h: int, image_w: int) -> bytes:
    """Draw a product as a PNG of the image's proportions.

    Args:
        noun: A key of ``SHAPES``.
        values: Colour, pattern, material, season and audience by these names.
        image_h: Height of the product's image, in pixels.
        image_w: Its width.
    """
    height, width = (max(1, round(SIDE * side / max(image_h, image_w))) for side in (image_h, image_w))
    picture = Image.new("P", (width, height), PAPER)
    side = min(height, width)
    drawn = _product(noun, values["pattern"], values["material"]).resize((side, side))
    picture.paste(drawn, ((width - side) // 2, (height - side) // 2))
    picture.paste(_badge(values["season"]), (2, 2))
    picture.paste(_badge(values["audience"]), (width - BADGE_SIDE - 2, 2))
    picture.putpalette(_palette(values["colour"]))
    written = io.BytesIO()
    # Pillow's own strategy for palettes takes twice as long for 1 % fewer bytes.
    picture.save(written, "PNG", bits=4, compress_type=zlib.Z_DEFAULT_STRATEGY)
    return written.getvalue()


@lru_cache
def _palette(colour: str) -> bytes:
    fill, spot = FILLS[colour]
    colours = {**BASE_PALETTE, FILL: fill, SPOT: spot}
    return b"".join(bytes.fromhex(colours[number][1:]) for number in range(len(colours)))


@lru_cache(maxsize=256)
def _product(noun: str, pattern: str, material: str) -> Image.Image:
    """Draw a noun with pattern and material, ``SIDE`` pixels high and wide."""
    mask = _mask(noun)
    drawn = np.where(mask, FILL, PAPER).astype(np.uint8)
    drawn[mask & _pattern(pattern)] = SPOT
    _lay_material(drawn, mask, material)
    image = Image.fromarray(drawn)
    pen = ImageDraw.Draw(image)
    for line in LINES[noun]:
        pen.line(line, fill=INK, width=3)
    return _numbered(image)


def _numbered(image: Image.Image) -> Image.Image:
    """Take the grey values of an image as numbers of a palette."""
    return Image.frombytes("P", image.size, image.tobytes())


def _mask(noun: str) -> np.ndarray:
    """Give the pixels (SIDE, SIDE) bool of a noun."""
    image = Image.new("L", (SIDE, SIDE))
    pen = ImageDraw.Draw(image)
    for kind, *how in SHAPES[noun]:
        getattr(pen, kind)(*how, fill=255, **({"width": 8} if kind == "arc" else {}))
    return np.asarray(image) > 0


@lru_cache
def _pattern(name: str) -> np.ndarray:
    """Give the pixels (SIDE, SIDE) bool that a pattern colours."""
    y, x = np.indices((SIDE, SIDE))
    if name == "striped":
        return y % 12 < 5
    # Dots and flowers stand in rows 16 pixels apart, every second row moved by half of that.
    across, down = (x + 8 * (y // 16 % 2)) % 16 - 8, y % 16 - 8
    if name == "polka-dot":
        return across**2 + down**2 <= 14
    if name == "floral":
        petals = [(across - i) ** 2 + (down - j) ** 2 <= 5 for i, j in ((-3, 0), (3, 0), (0, -3), (0, 3))]
        return np.logical_or.reduce(petals) & (across**2 + down**2 > 2)
    return np.zeros((SIDE, SIDE), bool)


def _lay_material(drawn: np.ndarray, mask: np.ndarray, material: str) -> None:
    """Draw the outline of a material: thin of cotton, stitched of leather, furry of wool, shiny of plastic."""
    y, x = np.indices(mask.shape)
    edge = mask & ~_shrunk(mask, 3)
    drawn[edge] = INK
    if material == "leather":
        drawn[mask & ~_shrunk(mask, 7)] = BROWN
        seam = _shrunk(mask, 9) & ~_shrunk(mask, 11)
        drawn[seam & ((x + y) // 4 % 2 == 0)] = BROWN
    elif material == "wool":
        fur = ~_shrunk(~mask, 9) & ~mask
        drawn[fur & ((x - y) % 5 < 2)] = INK
        drawn[edge & ((x - y) % 5 >= 2)] = FILL
    elif material == "plastic":
        drawn[_shrunk(mask, 5) & ((x + y) % 48 < 9)] = SHINE


def _shrunk(mask: np.ndarray, size: int) -> np.ndarray:
    """Take (size - 1) / 2 pixels from the edges of a mask."""
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MinFilter(size))) > 0


@lru_cache
def _badge(name: str) -> Image.Image:
    """Draw a season or an audience."""
    image = Image.new("L", (BADGE_SIDE, BADGE_SIDE), PAPER)
    BADGES[name](ImageDraw.Draw(image))
    return _numbered(image)


def _spring(pen: ImageDraw.ImageDraw) -> None:
    for x, y in ((4, 0), (13, 0), (1, 8), (16, 8), (8, 14)):
        pen.ellipse((x - 1, y, x + 6, y + 7), fill=BLOOM)
    pen.ellipse((7, 6, 15, 14), fill=SUN)


def _summer(pen: ImageDraw.ImageDraw) -> None:
    for line in ((11, 0, 11, 21), (0, 11, 21, 11), (3, 3, 18, 18), (18, 3, 3, 18)):
        pen.line(line, fill=SUN, width=2)
    pen.ellipse((5, 5, 17, 17), fill=SUN)


def _autumn(pen: ImageDraw.ImageDraw) -> None:
    pen.polygon((11, 0, 14, 6, 20, 5, 17, 11, 21, 15, 12, 16, 11, 16, 1, 15, 5, 11, 2, 5, 8, 6), fill=LEAF)
    pen.line((11, 8, 11, 21), fill=BROWN, width=2)


def _winter(pen: ImageDraw.ImageDraw) -> None:
    for line in ((11, 0, 11, 21), (1, 5, 21, 16), (21, 5, 1, 16)):
        pen.line(line, fill=ICE, width=2)
    pen.line((7, 2, 11, 6, 15, 2), fill=ICE, width=1)
    pen.line((7, 19, 11, 15, 15, 19), fill=ICE, width=1)


def _man(pen: ImageDraw.ImageDraw) -> None:
    pen.ellipse((8, 0, 14, 6), fill=FIGURE)
    pen.polygon((5, 8, 17, 8, 17, 15, 14, 15, 14, 21, 8, 21, 8, 15, 5, 15), fill=FIGURE)


def _woman(pen: ImageDraw.ImageDraw) -> None:
    pen.ellipse((8, 0, 14, 6), fill=FIGURE)
    pen.polygon((9, 8, 13, 8, 19, 17, 13, 17, 13, 21, 9, 21, 9, 17, 3, 17), fill=FIGURE)


def _children(pen: ImageDraw.ImageDraw) -> None:
    for x in (0, 11):
        pen.ellipse((x + 2, 6, x + 8, 12), fill=FIGURE)
        pen.polygon((x + 1, 14, x + 9, 14, x + 7, 21, x + 3, 21), fill=FIGURE)


def _baby(pen: ImageDraw.ImageDraw) -> None:
    pen.ellipse((4, 2, 18, 16), fill=FIGURE)
    pen.ellipse((7, 10, 15, 18), fill=BLOOM)
    pen.ellipse((9, 16, 13, 21), outline=BLOOM, width=1)


BADGES = {
    "spring": _spring,
    "summer": _summer,
    "autumn": _autumn,
    "winter": _winter,
    "men": _man,
    "women": _woman,
    "children": _children,
    "baby's": _baby,
}
