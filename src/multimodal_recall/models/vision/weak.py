"""A feature without weights: colours and edges, for trying things out where no vision model can be had."""

from collections.abc import Iterable

import numpy as np
from PIL import Image
from skimage.color import rgb2lab
from skimage.feature import hog

from multimodal_recall.models.vision.embedder import on_square

SIDE, CELL, DIRECTIONS = 96, 16, 8
LEVELS = 4
"""Steps of each axis of colour."""
BANDS = 3
"""Horizontal bands, each with colours of its own: a shoe's sole differs from its top."""
LOWEST, HIGHEST = np.array([0, -60, -60]), np.array([100.001, 60, 60])
"""Range of CIELAB that is divided into levels; the few stronger colours of photos count as the last level."""


class WeakDescriptor:
    """Colours by horizontal band (CIELAB) and directions of edges (HOG) of a crop.

    It tells red from blue and a dot from a stripe, but no shirt from a blouse.
    """

    name = "weak descriptor (colours and edges, no vision model)"
    reads_text = False

    def __init__(self) -> None:
        self.width = self.embed([Image.new("RGB", (SIDE, SIDE))], 1).shape[1]

    def embed(self, crops: Iterable[Image.Image], batch_size: int) -> np.ndarray:  # noqa: ARG002 - of a Descriptor
        """Describe pictures in mode RGB, (crops, width) float32, each of length 1; one after the other."""
        vectors = [_describe(crop) for crop in crops]
        return np.stack(vectors) if vectors else np.empty((0, self.width), np.float32)


def _describe(crop: Image.Image) -> np.ndarray:
    pixels = np.asarray(on_square(crop).resize((SIDE, SIDE), Image.Resampling.BOX))
    edges = hog(pixels, DIRECTIONS, (CELL, CELL), (2, 2), channel_axis=-1)
    edges = edges / max(np.linalg.norm(edges), 1e-9)  # an even picture has none
    vector = np.concatenate([_colours(pixels), edges])
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _colours(pixels: np.ndarray) -> np.ndarray:
    """Count the colours of each band, (BANDS * LEVELS ** 3,) square roots of shares: of length 1."""
    lab = (rgb2lab(pixels) - LOWEST) / (HIGHEST - LOWEST)
    levels = (lab * LEVELS).astype(np.int64).clip(0, LEVELS - 1)
    colours = levels @ [LEVELS**2, LEVELS, 1]
    counts = [np.bincount(band.ravel(), minlength=LEVELS**3) for band in np.array_split(colours, BANDS)]
    return np.sqrt(np.concatenate(counts) / colours.size)
