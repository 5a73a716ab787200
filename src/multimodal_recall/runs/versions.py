"""Which code and packages made something: git commit, package versions, and a digest for checkpoints."""

import hashlib
import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import multimodal_recall

PACKAGES = ("torch", "transformers", "accelerate", "numpy", "pyarrow", "kedro")
TRAINING = ("data", "negatives", "models", "training", "evaluation/metrics.py", "evaluation/scoring.py")
"""Folders and files of the source between the tables and the weights."""


def git_commit() -> str | None:
    """The commit of the code that runs; ``None`` outside a git checkout."""
    folder = Path(multimodal_recall.__file__).parent
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return None
    return answer.stdout.strip() or None


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide figures."""
    return {name: version(name) for name in PACKAGES}


def fingerprint(decisive: list[Any], *arrays: np.ndarray) -> str:
    """Stand for all that decides trained weights: facts, arrays, packages, and the source that trains.

    Args:
        decisive: What JSON can hold.
        arrays: Further numbers.
    """
    digest = hashlib.sha256(json.dumps([*decisive, package_versions()], sort_keys=True).encode())
    package = Path(multimodal_recall.__file__).parent
    for name in TRAINING:
        for source in sorted((package / name).rglob("*.py")) or [package / name]:
            digest.update(source.read_bytes())
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()
