"""Which code and packages made an output: git commit, package versions, and a digest for checkpoints."""

import hashlib
import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import multimodal_recall

PACKAGES = ("torch", "transformers", "accelerate", "numpy", "pyarrow", "kedro")


def git_commit() -> str | None:
    """Give the commit of the code that runs; ``None`` outside a git checkout."""
    folder = Path(multimodal_recall.__file__).parent
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return None
    return answer.stdout.strip() or None


def package_versions() -> dict[str, str]:
    """Give the versions of the packages that decide figures."""
    return {name: version(name) for name in PACKAGES}


def fingerprint(decisive: list[Any], *arrays: np.ndarray) -> str:
    """Digest all that decides trained weights: values that JSON can hold, arrays of numbers, and packages."""
    digest = hashlib.sha256(json.dumps([*decisive, package_versions()], sort_keys=True).encode())
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()
