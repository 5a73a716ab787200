"""A ranker solved from sums over chunks: the same however the file is cut, made again by chunk, or refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multimodal_recall.commands.search import search
from multimodal_recall.data.chunk_reader import IngestError, draw_products
from multimodal_recall.data.consistency import ExamplesError
from multimodal_recall.data.examples import read_candidates, read_chunk
from multimodal_recall.pipelines.train.sum_nodes import SumsMismatch
from multimodal_recall.runs.staleness import find_stale
from tests.conftest import SMALL, load, open_catalog, run_project, set_options
from tests.data.test_official_tsv import write_tsv

Run = tuple[Path, Callable[..., None]]
MODEL = {"kind": "kernel_words", "landmarks": 20}
OPTIONS = {**SMALL, "rankers": ["kernel_words"], "kernel_words": {"model": MODEL}}
CHUNKS = ["kernel_words.sums.chunk_000.word_sums", "kernel_words.sums.chunk_001.word_sums"]


@pytest.fixture(scope="module")
def trained_project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished project with a solved ranker, and its options; tests that change it take ``trained``."""
    project = shutil.copytree(finished_project, tmp_path_factory.mktemp("sums") / "project")
    set_options(project, OPTIONS)
    run_project(project, parameters=OPTIONS, pipeline_names=["train"])
    return project


@pytest.fixture
def trained(trained_project: Path, tmp_path: Path) -> Run:
    """A copy of the project with the solved ranker, and a function that runs it."""
    project = shutil.copytree(trained_project, tmp_path / "project")
    return project, lambda **how: run_project(project, **{"parameters": OPTIONS, **how})


def versions(project: Path, name: str) -> list[str]:
    return open_catalog(project).get(name).list_versions(full_path=False)


def train_pipeline() -> Any:
    from kedro.framework.project import pipelines

    return pipelines["train"]


def estimates(project: Path) -> np.ndarray:
    tables = load(project, "valid_examples")["chunk_000"]
    ranker, (_, pairs) = load(project, "kernel_words.model").build(), read_candidates(tables)
    return ranker.estimate(read_chunk(tables).batch(pairs)).numpy()


def test_model_and_log_are_those_of_any_ranker(trained: Run) -> None:
    project, run = trained
    model, log = load(project, "kernel_words.model"), load(project, "kernel_words.training_log").to_table().to_pylist()
    assert (model.card["epoch"], model.card["parameters"]) == (0, model.weights["coefficients"].numel())
    assert {*model.card["inputs"]} == {"chunk_000", "chunk_001"}
    assert model.card["right_pairs"] == SMALL["make_shop"]["train_rows"]
    assert model.card["meant_for"].startswith("hundreds to thousands of right pairs")
    assert [*model.card["learning_curve_on_photos"]] == ["300", "600", "1250", "2500"]  # JSON has no numbers as names
    assert (len(log), log[0]["pairs"]) == (1, SMALL["make_shop"]["train_rows"])
    assert model.sizes.landmarks == len(load(project, "kernel_words.landmarks").to_table()) <= 20
    words = sum(load(project, name).word_counts.sum() for name in CHUNKS)
    assert model.weights["counts"].sum() == words
    # and evaluate, index and search read them
    run(pipeline_names=["evaluate", "index"])
    comparison = load(project, "comparison").set_index(["split", "ranking"])
    assert comparison.loc[("valid", "kernel_words"), "nDCG@5"] == pytest.approx(log[0]["valid_ndcg_at_5"], abs=1e-6)
    found = search(open_catalog(project), ["red dress"], top=3)
    assert "1 epochs" in found.attrs["source"]
    assert "by the index of" in found.attrs["source"]
    assert len(found) == 3


def test_more_chunks_give_the_same_model(trained: Run) -> None:
    project, run = trained
    before, drawn = estimates(project), load(project, "kernel_words.landmarks").to_table()
    for count in (1, 5):
        options = {**OPTIONS, "chunks": {"train": count}}
        set_options(project, options)
        run(pipeline_names=["ingest", "featurize", "sample_negatives", "train"], parameters=options)
        assert load(project, "kernel_words.landmarks").to_table().equals(drawn)
        np.testing.assert_allclose(estimates(project), before, rtol=0, atol=1e-6)


