"""What a run records beside its outputs; what it checks first is tested in test_whole_run.py."""

from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import pytest
from kedro.pipeline import Pipeline, node

from multimodal_recall.config.options import IngestOptions
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk
from multimodal_recall.runs.code import code_of
from multimodal_recall.runs.hooks import CachePipelineInputs, ExplainErrors, MemoryShortageError
from tests.conftest import SMALL
from tests.test_whole_run import read_record


def state(file: Path) -> dict:
    return {"size": file.stat().st_size, "digest": sha256(file.read_bytes()).hexdigest()}


def test_a_record_names_node_options_chunk_and_inputs(finished_project: Path) -> None:
    raw = finished_project / "data/01_raw/shop"
    folder = next((finished_project / "data/03_primary/shop/train/chunk_001/products.parquet").iterdir())
    record = read_record(folder, "products.parquet")
    assert record.pop("code") == code_of(ingest_chunk)
    assert record.pop("seal")
    footer = record["digests"].pop("footer")
    assert len(footer) == 64
    assert record == {
        "node": "train.chunk_001.ingest",
        "options": {"params:ingest": asdict(IngestOptions())},
        "bound": {"chunk": {"split": "train", "number": 1, "count": 2}},
        "inputs": {
            "train_tsv": state(raw / "train.tsv"),
            "labels": state(raw / "multimodal_labels.txt"),
            "titles": state(raw / "titles.parquet"),
        },
        "digests": {"files": {".": state(folder / "products.parquet")["digest"]}},
    }
    assert read_record(raw, "train.tsv")["output"] == state(raw / "train.tsv")


def test_every_output_has_a_record(finished_project: Path) -> None:
    folders = [path for path in (finished_project / "data").glob("*/**/20*Z") if path.is_dir()]
    assert len(folders) > 30
    for folder in folders:
        name = folder.parent.name
        assert (folder / name).exists()
        assert read_record(folder, name)["node"]


def test_the_ends_of_a_pipeline_are_worked_out_once() -> None:
    nodes = [node(lambda data: data, f"data_{number}", f"data_{number + 1}") for number in range(3)]
    pipeline = Pipeline(nodes)
    CachePipelineInputs().before_pipeline_run(pipeline)
    assert pipeline.inputs() is pipeline.inputs()
    assert (pipeline.inputs(), pipeline.outputs()) == ({"data_0"}, {"data_3"})
    assert Pipeline(nodes[1:]).inputs() == {"data_1"}  # another pipeline of the same nodes has its own


def test_inputs_of_other_options_are_named_unless_they_are_pinned(
    run_copy: tuple[Path, Callable], caplog: pytest.LogCaptureFixture
) -> None:
    project, run = run_copy
    other = {**SMALL, "ingest": {"max_boxes": 1}}
    said = (
        "inputs of this run are stale (make them anew with the command of kedro stale):\n  ingest.max_boxes was 12, is"
    )
    run(node_names=["two_tower.train"], parameters=other)
    assert said in caplog.text
    caplog.clear()
    run(node_names=["train.chunk_000.ingest"], parameters=other)  # makes anew what would be stale
    version = next((project / "data/05_model_input/shop/train/examples.json").iterdir()).name
    names = ("train_examples", "valid_examples", "language_model", "word_vectors", "label_vectors")
    pins = dict.fromkeys(names, version)
    run(node_names=["two_tower.train"], parameters=other, load_versions=pins)
    assert said not in caplog.text


@pytest.mark.parametrize("pipeline", ["train", "evaluate", "exchange"])
def test_a_pipeline_alone_does_not_take_the_defaults_of_others_for_changes(
    run_copy: tuple[Path, Callable], pipeline: str
) -> None:
    # Kedro fills in the defaults of the options that the run's own pipelines read, and no others
    _, run = run_copy
    run(pipeline_names=[pipeline], parameters={**SMALL, "stale_inputs": "refuse"})


@pytest.mark.parametrize(
    ("namespace", "name", "remedy"),
    [
        ("two_tower", "train", "a lower batch_size of the ranker"),
        ("train.chunk_000", "featurize", "a lower featurize.tokens_per_batch"),
        ("train.chunk_000", "ingest", r"more chunks of the split \(chunks.<split>\)"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3 TiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 3 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    ],
)
def test_a_shortage_of_memory_names_the_option(error: Exception, namespace: str, name: str, remedy: str) -> None:
    failed = node(len, "a", "b", name=name, namespace=namespace)
    with pytest.raises(MemoryShortageError, match=rf"{namespace}.{name} ran out of memory: .* less with {remedy}"):
        ExplainErrors().on_node_error(error, failed, catalog=None)
