"""The list of the exact chunk versions that a training or an evaluation reads."""

import json
import os
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
from kedro.io import DatasetError

from multimodal_recall.data.schemas import ChunkTables, TableError, TableValidator
from multimodal_recall.datasets.atomic import AtomicDataset, verify_files
from multimodal_recall.datasets.parquet_table import open_table, verify_footer
from multimodal_recall.runtime.kedro_private import TablePreview


class ChunkList(AtomicDataset[dict[str, ChunkTables], dict[str, ChunkTables]]):
    """Small JSON with the file of every chunk and kind of table of a split; ``load`` gives lazy tables.

    Paths are relative to the JSON, so that ``data/`` can be moved.
    """

    def _write(self, path: Path, data: dict[str, ChunkTables]) -> None:
        listed = {
            chunk: {kind: os.path.relpath(table.files[0], path.parent) for kind, table in tables.items()}
            for chunk, tables in data.items()
        }
        path.write_text(json.dumps(listed, indent=2), encoding="utf-8")

    def _read(self, path: Path) -> dict[str, ChunkTables]:
        files = listed_files(path)
        missing = [str(file) for kinds in files.values() for file in kinds.values() if not file.exists()]
        if missing:
            raise DatasetError(
                f"{path} lists {len(missing)} files that are gone, first {missing[0]}. Restore them, or list the "
                "present versions anew with: kedro run --nodes=<split>.list_examples, or queries.list_vectors"
            )
        for file in (file for kinds in files.values() for file in kinds.values()):
            verify_footer(file)
        return {chunk: {kind: _open(kind, file) for kind, file in kinds.items()} for chunk, kinds in files.items()}

    def verify_whole(self, path: Path) -> None:
        """Compare the list and each file that it names."""
        super().verify_whole(path)
        for kinds in listed_files(path).values():
            for file in kinds.values():
                verify_files(file)

    def preview(self) -> TablePreview:
        """Show the version of each table of each chunk in kedro-viz."""
        files = listed_files(self.load_path())
        versions = {chunk: {kind: file.parent.name for kind, file in kinds.items()} for chunk, kinds in files.items()}
        table = pd.DataFrame.from_dict(versions, "index").rename_axis("chunk").reset_index()
        return TablePreview(table.to_dict(orient="split"))


def _open(kind: str, file: Path) -> ds.Dataset:
    """Open a table of a chunk; an older version of the code may have saved it with other columns."""
    try:
        return TableValidator(kind).validate(open_table(file))
    except TableError as error:
        raise DatasetError(f"{file}: {error}") from error


def listed_files(path: Path) -> dict[str, dict[str, Path]]:
    """Read the file of each chunk and kind from a chunk list; a file may no longer exist."""
    listed = json.loads(path.read_text(encoding="utf-8"))
    return {
        chunk: {kind: (path.parent / file).resolve() for kind, file in kinds.items()} for chunk, kinds in listed.items()
    }
