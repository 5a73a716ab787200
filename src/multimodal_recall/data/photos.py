"""A product's photo as a picture in RGB, whatever its file holds, and the boxes that need no detector."""

import os
import struct
import unicodedata
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageOps, UnidentifiedImageError

from multimodal_recall.data.boxes import Sides

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF")
"""Of Pillow's formats, those of photos: for some of the others, Pillow starts programs such as Ghostscript."""
HEIC_SIGNS = (b"ftypheic", b"ftypheix", b"ftypheim", b"ftypheis", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
LONGEST_SIDE = 1600
"""Pixels of an opened photo's longer side at most; models of today read 224 to 1,000."""
MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 2**30 // 12
"""Of a decoded file: 89 million, Pillow's own limit. A JPEG is decoded at an eighth of its size or more."""
THINNEST = 20
"""Longer side over shorter side at most: of a strip, a detector's input would have no pixel left."""
PLAIN_SHARE = 0.75
"""Share of the pixels along a plain background's border that have its colour."""
TOLERANCE = 24
"""Levels of 255 by which a channel may leave the background's colour: JPEG's noise, and soft shadows."""
LONGEST_NAME, LONGEST_PATH, SHOWN_CHARACTERS = 255, 4095, 60
"""Bytes of a file's name and of a path, as Linux allows; characters of a longer name that a message shows."""
NOT_ALL = 0.98
"""Share of the photo from which on a cut-out product is the whole photo."""
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
UNREADABLE_EXIF = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What Pillow raises on EXIF data that are cut off or no EXIF data."""

# A JPEG of twice the limit is still read in bounded memory; beyond, Pillow raises an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class PhotoError(Exception):
    """A product's photo cannot be used; the message is the reason."""


def photo_path(folder: Path, name: str) -> Path:
    """Join the name of a photo in a table to the folder of photos.

    Links inside the folder are followed: the folder belongs to the user, while the table may not. A table from Windows
    writes ``shoes\\red.jpg``.

    Raises:
        PhotoError: If the name is empty, leads out of the folder, or is longer than a file's.
    """
    if "\\" in name and not os.path.isfile(folder / name):  # a Path raises for a name that is too long
        name = name.replace("\\", "/")
    place = Path(os.path.normpath(name)) if name.strip() else Path()
    if place == Path():
        raise PhotoError("no photo is named")
    if place.is_absolute() or place.parts[0] == ".." or "\0" in name:
        raise PhotoError(f"{name!r} leads out of the folder of photos; name a file below it")
    path = folder / place
    if max(map(_bytes, place.parts)) > LONGEST_NAME or _bytes(path) > LONGEST_PATH:
        raise PhotoError(f"{name[:SHOWN_CHARACTERS]!r}... is longer than the name of a file can be")
    return next((folder / spelled for spelled in _spellings(str(place)) if os.path.isfile(folder / spelled)), path)


def _spellings(name: str) -> Iterator[str]:
    """Spell a name as it is, then as other systems do: umlauts in one sign or in two (Macs), and other cases.

    To list the folder would take a listing a photo, or a copy of the list that new photos make wrong.
    """
    yield name
    for form in ("NFC", "NFD"):
        same = unicodedata.normalize(form, name)
        stem, ending = os.path.splitext(same)
        yield from (same, stem + ending.lower(), stem + ending.upper(), same.lower(), same.upper())


def _bytes(name: str | Path) -> int:
    return len(os.fsencode(name))


def open_photo(path: Path) -> Image.Image:
    """Open a photo as people see it: upright, in colour, on white where it is transparent, the first of its pictures.

    Returns:
        A picture in mode RGB whose longer side has ``LONGEST_SIDE`` pixels or fewer; larger ones are scaled down.

    Raises:
        PhotoError: If the file is missing, empty, cut off, no photo, a thin strip, or larger than ``MOST_PIXELS``.
    """
    size = _size_of(path)
    try:
        with Image.open(path, formats=_formats()) as photo:
            photo.draft(None, (2 * LONGEST_SIDE, 2 * LONGEST_SIDE))
            _refuse_size(photo)
            photo.load()
            return _upright(_in_colour(photo), photo)
    except UnidentifiedImageError as error:
        raise PhotoError(_unidentified(path)) from error
    except Image.DecompressionBombError as error:
        raise PhotoError(f"it has more than {2 * MOST_PIXELS:,} pixels; scale it down") from error
    except PhotoError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they meet: OSError, SyntaxError, RuntimeError, ...
        raise PhotoError(f"damaged or cut off ({size:,} bytes): {error or type(error).__name__}") from error


def whole_box(photo: Image.Image) -> Sides:
    """Give the box of the whole photo."""
    return 0, 0, photo.height, photo.width


def product_box(photo: Image.Image) -> Sides | None:
    """Cut the product out of a plain background.

    The background is plain where ``PLAIN_SHARE`` of the border has its colour, the border's median.

    Returns:
        The box around all that has another colour; ``None`` without a plain background, and where the product fills the
        photo.
    """
    pixels = np.asarray(photo)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.int16)
    colour = np.median(border, axis=0)
    if (np.abs(border - colour).max(axis=1) <= TOLERANCE).mean() < PLAIN_SHARE:
        return None
    background = Image.new("RGB", photo.size, tuple(map(int, colour)))
    strongest = ImageChops.difference(photo, background).split()
    differing = ImageChops.lighter(ImageChops.lighter(*strongest[:2]), strongest[2])
    found = differing.point(lambda level: 255 * (level > TOLERANCE)).getbbox()
    if found is None:
        return None
    left, top, right, bottom = found
    fills = (right - left) * (bottom - top) >= NOT_ALL * photo.width * photo.height
    return None if fills else (top, left, bottom, right)


