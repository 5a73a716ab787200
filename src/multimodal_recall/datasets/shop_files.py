"""A shop's own tables and photos as datasets of the catalog."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal_recall.data.shop_tables import ShopTable
from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.datasets.digests import State
from multimodal_recall.runtime.kedro_private import TablePreview

LINKED_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


class ShopTableFile(AtomicDataset[ShopTable, ShopTable]):
    """A shop's table, CSV, TSV or parquet, which a run only reads; ``load`` gives a lazy handle."""

    advice = " Name the table's present place: kedro import-shop PRODUCTS CLICKS PHOTOS --env=<env>"

    def _write(self, path: Path, data: ShopTable) -> None:
        raise NotImplementedError("a shop's own table is not written")

    def _read(self, path: Path) -> ShopTable:
        return ShopTable(path)

    def preview(self, rows: int = 5) -> TablePreview:
        """Show the first rows in kedro-viz."""
        table = self.load()
        shown = next(iter(table.blocks(table.columns)), None)
        data = shown.rows[:rows] if shown else []
        return TablePreview({"index": list(range(len(data))), "columns": table.columns, "data": data})


class PhotoLinks(AtomicDataset[Mapping[int, Path], Path]):
    """A folder of links to photos, ``<product_id>`` with the photo's ending: ``save`` takes paths, ``load`` the folder.

    A photo with an ending that report and search do not look for, such as ``.heic``, is linked as ``.jpg``: it is read
    by its content.
    """

    holds_folder = True

    def _write(self, path: Path, data: Mapping[int, Path]) -> None:
        path.mkdir()
        for product_id, photo in data.items():
            ending = photo.suffix.lower()
            (path / f"{product_id}{ending if ending in LINKED_ENDINGS else '.jpg'}").symlink_to(photo.resolve())

    def _read(self, path: Path) -> Path:
        return path

    def _digest(self, path: Path) -> dict[str, Any]:  # noqa: ARG002  (the photos are the user's)
        return {"files": {}}

    def _content(self, path: Path) -> State:
        """Describe the links: the photos may be a million files of the user's."""
        named = sorted((link.name, str(link.readlink())) for link in path.glob("[!.]*"))
        return {"size": len(named), "digest": hashlib.sha256(json.dumps(named).encode()).hexdigest()}
