"""Box geometry. A box is (top, left, bottom, right), in pixels on disk and as fractions of the image in a model."""

import numpy as np

SIDES = ("top", "left", "bottom", "right")
Sides = tuple[float, float, float, float]
CLIPPED_PIXELS = 1
"""How far a side may leave the image: detectors round, and old ones count the last pixel in. Such a side is clipped."""


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


def clip_boxes(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clip the sides that leave their image by at most ``CLIPPED_PIXELS``.

    Args:
        boxes: (b, 4) float32: top, left, bottom, right in pixels.
        sizes: (b, 2) height and width in pixels of each box's image.

    Returns:
        The boxes (b, 4) float32; which of them were clipped (b,); and which leave their image further, have their sides
        out of order, or hold a NaN (b,).
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    inside = ((low >= 0) & (low <= high) & (high <= sizes)).all(axis=1)
    if inside.all():
        return boxes, ~inside, ~inside
    sound = ((low >= -CLIPPED_PIXELS) & (low <= high) & (high <= sizes + CLIPPED_PIXELS)).all(axis=1)
    fitting = np.clip(boxes, 0, np.hstack([sizes, sizes])).astype(np.float32)
    clipped = sound & ~inside
    return np.where(clipped[:, None], fitting, boxes), clipped, ~sound


def box_fault(box: np.ndarray, height: int, width: int) -> str:
    """Say what is wrong with a faulty box (4,), with the side and how far it leaves the image."""
    top, left, bottom, right = box.tolist()
    beyond = [-top, -left, bottom - height, right - width]
    side = int(np.argmax(beyond))
    if np.isnan(box).any():
        return "a box holds a NaN"
    if beyond[side] > CLIPPED_PIXELS:
        where = f"{SIDES[side]} by {beyond[side]:.7g} pixels"
        return f"a box leaves the image of {height} x {width} pixels: {where} (top, left, bottom, right)"
    return f"a box has its sides out of order: {box.tolist()} (top, left, bottom, right)"
