"""The folder of the products' photos."""

import base64
import io
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from PIL import Image

from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.runtime.kedro_private import ImagePreview

SHEET_COLUMNS, SHEET_ROWS, CELL = 6, 4, 136


class PhotoFolder(AtomicDataset[Iterable[tuple[int, bytes]], Path]):
    """A folder of ``<product_id>.png``: ``save`` takes ids and PNGs one at a time, ``load`` gives the folder.

    The folder gets its name when the last picture is written, so that an interrupted ``save`` leaves none or the old.
    """

    holds_folder = True

    def _write(self, path: Path, data: Iterable[tuple[int, bytes]]) -> None:
        path.mkdir()
        for product_id, picture in data:
            (path / f"{product_id}.png").write_bytes(picture)

    def _read(self, path: Path) -> Path:
        return path

    def preview(self) -> ImagePreview:
        """Show the first pictures in kedro-viz, side by side."""
        sheet = Image.new("RGB", (SHEET_COLUMNS * CELL, SHEET_ROWS * CELL), "white")
        files = sorted(self.load().glob("*.png"))
        for place, file in enumerate(islice(files, SHEET_COLUMNS * SHEET_ROWS)):
            with Image.open(file) as picture:
                row, column = divmod(place, SHEET_COLUMNS)
                sheet.paste(picture.convert("RGB"), (column * CELL, row * CELL))
        written = io.BytesIO()
        sheet.save(written, "PNG")
        return ImagePreview(base64.b64encode(written.getvalue()).decode())
