"""Which old versions no kept version needs, and which files killed runs left behind."""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from multimodal_recall.datasets.atomic import AtomicDataset, atomic_datasets, read_record, unfinished_beside
from multimodal_recall.datasets.chunk_list import ChunkList, listed_files
from multimodal_recall.datasets.model_folders import RankerFolder, checkpoint_files
from multimodal_recall.datasets.product_index import IndexList, read_index_list
from multimodal_recall.models.saved import read_card
from multimodal_recall.runs.lineage import pinned

UNTOUCHED_SECONDS = 3600
"""Age above which an unfinished output is no longer being written."""
LEFTOVER = "left by killed runs"
LANGUAGE = {"language_model", "word_vectors"}
"""What ``search`` encodes new queries with, in the versions of the queries that a ranker was trained on."""


@dataclass(frozen=True)
class Prunable:
    """A version's folder, or a leftover."""

    kind: str
    """The dataset's name without its namespace, or ``LEFTOVER``."""
    path: Path

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(part.stat().st_size for part in (self.path, *self.path.rglob("*")) if part.is_file())

    def remove(self) -> None:
        """Remove from the disk; a version first gets a name that nothing loads, so that it never looks whole."""
        path = self.path
        if self.kind != LEFTOVER:
            path = path.rename(path.with_name(f".{path.name}.{os.getpid()}.unfinished"))
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def find_prunable(pipeline: Pipeline, catalog: CatalogProtocol, keep: int) -> list[Prunable]:
    """Find what can be dropped, the last outputs of a run first, so that a kill leaves no list without its files.

    The ``keep`` newest versions of each dataset stay, and the versions of ``params:pins``. Versions that a kept chunk
    list or a kept ranker names stay too, and the language model and word vectors that ``search`` needs for a kept
    ranker.
    """
    outputs = atomic_datasets((name for node in reversed(pipeline.nodes) for name in node.outputs), catalog)
    named = {folder for dataset in outputs.values() for folder in _named_by(dataset, catalog, keep)}
    named |= {folder for model in _other_models(outputs.values()) for folder in _named_by_card(model, catalog)}
    old = [
        Prunable(name.rpartition(".")[2], Path(file).parent)
        for name, dataset in outputs.items()
        for kept in [_kept(dataset, keep)]  # once a dataset: it lists the disk
        for file in dataset.list_versions()  # newest first
        if Path(file) not in kept and Path(file).parent.resolve() not in named
    ]
    datasets = atomic_datasets(sorted(pipeline.datasets()), catalog).values()
    left = [path for dataset in datasets for path in dataset.leftovers()]
    left += [path for file in checkpoint_files(catalog.load("params:checkpoints")) for path in unfinished_beside(file)]
    return old + [Prunable(LEFTOVER, path) for path in left if _is_untouched(path)]


def _kept(dataset: AtomicDataset, keep: int) -> list[Path]:
    """List the ``keep`` newest versions of a dataset and the version that ``params:pins`` pins, newest first."""
    files = list(map(Path, dataset.list_versions()))
    return [file for place, file in enumerate(files) if place < keep or file.parent.name == dataset.pinned_version]


def _named_by(dataset: AtomicDataset, catalog: CatalogProtocol, keep: int) -> Iterator[Path]:
    """Folders of the versions that the kept chunk lists, indexes, model cards or scores name."""
    for file in _kept(dataset, keep):
        if isinstance(dataset, ChunkList):
            yield from (table.parent for tables in listed_files(file).values() for table in tables.values())
        if isinstance(dataset, IndexList):
            yield from _named_by_index(file, catalog)
        if isinstance(dataset, RankerFolder):
            yield from _named_by_card(file, catalog)
        inputs = (read_record(file) or {"inputs": {}})["inputs"]
        for name in (name for name in inputs if name.endswith(".model")):  # else newer tries push out a pinned model
            yield from _named_model(name, inputs[name], catalog)


def _named_by_index(index: Path, catalog: CatalogProtocol) -> Iterator[Path]:
    """Folders of the encoded products, of the products that search draws, and of the model that it encodes with."""
    listed = read_index_list(index)
    yield from _named_model(f"{listed['ranker']}.model", listed["model"], catalog)
    for name, facts in listed["chunks"].items():
        yield facts["folder"].parent
        yield pinned(f"{name}.products", facts["products"], catalog).load_path().parent.resolve()


def _named_model(name: str, version: str, catalog: CatalogProtocol) -> Iterator[Path]:
    model = pinned(name, version, catalog)
    if model.exists():
        yield model.load_path().parent.resolve()
        yield from _named_by_card(model.load_path(), catalog)


def _named_by_card(model: Path, catalog: CatalogProtocol) -> Iterator[Path]:
    for chunk, versions in read_card(model)["inputs"].items():
        for kind, version in versions.items():
            dataset = pinned(f"train.{chunk}.{kind}", version, catalog)
            yield dataset.load_path().parent.resolve()
            inputs = (dataset.record() or {"inputs": {}})["inputs"]
            for name in LANGUAGE & inputs.keys():
                yield pinned(name, inputs[name], catalog).load_path().parent.resolve()


def _other_models(outputs: Iterable[AtomicDataset]) -> set[Path]:
    """Models of rankers that are not configured at present: nothing drops them."""
    configured = {dataset.path for dataset in outputs if isinstance(dataset, RankerFolder)}
    found = {model for path in configured for model in path.parents[1].glob(f"*/{path.name}/*/{path.name}")}
    return {model for model in found if model.parents[1] not in configured}


def _is_untouched(path: Path) -> bool:
    try:
        touched = max(part.stat().st_mtime for part in (path, *path.rglob("*")))
    except FileNotFoundError:  # it just got its final name
        return False
    return time.time() - touched > UNTOUCHED_SECONDS
