"""For how many right pairs each system is meant, and its learning curve where one was measured: for the model card."""

from typing import Any

SMALL = "hundreds to thousands of right pairs; not measured beyond 2,500"
LARGE = "millions of right pairs, as published; with thousands, compare it with bag_of_words"
FOR_SMALL_DATA = ("query_likelihood", "kernel_words", "bag_of_words")
LEARNING_CURVES = {
    "kernel_words": {300: 0.640, 600: 0.675, 1250: 0.704, 2500: 0.728},
    "bag_of_words": {300: 0.641, 600: 0.694, 1250: 0.731, 2500: 0.743},
}
"""nDCG@5 on valid of the real photos by number of right pairs; docs/experiments.md says how it was measured."""


def data_size(kind: str) -> dict[str, Any]:
    """Give ``meant_for``, in words, and ``learning_curve_on_photos``, empty where none was measured."""
    return {
        "meant_for": SMALL if kind in FOR_SMALL_DATA else LARGE,
        "learning_curve_on_photos": LEARNING_CURVES.get(kind, {}),
    }
