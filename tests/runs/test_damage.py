"""A changed byte of whatever a run saved is found and named, with the command that makes the file anew."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from kedro.framework.project import pipelines
from kedro.io import DatasetError
from kedro.io.core import generate_timestamp
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner

from multimodal_recall.datasets.atomic import DamagedError, atomic_datasets, read_record
from multimodal_recall.datasets.model_folders import CheckpointFile
from multimodal_recall.runs.damage import find_damage
from multimodal_recall.runs.hooks import FutureVersionError
from multimodal_recall.runs.turns import take_turn
from tests.conftest import SMALL, open_catalog, run_project

Run = tuple[Path, Callable[..., None]]
BOOKKEEPING = ".runs"


def flip(file: Path, random: np.random.Generator) -> bytes:
    """Change a bit of one byte of a file; returns what the file held."""
    content = file.read_bytes()
    place = int(random.integers(len(content)))
    changed = bytearray(content)
    changed[place] ^= 1 << int(random.integers(8))
    file.write_bytes(changed)
    return content


def saved_files(project: Path) -> list[Path]:
    files = [path for path in sorted((project / "data").rglob("*")) if path.is_file() and path.stat().st_size]
    return [path for path in files if BOOKKEEPING not in path.parts]


def undetected(project: Path, flips: int) -> list[str]:
    """Flip a bit of so many files, drawn by size in half of the cases; names those that nothing notices."""
    catalog, random = open_catalog(project), np.random.default_rng(0)
    pipeline, files, missed = pipelines["__default__"], saved_files(project), []
    makers = {
        dataset.path.resolve(): node
        for node in pipeline.nodes
        for dataset in atomic_datasets(node.outputs, catalog).values()
    }
    sizes = np.array([file.stat().st_size for file in files], float)
    for number in range(flips):
        file = files[random.choice(len(files), p=sizes / sizes.sum() if number % 2 else None)]
        content = flip(file, random)
        # Reading everything 200 times takes ten minutes: the node that made the file, and all checkpoints, are enough.
        places = {file.resolve(), *file.resolve().parents, file.with_name(file.name[1:].removesuffix(".record.json"))}
        near = Pipeline([makers[place] for place in places if place in makers])
        found = [damage for _, damage in find_damage(near, catalog) if damage is not None]
        if not any(str(file) in damage or str(file.parent) in damage for damage in found):
            missed.append(str(file))
        file.write_bytes(content)
    assert [damage for _, damage in find_damage(pipeline, catalog) if damage is not None] == []
    return missed


def test_flipped_bytes_are_found(run_copy: Run) -> None:
    assert undetected(run_copy[0], flips=12) == []


@pytest.mark.slow
def test_200_flipped_bytes_of_the_default_run_are_found(default_run: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(default_run[0], tmp_path / "project")
    assert undetected(tmp_path / "project", flips=200) == []


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("data/07_model_output/shop/*/valid_scores.parquet/*/valid_scores.parquet", "two_tower.valid_scores"),
        ("data/08_reporting/shop/comparison.csv/*/comparison.csv", "comparison"),
        ("data/06_models/shop/two_tower/model/*/model/model.safetensors", "two_tower.model"),
        ("data/05_model_input/shop/train/examples.json/*/examples.json", "train_examples"),
    ],
)
def test_a_damaged_version_is_not_loaded(run_copy: Run, pattern: str, name: str) -> None:
    file = next(run_copy[0].glob(pattern))
    content = bytearray(file.read_bytes())
    content[-3 if file.suffix == ".parquet" else len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"is damaged: .* Make it anew with: kedro run --from-nodes="):
        open_catalog(run_copy[0]).load(name)


def test_a_damaged_page_is_named_by_the_run_that_reads_it(run_copy: Run) -> None:
    project, run = run_copy
    file = next(project.glob("data/03_primary/shop/train/chunk_001/products.parquet/*/products.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedError, match=rf"{file} is damaged: .* --from-nodes=train.chunk_001.ingest"):
        run(node_names=["two_tower.train"], parameters={**SMALL, "seed": 1})


def test_a_damaged_checkpoint_is_set_aside(run_copy: Run, caplog: pytest.LogCaptureFixture) -> None:
    project, run = run_copy
    checkpoint = next(project.glob("data/06_models/shop/two_tower/checkpoint.safetensors"))
    whole = CheckpointFile(checkpoint).read_whole()[1]
    for damage in (lambda data: data[:100], lambda data: b"", lambda data: data[:-9] + b"x" + data[-8:]):
        checkpoint.write_bytes(damage(checkpoint.read_bytes()))
        caplog.clear()
        run(node_names=["two_tower.train"])
        assert "is damaged: it is not what was written. It is now checkpoint.safetensors.damaged" in caplog.text
        assert CheckpointFile(checkpoint).read_whole()[1].keys() == whole.keys()


def test_a_version_of_the_future_is_refused_before_the_first_node(run_copy: Run) -> None:
    project, run = run_copy
    model = next(project.glob("data/06_models/shop/two_tower/model/*/"))
    shutil.copytree(model, model.with_name("2099-01-01T00.00.00.000Z"))
    before = sorted(project.glob("data/**/*"))
    with pytest.raises(FutureVersionError, match=r"model/2099-01-01T00.00.00.000Z is newer than now"):
        run(node_names=["two_tower.train"])
    assert sorted(path for path in project.glob("data/**/*") if BOOKKEEPING not in path.parts) == [
        path for path in before if BOOKKEEPING not in path.parts
    ]
    run(node_names=["train.chunk_000.ingest"])  # shares nothing with the model


def test_a_run_that_others_overtook_saves_a_later_version(run_copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a run whose version is older than what another run has saved meanwhile
    project, _ = run_copy
    monkeypatch.setattr("kedro.framework.session.session.generate_timestamp", lambda: "2020-01-01T00.00.00.000Z")
    run_project(project, node_names=["two_tower.train", "two_tower.score_valid"])
    models = sorted(path.name for path in project.glob("data/06_models/shop/two_tower/model/*/"))
    scores = sorted(path.name for path in project.glob("data/07_model_output/shop/two_tower/valid_scores.parquet/*/"))
    assert len(models) == 2
    assert models[-1] == scores[-1] > "2026"


def test_a_run_that_has_waited_reads_what_was_saved_meanwhile(run_copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    project, run = run_copy
    lists = project / "data/05_model_input/shop/train/examples.json"
    old = max(lists.iterdir())
    meanwhile = generate_timestamp()

    def wait(*arguments: object) -> FileLock:
        shutil.copytree(old, lists / meanwhile)
        return take_turn(*arguments)

    monkeypatch.setattr("multimodal_recall.runs.hooks.take_turn", wait)
    run(node_names=["two_tower.train"])
    model = max((project / "data/06_models/shop/two_tower/model").iterdir()) / "model"
    assert read_record(model)["inputs"]["train_examples"] == meanwhile


def test_an_interrupted_run_does_not_hold_up_the_next_of_its_process(
    run_copy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt  # no signal: a process in the background of a shell ignores it

    with monkeypatch.context() as interrupted:
        interrupted.setattr(SequentialRunner, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_copy[1](node_names=["train.chunk_000.ingest"])
    run_copy[1](node_names=["train.chunk_000.ingest"], parameters={**SMALL, "at_once": "refuse"})
