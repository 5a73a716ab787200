"""Photos in, boxes and features out: a row a product, as ``data.own_parquet`` reads it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from more_itertools import chunked
from PIL import Image

from multimodal_recall.config.describing import DescribeOptions
from multimodal_recall.data.boxes import Sides
from multimodal_recall.data.photos import PhotoError, open_photo, product_box, whole_box
from multimodal_recall.data.schemas import TABLES
from multimodal_recall.models.vision.detector import Detector
from multimodal_recall.models.vision.embedder import Descriptor, Embedder
from multimodal_recall.models.vision.weak import EmbedderAndWeak, WeakDescriptor
from multimodal_recall.runtime.device import Hardware

WHOLE, CUT_OUT = "photo", "product"
"""Labels of the boxes without a detector, for products without a category."""


class ProductPhoto(NamedTuple):
    """A product and the file of its photo."""

    product_id: int
    path: Path
    category: str | None = None


def describe(
    photos: Sequence[ProductPhoto],
    options: DescribeOptions,
    hardware: Hardware,
    tell: Callable[[int], None] = lambda _: None,
) -> tuple[pa.Table, pa.Table]:
    """Find the boxes of each product's photo, and describe each box.

    A photo is opened once. At most ``options.batch_size`` photos and as many crops are held at a time.

    Args:
        photos: The products, each once.
        options: Detector and embedder.
        hardware: Device and precision of both.
        tell: Gets the number of photos that are done, batch by batch.

    Returns:
        ``described``, a row a photo that could be read, and ``rejected_photos``, a row for each of the others, both in
        the order of ``photos``.

    Raises:
        CheckpointError: If an option names no checkpoint that can be used.
    """
    descriptor, detector = load_descriptor(options, hardware), load_detector(options, hardware)
    rows: list[dict[str, object]] = []
    rejected: list[dict[str, object]] = []
    # One stream of crops, so that all batches but the last have one size: of changing sizes, torch keeps the memory.
    crops = _crops(photos, options, detector, rows, rejected, tell)
    features = descriptor.embed(crops, options.batch_size).astype(np.float16)
    described, refused = (TABLES[name] for name in ("described", "rejected_photos"))
    ends = np.cumsum([0, *(descriptor.width * len(row["class_labels"]) for row in rows)])
    # Made of an array a row, the column would take several times the memory for a moment.
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(features.ravel()))
    table = pa.Table.from_pylist(rows, described)
    table = table.set_column(described.get_field_index("features"), described.field("features"), lists)
    return table, pa.Table.from_pylist(rejected, refused)


def load_descriptor(options: DescribeOptions, hardware: Hardware, local_files_only: bool = False) -> Descriptor:
    """Load the vision model that the options name, the weak descriptor, or both.

    Raises:
        CheckpointError: As ``Embedder``.
    """
    embedder = load_embedder(options, hardware, local_files_only)
    if embedder is None:
        return WeakDescriptor()
    return EmbedderAndWeak(embedder) if options.colours_and_edges else embedder


def load_embedder(options: DescribeOptions, hardware: Hardware, local_files_only: bool = False) -> Embedder | None:
    """Load the vision model that the options name, if any.

    Raises:
        CheckpointError: As ``Embedder``.
    """
    if options.embedder is None:
        return None
    return Embedder("describe.embedder", options.embedder, hardware, local_files_only)


def load_detector(options: DescribeOptions, hardware: Hardware, local_files_only: bool = False) -> Detector | None:
    """Load the detector that the options name, if any.

    Raises:
        CheckpointError: As ``Detector``.
    """
    if options.detector is None:
        return None
    return Detector(
        "describe.detector", options.detector, options.labels, options.threshold, hardware, local_files_only
    )


def _crops(
    photos: Sequence[ProductPhoto],
    options: DescribeOptions,
    detector: Detector | None,
    rows: list[dict[str, object]],
    rejected: list[dict[str, object]],
    tell: Callable[[int], None],
) -> Iterator[Image.Image]:
    """Yield the crop of each box, photo by photo; add a row for each photo to ``rows`` or ``rejected``."""
    for batch in chunked(photos, options.batch_size):
        opened = list(_open_all(batch, rejected))
        found = detector.detect([photo for _, photo in opened]) if detector and opened else [[] for _ in opened]
        for (product, photo), detections in zip(opened, found, strict=True):
            own = _own_boxes(photo, product.category)
            boxes = [*own, *((detection.sides, detection.label) for detection in detections)][: options.max_boxes]
            rows.append(_row(product, photo, boxes))
            yield from (_crop(photo, sides) for sides, _ in boxes)
        tell(len(batch))


def _open_all(
    photos: Sequence[ProductPhoto], rejected: list[dict[str, object]]
) -> Iterator[tuple[ProductPhoto, Image.Image]]:
    for product in photos:
        try:
            yield product, open_photo(product.path)
        except PhotoError as error:
            rejected.append({"product_id": product.product_id, "photo": str(product.path), "reason": str(error)})


def _row(product: ProductPhoto, photo: Image.Image, boxes: list[tuple[Sides, str]]) -> dict[str, object]:
    """Give a row of ``described``, whose features are not known yet."""
    return {
        "product_id": product.product_id,
        "image_h": photo.height,
        "image_w": photo.width,
        "boxes": np.array([sides for sides, _ in boxes], np.float32).ravel(),
        "class_labels": [label for _, label in boxes],
    }


def _own_boxes(photo: Image.Image, category: str | None) -> Iterator[tuple[Sides, str]]:
    """Yield the boxes that need no detector."""
    yield whole_box(photo), category or WHOLE
    cut_out = product_box(photo)
    if cut_out is not None:
        yield cut_out, category or CUT_OUT


def _crop(photo: Image.Image, sides: Sides) -> Image.Image:
    """Cut a box out, with the pixels that it touches in part."""
    top, left, bottom, right = sides
    return photo.crop((int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))))
