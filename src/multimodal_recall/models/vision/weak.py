"""A feature without weights: colours and edges, for trying things out where no vision model can be had."""

from collections.abc import Iterable

import numpy as np
from more_itertools import chunked
from PIL import Image
from skimage.color import rgb2lab
from skimage.feature import hog

from multimodal_recall.models.vision.embedder import Embedder, on_square

SIDE, CELL, DIRECTIONS = 96, 16, 8
LEVELS = np.array([4, 8, 8])
"""Steps of lightness, green to red, and blue to yellow."""
BANDS = 3
"""Horizontal bands, each with colours of its own: a shoe's sole differs from its top."""
LOWEST, HIGHEST = np.array([0, -40, -40]), np.array([100, 40, 40])
"""Range of CIELAB that is divided into levels; stronger colours count as the last level. Four levels of each axis from
-60 to 60 cost .03 of nDCG@5 on the real photos (kernel ridge regression)."""


class WeakDescriptor:
    """Colours by horizontal band (CIELAB) and directions of edges (HOG) of a crop.

    It tells red from blue and a dot from a stripe, but no shirt from a blouse.
    """

    def __init__(self) -> None:
        self.width = self.embed([Image.new("RGB", (SIDE, SIDE))], 1).shape[1]

    def embed(self, crops: Iterable[Image.Image], batch_size: int) -> np.ndarray:  # noqa: ARG002 - of a Descriptor
        """Describe pictures in mode RGB, (crops, width) float32, each of length 1; one after the other."""
        vectors = [_describe(crop) for crop in crops]
        return np.stack(vectors) if vectors else np.empty((0, self.width), np.float32)


class EmbedderAndWeak:
    """An embedder's feature, then the weak descriptor's: both of one length, and together of length 1.

    The embedder's first ``embedder.width`` numbers, brought to length 1, are its own feature.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder, self.weak = embedder, WeakDescriptor()
        self.width = embedder.width + self.weak.width

    def facts(self) -> str:
        """Say what the features are."""
        return f"{self.embedder.facts()}; with colours and edges {self.width} numbers"

    def embed(self, crops: Iterable[Image.Image], batch_size: int) -> np.ndarray:
        """Describe pictures in mode RGB, (crops, width) float32, each of length 1; a batch is held at a time."""
        vectors = [self._embed(batch) for batch in chunked(crops, batch_size)]
        return np.concatenate(vectors) if vectors else np.empty((0, self.width), np.float32)

    def _embed(self, crops: list[Image.Image]) -> np.ndarray:
        halves = [descriptor.embed(crops, len(crops)) for descriptor in (self.embedder, self.weak)]
        return np.concatenate(halves, axis=1) / np.float32(np.sqrt(2))


def _describe(crop: Image.Image) -> np.ndarray:
    pixels = np.asarray(on_square(crop).resize((SIDE, SIDE), Image.Resampling.BOX))
    edges = hog(pixels, DIRECTIONS, (CELL, CELL), (2, 2), channel_axis=-1)
    edges = edges / max(np.linalg.norm(edges), 1e-9)  # an even picture has none
    vector = np.concatenate([_colours(pixels), edges])
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _colours(pixels: np.ndarray) -> np.ndarray:
    """Count the colours of each band, (BANDS * 256,) square roots of shares: of length 1."""
    lab = (rgb2lab(pixels) - LOWEST) / (HIGHEST - LOWEST)
    levels = np.floor(lab * LEVELS).astype(np.int64).clip(0, LEVELS - 1)
    colours = np.ravel_multi_index(tuple(np.moveaxis(levels, 2, 0)), LEVELS)
    counts = [np.bincount(band.ravel(), minlength=LEVELS.prod()) for band in np.array_split(colours, BANDS)]
    return np.sqrt(np.concatenate(counts) / colours.size)
