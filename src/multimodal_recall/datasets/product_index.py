"""The index of a ranker: the encoded products of each chunk, and the list of the chunks that are searched together."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from kedro.io import DatasetError

from multimodal_recall.datasets.atomic import AtomicDataset, DamagedError, verify_files
from multimodal_recall.datasets.digests import digest_files
from multimodal_recall.runtime.kedro_private import TablePreview

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.index import IndexChunk, ProductIndex

PRODUCT_IDS, VALUES, FACTS = "product_ids.npy", "values.npy", "facts.json"
REMAKE = "kedro run --pipelines=index"


class IndexChunkFolder(AtomicDataset["IndexChunk", "IndexChunk"]):
    """The encoded products of a chunk: two arrays, memory-mapped when they are read, and facts on their origin."""

    holds_folder = True

    def _write(self, path: Path, data: "IndexChunk") -> None:
        path.mkdir()
        np.save(path / PRODUCT_IDS, data.product_ids)
        np.save(path / VALUES, data.values)
        names = ("ranker", "model", "products", "word_major")
        (path / FACTS).write_text(json.dumps({name: getattr(data, name) for name in names}, indent=2), encoding="utf-8")

    def _read(self, path: Path) -> "IndexChunk":
        return open_index_chunk(path)

    def preview(self) -> TablePreview:
        """Show model, products and size in kedro-viz."""
        chunk = self.load()
        facts = {"ranker": chunk.ranker, "model": chunk.model, "products": len(chunk.product_ids)}
        facts |= {"numbers of a product": chunk.values.size // max(1, len(chunk.product_ids))}
        return TablePreview(pd.DataFrame([facts]).astype(str).to_dict(orient="split"))


def open_index_chunk(folder: Path) -> "IndexChunk":
    """Map the arrays of a folder into memory; nothing in them can run code."""
    from multimodal_recall.models.index import IndexChunk

    ids, values = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (PRODUCT_IDS, VALUES))
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return IndexChunk(product_ids=ids, values=values, folder=folder, **facts)


class IndexList(AtomicDataset["ProductIndex", "ProductIndex"]):
    """Small JSON with the model, and the folder and digests of each chunk; ``load`` compares and maps the chunks.

    Paths are relative to the JSON, so that ``data/`` can be moved.

    Raises:
        DamagedError: If a file is not what was listed.
        DatasetError: If a folder is gone.
    """

    def _write(self, path: Path, data: "ProductIndex") -> None:
        chunks = {
            name: {
                "folder": os.path.relpath(chunk.folder, path.parent),
                "products": chunk.products,
                "digests": digest_files(chunk.folder),
            }
            for name, chunk in data.chunks.items()
        }
        listed = {"ranker": data.ranker, "model": data.model, "chunks": chunks}
        path.write_text(json.dumps(listed, indent=2), encoding="utf-8")

    def _read(self, path: Path) -> "ProductIndex":
        from multimodal_recall.models.index import ProductIndex

        listed, chunks = read_index_list(path), {}
        for name, facts in listed["chunks"].items():
            folder = facts["folder"]
            if not folder.is_dir():
                raise DatasetError(f"{path} lists {folder}, which is gone. Make the index anew with: {REMAKE}")
            if digest_files(folder) != facts["digests"]:
                raise DamagedError(f"{folder} is damaged: it is not what {path} lists. Make it anew with: {REMAKE}")
            chunks[name] = open_index_chunk(folder)
        return ProductIndex(listed["ranker"], listed["model"], chunks)

    def verify_whole(self, path: Path) -> None:
        """Compare the list and each file that it names."""
        super().verify_whole(path)
        for facts in read_index_list(path)["chunks"].values():
            verify_files(facts["folder"])

    def preview(self) -> TablePreview:
        """Show the versions of each chunk in kedro-viz."""
        chunks = read_index_list(self.load_path())["chunks"]
        rows = [(name, facts["folder"].parent.name, facts["products"]) for name, facts in chunks.items()]
        return TablePreview(pd.DataFrame(rows, columns=["chunk", "version", "products"]).to_dict(orient="split"))


def read_index_list(path: Path) -> dict[str, Any]:
    """Read ``ranker``, ``model`` and ``chunks``, each with its absolute ``folder``, which may no longer exist.

    Raises:
        DamagedError: If the file is no such list.
    """
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        chunks = {
            name: {
                "folder": (path.parent / facts["folder"]).resolve(),
                "products": facts["products"],
                "digests": facts["digests"],
            }
            for name, facts in listed["chunks"].items()
        }
        return {"ranker": listed["ranker"], "model": listed["model"], "chunks": chunks}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedError(f"{path} is damaged: it is no list of chunks. Make it anew with: {REMAKE}") from error
