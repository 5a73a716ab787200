"""The cells of an index, which faiss has made: a file that is read only if its digest is the recorded one."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multimodal_recall.datasets.atomic import AtomicDataset, DamagedError, verify_file
from multimodal_recall.datasets.digests import digest_file
from multimodal_recall.datasets.product_index import FACTS, PRODUCT_IDS, REMAKE
from multimodal_recall.runtime.kedro_private import TablePreview

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.cells import Cells

FILE = "cells.faiss"


class CellsFolder(AtomicDataset["Cells", "Cells"]):
    """The inverted file, the product ids, and facts: the file's digest, what it was made of, and what it finds.

    A made-up file makes faiss write or read anywhere in memory, so the digest is compared before faiss reads it, with a
    record or without. The record has no second digest of the file: it has that of the facts. The index has all that is
    in this folder: a folder that is damaged or gone is made anew from it. Paths of the facts are relative to the
    folder, so that ``data/`` can be moved.

    Raises:
        DamagedError: If the file is not what was saved, or if another version of the code has saved the facts.
    """

    holds_folder = True

    def _write(self, path: Path, data: "Cells") -> None:
        import faiss

        path.mkdir()
        faiss.write_index(data.file, str(path / FILE))
        np.save(path / PRODUCT_IDS, data.product_ids)
        facts = {name: getattr(data, name) for name in ("probes", "most_chunks", "recall", "queries")}
        place = path.parent.resolve()
        facts["starts"] = {os.path.relpath(folder, place): start for folder, start in data.starts.items()}
        text = json.dumps({**facts, "digest": digest_file(path / FILE)}, indent=2)
        (path / FACTS).write_text(text, encoding="utf-8")

    def _read(self, path: Path) -> "Cells":
        from multimodal_recall.models.cells import Cells, import_faiss

        faiss, facts = import_faiss(), self._read_facts(path)
        product_ids = np.load(path / PRODUCT_IDS, mmap_mode="r", allow_pickle=False)
        # IO_FLAG_MMAP starts 32 threads a search to read ahead: 2.0 ms of CPU in place of 0.2 for 100,000 products.
        file = faiss.read_index(str(path / FILE), faiss.IO_FLAG_MMAP_IFC)
        return Cells(file, product_ids, **facts)

    def _read_facts(self, path: Path) -> dict[str, Any]:
        """Read the facts, with absolute paths, and compare the file with its digest."""
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        verify_file(path / FILE, facts.pop("digest"), REMAKE)
        if "starts" not in facts:
            raise DamagedError(f"{path} was made by another version of the code. Make it anew with: {REMAKE}")
        starts, place = facts["starts"], path.parent.resolve()
        return {**facts, "starts": {(place / folder).resolve(): start for folder, start in starts.items()}}

    def _digest(self, path: Path) -> dict[str, Any]:
        """Digests of all files but the one whose digest stands in the facts."""
        return {"files": {name: digest_file(path / name) for name in (PRODUCT_IDS, FACTS)}}

    def verify_whole(self, path: Path) -> None:
        """Compare all files of the folder."""
        super().verify_whole(path)
        self._read_facts(path)

    def preview(self) -> TablePreview:
        """Show what it was made of and what it finds in kedro-viz."""
        facts = json.loads((self.load_path() / FACTS).read_text(encoding="utf-8"))
        return TablePreview(pd.DataFrame([facts]).astype(str).to_dict(orient="split"))
