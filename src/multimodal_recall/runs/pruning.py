"""Which old versions nothing needs any more, and what killed runs left behind."""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kedro.io import CatalogProtocol, Version
from kedro.pipeline import Pipeline

from multimodal_recall.datasets.atomic import AtomicDataset, atomic_datasets, unfinished_beside
from multimodal_recall.datasets.chunk_list import ChunkList, listed_files
from multimodal_recall.datasets.model_folders import CheckpointDataset, RankerFolder
from multimodal_recall.models.saved import read_card

UNTOUCHED_SECONDS = 3600
"""Age above which an unfinished output is no longer being written."""
LEFTOVER = "left by killed runs"
LANGUAGE = {"language_model", "word_vectors"}
"""What new queries need, in the versions of the queries that a ranker was trained on."""


@dataclass(frozen=True)
class Prunable:
    """A version's folder, or a leftover."""

    kind: str
    """The dataset's name without its namespace, or ``LEFTOVER``."""
    path: Path
    size: int
    """Bytes."""


def find_prunable(pipeline: Pipeline, catalog: CatalogProtocol, keep: int) -> list[Prunable]:
    """Find what can be dropped, what was made last in a run first, so that a kill leaves no list without its files.

    Args:
        pipeline: The nodes whose outputs are looked at.
        catalog: Their data.
        keep: Newest versions of each dataset that stay. So do those that one of these, if it is a chunk list or a
            trained ranker, names, and for a ranker those that ``search`` needs.
    """
    outputs = atomic_datasets((name for node in reversed(pipeline.nodes) for name in node.outputs), catalog)
    named = {folder for dataset in outputs.values() for folder in _named_by(dataset, catalog, keep)}
    named |= {folder for model in _other_models(outputs.values()) for folder in _named_by_card(model, catalog)}
    old = [
        _prunable(name.rpartition(".")[2], folder)
        for name, dataset in outputs.items()
        for folder in _folders(dataset)[keep:]
        if folder.resolve() not in named
    ]
    datasets = (catalog.get(name) for name in sorted(pipeline.datasets()))
    left = [path for dataset in datasets for path in _leftovers(dataset) if _is_untouched(path)]
    return old + [_prunable(LEFTOVER, path) for path in left]


def prune_one(prunable: Prunable) -> None:
    """Remove a version or leftover; a version first gets a name that nothing loads, so that it never looks whole."""
    path = prunable.path
    if prunable.kind != LEFTOVER:
        path = path.rename(path.with_name(f".{path.name}.{os.getpid()}.unfinished"))
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _folders(dataset: AtomicDataset) -> list[Path]:
    """Folders of the dataset's versions, newest first; none where it has no versions."""
    return [Path(file).parent for file in dataset.list_versions()]


def _named_by(dataset: AtomicDataset, catalog: CatalogProtocol, keep: int) -> Iterator[Path]:
    """Folders of the versions that the kept chunk lists or model cards name."""
    for file in map(Path, dataset.list_versions()[:keep]):
        if isinstance(dataset, ChunkList):
            yield from (table.parent for tables in listed_files(file).values() for table in tables.values())
        if isinstance(dataset, RankerFolder):
            yield from _named_by_card(file, catalog)


def _named_by_card(model: Path, catalog: CatalogProtocol) -> Iterator[Path]:
    for chunk, versions in read_card(model)["inputs"].items():
        for kind, version in versions.items():
            dataset = catalog.get(f"train.{chunk}.{kind}", version=Version(version, None))
            yield dataset.version_folder(version).resolve()
            read = (dataset.record() or {"inputs": {}})["inputs"]
            for name in LANGUAGE & read.keys():
                yield catalog.get(name).version_folder(read[name]).resolve()


def _other_models(outputs: Iterable[AtomicDataset]) -> set[Path]:
    """Models beside ours, of rankers that are not configured at present: nothing drops them."""
    ours = {Path(dataset._filepath) for dataset in outputs if isinstance(dataset, RankerFolder)}
    found = {model for place in ours for model in place.parents[1].glob(f"*/{place.name}/*/{place.name}")}
    return {model for model in found if model.parents[1] not in ours}


def _leftovers(dataset: object) -> list[Path]:
    if isinstance(dataset, CheckpointDataset):
        return unfinished_beside(dataset.load().path)
    return dataset.leftovers() if isinstance(dataset, AtomicDataset) else []


def _is_untouched(path: Path) -> bool:
    try:
        touched = max(part.stat().st_mtime for part in (path, *path.rglob("*")))
    except FileNotFoundError:  # it just got its final name
        return False
    return time.time() - touched > UNTOUCHED_SECONDS


def _prunable(kind: str, path: Path) -> Prunable:
    return Prunable(kind, path, sum(part.stat().st_size for part in (path, *path.rglob("*")) if part.is_file()))
