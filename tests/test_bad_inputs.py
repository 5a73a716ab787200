"""Runs whose disk, files, tables and options do not fit: one clear error, or the right result."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from kedro.io import DatasetError

from multimodal_recall.data.consistency import ExamplesError
from multimodal_recall.datasets.atomic import record_path
from tests.conftest import SMALL, copy_project, run_project

Run = tuple[Path, Callable[..., None]]
FIRST_STAGES = ["make_shop", "ingest"]


def test_a_run_goes_on_once_there_is_space_again(disk: Path) -> None:
    project = copy_project(disk.parent / "project")
    (project / "data").symlink_to(disk)
    with pytest.raises(DatasetError, match=r"photos could not be written: No space left on device\. Free space there"):
        run_project(project, pipeline_names=FIRST_STAGES)
    assert not [path for path in disk.rglob("*") if "unfinished" in path.name]
    subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
    run_project(project, pipeline_names=FIRST_STAGES, only_missing_outputs=True)
    rows = [pq.read_metadata(path).num_rows for path in disk.rglob("train/*/pairs.parquet/*/pairs.parquet")]
    assert sum(rows) == SMALL["make_shop"]["train_rows"]


def test_a_table_without_a_column_is_named(run_copy: Run) -> None:
    project, run = run_copy
    table = next((project / "data/03_primary/shop/train/chunk_000/pairs.parquet").glob("*/pairs.parquet"))
    pq.write_table(pq.read_table(table).drop_columns(["query_row"]), table)
    record_path(table).unlink()  # else its digest gives the replacement away
    message = r"(?s)train\.chunk_000\.pairs' on load.*columns \['query_row'\]: found .*, wanted .*\. Run the stage"
    with pytest.raises(DatasetError, match=message):
        run(pipeline_names=["featurize"], namespaces=["train.chunk_000"])


def test_a_file_that_was_replaced_between_two_stages_is_noticed(run_copy: Run) -> None:
    # Given that one chunk was made from the old file and one is made from the new
    project, run = run_copy
    tsv = project / "data/01_raw/shop/train.tsv"
    tsv.write_bytes(b"".join(tsv.read_bytes().splitlines(keepends=True)[:-5]))
    run(namespaces=["train.chunk_001"])
    with pytest.raises(
        ExamplesError,
        match=r"different cuts \(train\.chunk_000: 2 chunks of train\.tsv, \d+ bytes; train\.chunk_001: 2 chunks .*"
        r"Cut the file anew: kedro run --pipelines=ingest",
    ):
        run(node_names=["train.list_examples"])


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        (
            1,
            r"cut into 2 chunks of train\.tsv, \d+ bytes, chunks\.train is 1\. Cut it anew: kedro run --pipe",
        ),
        (3, r"3 inputs .*\ntrain\.chunk_002\.pairs: .* has no version yet\. Run the stage that makes it first"),
    ],
)
def test_another_number_of_chunks_than_was_cut_is_refused(run_copy: Run, chunks: int, message: str) -> None:
    _, run = run_copy
    with pytest.raises((ExamplesError, DatasetError), match=message):
        run(pipeline_names=["sample_negatives"], parameters={**SMALL, "chunks": {"train": chunks}})