def test_a_chunk_made_anew_changes_exactly_its_share(trained: Run) -> None:
    # Given a training file whose second chunk loses its last row
    project, run = trained
    before = [load(project, name) for name in CHUNKS]
    counts = load(project, "kernel_words.model").weights["counts"].numpy()
    tsv = project / "data/01_raw/shop/train.tsv"
    header, *lines = tsv.read_bytes().splitlines(keepends=True)
    spoilt = b"\t" * (len(lines[-1]) - 1) + b"\n"  # as long, so that the chunks are cut at the same places
    tsv.write_bytes(b"".join([header, *lines[:-1], spoilt]))
    options = {**OPTIONS, "ingest": {"max_rejected_share": 0.1}}
    run(from_nodes=["train.chunk_001.ingest"], pipeline_names=["__default__"], parameters=options)
    # Then its sums alone are made anew, on the same landmarks
    assert [len(versions(project, name)) for name in [*CHUNKS, "kernel_words.landmarks"]] == [1, 2, 1]
    after = load(project, CHUNKS[1])
    assert after.pairs == before[1].pairs - 1
    share = np.zeros_like(counts)
    share[after.words] += after.word_counts
    share[before[1].words] -= before[1].word_counts
    assert share.any()
    np.testing.assert_array_equal(load(project, "kernel_words.model").weights["counts"].numpy(), counts + share)


def test_what_other_options_make_stale(trained: Run) -> None:
    project, _ = trained
    catalog = open_catalog(project)
    pipeline = train_pipeline()
    assert find_stale(pipeline, catalog, with_code=False).reasons == {}
    set_options(project, {**OPTIONS, "kernel_words": {"model": {**MODEL, "gamma": 2.0}}})
    stale = find_stale(pipeline, open_catalog(project))
    assert stale.reasons.keys() == {"kernel_words.model.gamma was 0.4, is now 2.0"}
    assert stale.first == ["kernel_words.draw_landmarks"]


@pytest.mark.parametrize(
    ("made", "changes", "message"),
    [
        (
            [],
            {"gamma": 2.0},
            r"chunk_000.word_sums and 1 more: made with gamma 0.4, wanted 2.0\. Make .*_000.sum_words,kernel_words",
        ),
        (
            ["kernel_words.draw_landmarks"],
            {},
            r"and 1 more: made with landmarks .*, wanted 20.*--from-nodes=kernel_words.sums.chunk_000",
        ),
        (
            ["train.chunk_001.featurize", "train.list_examples"],
            {},
            r"chunk_001.word_sums: made with query_features .*sums.chunk_001.sum_words$",
        ),
    ],
    ids=["another kernel", "other landmarks", "another chunk"],
)
def test_sums_of_another_origin_are_refused(trained: Run, made: list[str], changes: dict, message: str) -> None:
    project, run = trained
    options = {**OPTIONS, "kernel_words": {"model": {**MODEL, **changes}}}
    if made:
        run(node_names=made)
    with pytest.raises(SumsMismatch, match=message):
        run(node_names=["kernel_words.train"], parameters=options)
    assert len(versions(project, "kernel_words.model")) == 1


def test_tables_of_different_pairs_are_not_summed(trained: Run) -> None:
    _, run = trained
    options = {**OPTIONS, "chunks": {"train": 3}}
    run(node_names=["train.chunk_001.ingest"], parameters=options)
    with pytest.raises(ExamplesError, match=r"query_features of train.chunk_001 are not of the same pairs"):
        run(node_names=["kernel_words.sums.chunk_001.sum_words"])


def test_landmarks_are_decoded_as_a_chunk_is(tmp_path: Path, trained: Run) -> None:
    project, _ = trained
    drawn = load(project, "kernel_words.landmarks").to_table().to_pylist()
    products = [load(project, f"train.chunk_00{number}.products").to_table().to_pylist() for number in range(2)]
    by_id = {row["product_id"]: {**row, "title": None} for chunk in products for row in chunk}
    assert all(row == by_id[row["product_id"]] for row in drawn)
    ingest = open_catalog(project).load("params:ingest")
    with pytest.raises(IngestError, match=r"train\.tsv: no row of 5 drawn rows is sound"):
        draw_products(write_tsv(tmp_path / "train.tsv", [b"nothing"] * 9), 33, ingest, 5, 0)
