"""Compares everything saved with its digests."""

from collections.abc import Iterator
from pathlib import Path

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from multimodal_recall.datasets.atomic import (
    AtomicDataset,
    DamagedError,
    atomic_datasets,
    read_record,
    verify_files,
)
from multimodal_recall.datasets.model_folders import CheckpointFile, checkpoint_files


def find_damage(pipeline: Pipeline, catalog: CatalogProtocol) -> Iterator[tuple[Path, str | None]]:
    """Read all versions of all outputs, and all checkpoints.

    Args:
        pipeline: The nodes whose outputs are read.
        catalog: Their data.

    Yields:
        Each file or folder, with what is wrong and what to do; ``None`` where nothing is wrong.
    """
    for dataset in atomic_datasets(sorted(pipeline.all_outputs()), catalog).values():
        for path in _saved(dataset):
            yield path, _damage(dataset, path)
    for file in checkpoint_files(catalog.load("params:checkpoints")):
        if file.exists():
            try:
                CheckpointFile(file).read_whole()
            except DamagedError as error:
                yield file, f"{error}. The next training sets it aside and starts anew"
            else:
                yield file, None


def _saved(dataset: AtomicDataset) -> list[Path]:
    """List all versions, newest first, or the file that has no versions."""
    if dataset.has_versions:
        return [Path(file) for file in dataset.list_versions()]
    return [dataset.path] if dataset.exists() else []


def _damage(dataset: AtomicDataset, path: Path) -> str | None:
    try:
        if read_record(path) is None:
            return f"{path} has no record to compare it with"
        verify_files(path)
    except DamagedError as error:
        if not dataset.has_versions:
            return f"{error}. A file that you have put there yourself may stay"
        newest = path.parent.name == dataset.newest()
        return str(error) if newest else f"{error}. It is an old version: its folder {path.parent} can be deleted"
    return None
