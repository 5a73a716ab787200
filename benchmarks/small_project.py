"""A copy of the project without data, and options with which a whole run takes seconds."""

import shutil
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]

SMALL: dict[str, dict[str, Any]] = {
    "make_shop": {"train_rows": 120, "valid_queries": 8, "test_queries": 8},
    "chunks": {"train": 2},
    "language_model": {"pretrain_epochs": 1, "hidden_size": 16, "layers": 2, "heads": 2, "vocabulary_size": 200},
    "word_vectors": {"size": 8, "epochs": 1},
    "sample_negatives": {"epochs": 2},
    "two_tower": {
        "model": {"image_state": 16, "word_state": 8, "head_state": 16},
        "epochs": 2,
        "batch_size": 50,
    },
    "evaluate": {"bootstrap_draws": 50},
}
"""Options of a small shop: a whole run checks the wiring, not the score."""


def copy_project(target: Path) -> Path:
    """Copy configuration and code, without data."""
    for name in ("conf", "src"):
        shutil.copytree(PROJECT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(PROJECT / name, target)
    return target
