"""Products drawn as the boxes detected on their photo, to scale."""

import base64
import io
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from PIL import Image

from multimodal_recall.data.photos import PhotoError, open_photo

logger = logging.getLogger(__name__)

LISTED = 4
"""Boxes that are named below a drawing; the rest are counted."""
PHOTO_SIDE = 320
"""Pixels of an embedded photo's longer side: twice the size of the drawing, for sharp screens."""
STRIP_STYLE = Markup("""<style>
.products { --box: 65% 38%; --soft: #56606c; background: #fff; color: #1b1f24; display: flex; gap: 8px; overflow-x: auto; padding: 4px; }
.products figure { border: 1px solid #d6dae0; border-radius: 6px; flex: 0 0 150px; margin: 0; padding: 6px; position: relative; }
.products figure.framed { border-color: #0b6e4f; box-shadow: inset 0 0 0 2px #0b6e4f; }
.products figcaption, .products p { font: 12px/1.35 system-ui, sans-serif; margin: 0; overflow-wrap: anywhere; }
.products p { color: var(--soft); margin-top: 4px; }
.products p.title { color: inherit; }
.products svg { display: block; height: 130px; margin-top: 4px; overflow: visible; width: 100%; }
.products .edge { fill: #fff; stroke: var(--soft); }
.products .box { fill: currentColor; fill-opacity: .13; stroke: currentColor; stroke-width: 1.5; }
.products .photo .box { fill-opacity: 0; stroke-width: 2; }
.products .edge, .products .box { vector-effect: non-scaling-stroke; }
.products text { font-weight: 600; paint-order: stroke; stroke: #fff; stroke-width: .3em; }
.products .photo .boxes, .products .photo ~ .labels { visibility: hidden; }
.products figure:hover .photo .boxes, .products figure:focus .photo .boxes, .products .photo:hover ~ .labels, .products figure:focus .photo ~ .labels { visibility: visible; }
.products .photo ~ .labels { background: #fff; bottom: 2px; left: 2px; padding: 4px; position: absolute; right: 2px; }
</style>""")  # noqa: E501
"""Style of a strip in a notebook: always light, since a notebook may be dark. ``style.css.j2`` is that of the pages."""
PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
Box = tuple[float, float, float, float, str]
"""Top, left, bottom, right (pixels) and label name."""


@dataclass(frozen=True)
class Drawing:
    """A product's drawing and the text below it."""

    svg: Markup
    name: str
    """The product's SKU, or its id where it has none."""
    title: str | None
    has_photo: bool
    """Whether ``svg`` shows a photo; boxes and labels then show on demand alone."""
    boxes: list[tuple[str, str]]
    """Label and size (width by height, pixels) of the largest boxes, in the order of their numbers in ``svg``."""
    more: int
    """Number of boxes that ``boxes`` leaves out."""


def short_label(name: str) -> str:
    """Cut a label's name at its bracket or first comma: the official names run to 80 characters."""
    return re.split(r" \(|, ", name, maxsplit=1)[0]


def box_colours(labels: Iterable[list[str]]) -> dict[str, str]:
    """Give each label a CSS colour, unlike its neighbours' in the alphabet; the label "others" is grey."""
    names = sorted({name for product in labels for name in product})
    hues = {name: f"hsl({round(place * 137.5) % 360} var(--box))" for place, name in enumerate(names)}  # golden angle
    return hues | {"others": "var(--soft)"}


def draw_product(product: Mapping[str, Any], colours: Mapping[str, str], photos: Path | None) -> Drawing:
    """Draw a product: its photo, where it has one, and its boxes, numbered from the largest.

    Args:
        product: ``product_id``, ``title`` and ``sku`` (texts, or missing), ``image_h``, ``image_w`` and the lists
            ``top``, ``left``, ``bottom``, ``right`` (pixels) and ``labels`` (names).
        colours: Colour of each label; see ``box_colours``.
        photos: Absolute path of the folder of photos, or ``None``; see ``find_photo``.
    """
    return draw_over(product, colours, _embed_photo(product["product_id"], photos))


def draw_over(product: Mapping[str, Any], colours: Mapping[str, str], photo: str | None) -> Drawing:
    """Draw a product's boxes over the photo of an address, or without a photo; see ``draw_product``."""
    columns = (product[name] for name in ("top", "left", "bottom", "right", "labels"))
    boxes = sorted(zip(*columns, strict=True), key=lambda box: (box[0] - box[2]) * (box[3] - box[1]))
    height, width = product["image_h"], product["image_w"]
    unit = max(height, width) / 100
    title, name = (text if isinstance(text := product.get(kind), str) else None for kind in ("title", "sku"))
    named = [(short_label(box[4]), _size(box)) for box in boxes]
    told = f"{len(boxes)} boxes: {', '.join(map(' '.join, named))}"
    opening = '<svg class="{}" role="img" aria-label="{}" viewBox="{:.0f} {:.0f} {:.0f} {:.0f}">'
    place = (-unit, -unit, width + 2 * unit, height + 2 * unit)
    kind, description = "product photo" if photo else "product", f"{title}; {told}" if title else told
    parts = [
        Markup(opening).format(kind, description, *place),
        Markup('<rect class="edge" width="{}" height="{}"/>').format(width, height),
    ]
    if photo:
        image = '<image href="{}" width="{}" height="{}" preserveAspectRatio="none"/>'
        parts.append(Markup(image).format(photo, width, height))
    drawing = Markup("").join([*parts, _draw_boxes(boxes, colours, unit), Markup("</svg>")])
    name = name or str(product["product_id"])
    return Drawing(drawing, name, title, photo is not None, named[:LISTED], len(named[LISTED:]))


