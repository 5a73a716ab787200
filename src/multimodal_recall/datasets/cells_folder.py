"""The cells of an index, which faiss has made: a file that is read only if its digest is the recorded one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodal_recall.datasets.atomic import AtomicDataset, DamagedError
from multimodal_recall.datasets.digests import digest_file
from multimodal_recall.datasets.product_index import FACTS, IDS, REMAKE
from multimodal_recall.runtime.kedro_private import TablePreview

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.cells import Cells

FILE = "cells.faiss"


class CellsFolder(AtomicDataset["Cells", "Cells"]):
    """The inverted file, the product ids, and facts: the file's digest, what it was made of, and what it finds.

    A made-up file makes faiss write or read anywhere in memory, so the digest is compared before faiss reads it. The
    index has all that is in this folder: a folder that is damaged or gone is made anew from it.

    Raises:
        DamagedError: If the file is not what was saved.
    """

    holds_folder = True

    def _write(self, path: Path, data: "Cells") -> None:
        import faiss

        path.mkdir()
        faiss.write_index(data.file, str(path / FILE))
        np.save(path / IDS, data.product_ids)
        facts = {name: getattr(data, name) for name in ("probes", "made_of", "recall", "queries")}
        text = json.dumps({**facts, "digest": digest_file(path / FILE)}, indent=2)
        (path / FACTS).write_text(text, encoding="utf-8")

    def _read(self, path: Path) -> "Cells":
        from multimodal_recall.models.cells import Cells, import_faiss

        facts, faiss = json.loads((path / FACTS).read_text(encoding="utf-8")), import_faiss()
        if digest_file(path / FILE) != facts.pop("digest"):
            raise DamagedError(f"{path / FILE} is damaged: it is not what was saved. Make it anew with: {REMAKE}")
        # IO_FLAG_MMAP starts 32 threads a search to read ahead: 2.0 ms of CPU in place of 0.2 for 100,000 products.
        file = faiss.read_index(str(path / FILE), faiss.IO_FLAG_MMAP_IFC)
        return Cells(file, np.load(path / IDS, mmap_mode="r", allow_pickle=False), **facts)

    def preview(self) -> TablePreview:
        """Show what it was made of and what it finds in kedro-viz."""
        facts = json.loads((self.load_path() / FACTS).read_text(encoding="utf-8"))
        return TablePreview(pd.DataFrame([facts]).astype(str).to_dict(orient="split"))
