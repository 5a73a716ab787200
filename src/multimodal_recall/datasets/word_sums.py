"""What a chunk adds to the regression of ``kernel_words``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.runtime.kedro_private import TablePreview

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.kernel_ridge import WordSums

ARRAYS, FACTS = ("phi_phi", "phi", "words", "word_counts", "word_phi"), ("origin", "pairs", "seconds")
FACTS_FILE = "facts.json"


class WordSumsFolder(AtomicDataset["WordSums", "WordSums"]):
    """The sums of a chunk: a ``.npy`` for each array, memory-mapped when it is read, and facts on their origin."""

    holds_folder = True

    def _write(self, path: Path, data: "WordSums") -> None:
        path.mkdir()
        for name in ARRAYS:
            np.save(path / f"{name}.npy", getattr(data, name))
        facts = {name: getattr(data, name) for name in FACTS}
        (path / FACTS_FILE).write_text(json.dumps(facts, indent=2), encoding="utf-8")

    def _read(self, path: Path) -> "WordSums":
        from multimodal_recall.models.kernel_ridge import WordSums

        arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        return WordSums(**arrays, **json.loads((path / FACTS_FILE).read_text(encoding="utf-8")))

    def preview(self) -> TablePreview:
        """Show pairs, words, landmarks and origin in kedro-viz."""
        sums = self.load()
        facts = {"pairs": sums.pairs, "words": len(sums.words), "landmarks": len(sums.phi), **sums.origin}
        return TablePreview(pd.DataFrame([facts]).astype(str).to_dict(orient="split"))