def _draw_boxes(boxes: list[Box], colours: Mapping[str, str], unit: float) -> Markup:
    """Draw boxes, largest first, then their numbers, so that no box covers a number."""
    drawn = [_draw_box(number, box, colours[box[4]]) for number, box in enumerate(boxes, start=1)]
    number = Markup('<text x="{:.0f}" y="{:.0f}" font-size="{:.0f}">{}</text>')
    corners = enumerate(_free_corners(boxes, unit), start=1)
    numbers = [number.format(left, top, 9 * unit, place) for place, (left, top) in corners]
    return Markup('<g class="boxes">{}</g>').format(Markup("").join([*drawn, *numbers]))


def draw_strip(products: pd.DataFrame, colours: Mapping[str, str], photos: Path | None) -> Markup:
    """Draw products side by side, as HTML for a notebook; see ``draw_product`` for the arguments.

    The products, one a row, also have ``caption`` (a text above the drawing) and ``framed`` (bool, a green frame for a
    right product).
    """
    figure = Markup('<figure class="{}" tabindex="0"><figcaption>{}</figcaption>{}{}<p>product {}</p>{}</figure>')
    title, labels = Markup('<p class="title">{}</p>'), Markup('<p class="labels">{}</p>')
    parts = [STRIP_STYLE, Markup('<div class="products">')]
    for product in products.to_dict("records"):
        drawing = draw_product(product, colours, photos)
        named = [f"{number} {label}" for number, (label, _) in enumerate(drawing.boxes, start=1)]
        listed = labels.format(", ".join([*named, *[f"and {drawing.more} smaller"] * (drawing.more > 0)]))
        words = title.format(drawing.title) if drawing.title else ""
        shown = (product["caption"], drawing.svg, words, drawing.name, listed)
        parts.append(figure.format("framed" * product["framed"], *shown))
    return Markup("").join([*parts, Markup("</div>")])


def _size(box: Box) -> str:
    return f"{box[3] - box[1]:.0f} \N{MULTIPLICATION SIGN} {box[2] - box[0]:.0f}"


def _draw_box(number: int, box: Box, colour: str) -> Markup:
    top, left, bottom, right, label = box
    title = f"{number} {label}: {_size(box)} pixels"
    form = '<rect class="box" color="{}" x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}"><title>{}</title></rect>'
    return Markup(form).format(colour, left, top, right - left, bottom - top, title)


def _free_corners(boxes: list[Box], unit: float) -> Iterator[tuple[float, float]]:
    """Place each box's number in the box's upper left corner, or to the right of a number that would be covered."""
    taken: list[tuple[float, float]] = []
    for top, left, *_ in boxes:
        x, y = left + 2 * unit, top + 9 * unit
        while any(abs(x - other_x) < 11 * unit and abs(y - other_y) < 8 * unit for other_x, other_y in taken):
            x += unit
        taken.append((x, y))
        yield x, y


def find_photo(product_id: int, photos: Path | None) -> Path | None:
    """Name a product's photo, ``<product_id>`` with one of ``PHOTO_ENDINGS``; ``None`` without a photo."""
    files = [photos / f"{product_id}{ending}" for ending in PHOTO_ENDINGS] if photos else []
    return next((file for file in files if file.is_file()), None)


def _embed_photo(product_id: int, photos: Path | None) -> str | None:
    """Encode a product's photo as a data address, scaled down unless it is a small PNG; ``None`` without a photo."""
    path = find_photo(product_id, photos)
    small = None if path is None else read_small(path)
    return small and f"data:image/{small[0]};base64,{base64.b64encode(small[1]).decode()}"


def read_small(path: Path) -> tuple[str, bytes] | None:
    """Read a photo as it is if it is a small PNG, else as a small JPEG.

    Returns:
        ``png`` or ``jpeg``, and the content of such a file; ``None`` with a warning for a broken photo.
    """
    try:
        picture = open_photo(path)
        with Image.open(path) as photo:
            is_small_png = photo.format == "PNG" and max(photo.size) <= PHOTO_SIDE
        return ("png", path.read_bytes()) if is_small_png else ("jpeg", _as_small_jpeg(picture))
    except PhotoError as error:
        logger.warning("the photo %s cannot be read (%s): the product is drawn as its boxes alone", path, error)
        return None


def _as_small_jpeg(picture: Image.Image) -> bytes:
    """Scale a picture down to ``PHOTO_SIDE``."""
    written = io.BytesIO()
    picture.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    picture.save(written, "JPEG", quality=80)
    return written.getvalue()
