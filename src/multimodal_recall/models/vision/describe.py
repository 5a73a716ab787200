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
from multimodal_recall.models.vision.weak import WeakDescriptor
from multimodal_recall.runtime.device import Hardware

WHOLE, CUT_OUT = "photo", "product"
"""Labels of the boxes without a detector, for products without a category."""


class ProductPhoto(NamedTuple):
    """A product and the file of its photo."""

    product_id: int
    path: Path
    category: str | None = None


class _Opened(NamedTuple):
    product: ProductPhoto
    photo: Image.Image


def describe(
    photos: Sequence[ProductPhoto],
    options: DescribeOptions,
    hardware: Hardware,
    tell: Callable[[int], None] = lambda _: None,
) -> tuple[pa.Table, pa.Table]:
    """Find the boxes of each product's photo, and describe each box.

    A photo is opened once. At most ``options.batch_size`` photos are held at a time.

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
    rejected: list[dict[str, object]] = []
    tables = [TABLES["described"].empty_table()]
    for batch in chunked(photos, options.batch_size):
        opened = list(_open_all(batch, rejected))
        tables.append(_describe(opened, options, descriptor, detector))
        tell(len(batch))
    return pa.concat_tables(tables), pa.Table.from_pylist(rejected, TABLES["rejected_photos"])


def load_descriptor(options: DescribeOptions, hardware: Hardware, local_files_only: bool = False) -> Descriptor:
    """Load the vision model that the options name, or the weak descriptor.

    Raises:
        CheckpointError: As ``Embedder``.
    """
    if options.embedder is None:
        return WeakDescriptor()
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


def _open_all(photos: Sequence[ProductPhoto], rejected: list[dict[str, object]]) -> Iterator[_Opened]:
    for product in photos:
        try:
            yield _Opened(product, open_photo(product.path))
        except PhotoError as error:
            rejected.append({"product_id": product.product_id, "photo": str(product.path), "reason": str(error)})


def _describe(
    opened: list[_Opened], options: DescribeOptions, descriptor: Descriptor, detector: Detector | None
) -> pa.Table:
    """Describe the photos of a batch; their crops are cut out as the descriptor asks for them."""
    found = detector.detect([photo for _, photo in opened]) if detector and opened else [[] for _ in opened]
    boxes, labels = [], []
    for (product, photo), detections in zip(opened, found, strict=True):
        own = list(_own_boxes(photo, product.category))
        named = [*own, *((detection.sides, detection.label) for detection in detections)][: options.max_boxes]
        boxes.append([sides for sides, _ in named])
        labels.append([label for _, label in named])
    crops = (_crop(photo, sides) for (_, photo), found in zip(opened, boxes, strict=True) for sides in found)
    features = descriptor.embed(crops, options.batch_size).astype(np.float16)
    splits = np.cumsum([len(found) for found in boxes])[:-1]
    return pa.table(
        {
            "product_id": [product.product_id for product, _ in opened],
            "image_h": [photo.height for _, photo in opened],
            "image_w": [photo.width for _, photo in opened],
            "boxes": [np.asarray(found, np.float32).ravel() for found in boxes],
            "features": [part.ravel() for part in np.split(features, splits)][: len(opened)],
            "class_labels": labels,
        },
        TABLES["described"],
    )


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
