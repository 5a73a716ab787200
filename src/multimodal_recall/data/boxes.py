"""Box geometry. A box is (top, left, bottom, right), in pixels on disk and as fractions of the image in a model."""

import numpy as np


def relative_positions(sides: np.ndarray, image_h: np.ndarray, image_w: np.ndarray) -> np.ndarray:
    """Turn boxes in pixels into fractions of their image.

    Args:
        sides: (boxes, 4) top, left, bottom, right in pixels.
        image_h: (boxes,) height in pixels of each box's image.
        image_w: (boxes,) width.

    Returns:
        (boxes, 6) float32: top, left, bottom, right and area, each 0 to 1, and height / width in pixels, where a width
        below 1 counts as 1. Top and bottom are divided by the height, left and right by the width; two published
        solutions divide the other way round.
    """
    relative = sides / np.stack([image_h, image_w, image_h, image_w], axis=1)
    area = (relative[:, 2] - relative[:, 0]) * (relative[:, 3] - relative[:, 1])
    shape = (sides[:, 2] - sides[:, 0]) / np.maximum(sides[:, 3] - sides[:, 1], 1)
    return np.column_stack([relative, area, shape]).astype(np.float32)