def _size_of(path: Path) -> int:
    """Give the bytes of a file; a pipe would be waited for without end."""
    try:
        if not path.is_file():
            raise PhotoError(f"there is no such file in the folder of photos: {path.name}")
        size = path.stat().st_size
    except OSError as error:
        raise PhotoError(f"it cannot be read: {error.strerror}") from error
    if not size:
        raise PhotoError("the file is empty (0 bytes)")
    return size


@cache
def _formats() -> list[str]:
    """List those of ``FORMATS`` that this machine reads."""
    if find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _unidentified(path: Path) -> str:
    """Say why Pillow knows no kind of photo that a file could be."""
    with path.open("rb") as file:
        start = file.read(16)
    if start[4:12] in HEIC_SIGNS and find_spec("pillow_heif") is None:
        return "a HEIC photo, which takes a further package: pip install pillow-heif"
    kinds = [name for name in _formats() if (accepts := Image.OPEN[name][1]) and accepts(start) is True]
    if kinds:
        return f"damaged or cut off ({path.stat().st_size:,} bytes): it begins as {kinds[0]} does"
    return f"no photo of a known kind (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF); it begins with {start!r}"


def _refuse_size(photo: Image.Image) -> None:
    if photo.width * photo.height > MOST_PIXELS:
        raise PhotoError(
            f"it has {photo.width:,} x {photo.height:,} pixels, and at most {MOST_PIXELS:,} are decoded; scale it down"
        )
    if max(photo.size) > THINNEST * min(photo.size):
        raise PhotoError(
            f"it has {photo.width:,} x {photo.height:,} pixels: a side more than {THINNEST} times as long as the other "
            "is no product photo's"
        )


def _in_colour(photo: Image.Image) -> Image.Image:
    """Turn a decoded photo into RGB, scaled down; transparent parts become white."""
    if photo.mode == "F" or (photo.mode == "I" and photo.format == "TIFF"):
        raise PhotoError("it has 32 bits a level, whose white nobody knows; save it with 8 or 16")
    if photo.mode in SIXTEEN_BITS:  # Pillow would cut off all above 255
        photo = Image.fromarray((np.asarray(photo) >> 8).astype(np.uint8))
    mode = "RGBA" if photo.has_transparency_data else "RGB"
    photo = photo if photo.mode == mode else photo.convert(mode)  # a huge photo is not copied
    photo.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    if photo.mode == "RGBA":
        photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
    return photo.convert("RGB")


def _upright(picture: Image.Image, photo: Image.Image) -> Image.Image:
    """Turn a picture as the EXIF data of its photo say; data that cannot be read turn nothing, as in a browser."""
    try:
        turn = photo.getexif().get(ExifTags.Base.Orientation, 1)
    except UNREADABLE_EXIF:
        return picture
    picture.getexif()[ExifTags.Base.Orientation] = turn
    return ImageOps.exif_transpose(picture)
