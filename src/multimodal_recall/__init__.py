"""Rank product images for a shopper's text query (KDD Cup 2020, Multimodalities Recall)."""

import sys

__version__ = "0.1.0"

if sys.platform not in ("linux", "darwin"):
    raise SystemExit(
        f"multimodal-recall runs on Linux and macOS, and this is {sys.platform}: outputs are renamed into place while "
        "another process may read them, which Windows refuses. On Windows use WSL 2."
    )
