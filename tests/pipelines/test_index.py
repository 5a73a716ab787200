"""An index of the small shop: made again by chunk, of one model, whole or refused, the same whoever runs it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner, ThreadRunner

from multimodal_recall.commands.check import check_raw_files
from multimodal_recall.commands.search import search
from multimodal_recall.config.layout import read_layout
from multimodal_recall.data.chunk_reader import IngestError
from multimodal_recall.data.examples import read_chunk, read_queries
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.datasets.atomic import DamagedError
from multimodal_recall.models.index import IndexMismatch, search_index
from multimodal_recall.runs.damage import find_damage
from multimodal_recall.runs.pruning import find_prunable
from multimodal_recall.runs.staleness import find_stale
from tests.conftest import SMALL, load, open_catalog, run_project, set_options

Run = tuple[Path, Callable[..., None]]
CHUNKS = ["train.chunk_000", "train.chunk_001", "valid.chunk_000", "testA.chunk_000"]
PLACE = "data/07_model_output/shop/two_tower"


def digests(project: Path) -> dict[str, dict]:
    path = max((project / PLACE / "index.json").iterdir()) / "index.json"
    return {name: facts["digests"] for name, facts in json.loads(path.read_text())["chunks"].items()}


def versions(project: Path, chunk: str) -> int:
    return len(list((project / PLACE / chunk.replace(".", "/") / "encoded").iterdir()))


def index_pipeline() -> Pipeline:
    from kedro.framework.project import pipelines

    return pipelines["index"]


def test_search_gives_what_scoring_every_pair_gives(indexed_project: Path) -> None:
    project = indexed_project
    index, model, examples = load(project, "two_tower.index"), load(project, "two_tower.model"), {}
    ranker, examples = model.build(), load(project, "valid_examples")["chunk_000"]
    assert list(index.chunks) == CHUNKS
    assert index.model == model.folder.parent.name
    chunk = index.chunks["valid.chunk_000"]
    assert isinstance(chunk.values, np.memmap)
    assert (chunk.values.dtype, chunk.product_ids.dtype) == (np.float16, np.int64)
    arrays, ids = read_chunk(examples), examples["products"].to_table()["product_id"].to_numpy()
    queries = len(arrays.word_counts)
    pairs = Pairs(np.repeat(np.arange(queries), len(ids)), np.tile(np.arange(len(ids)), queries), np.zeros(1))
    pairs = Pairs(pairs.query_rows, pairs.product_rows, np.zeros(len(pairs.query_rows)))
    scores = ranker.score(arrays, pairs).reshape(queries, len(ids))
    vectors = ranker.query_vectors(read_queries(examples["query_features"], ranker.reading))
    found, found_scores = search_index(ranker, vectors, [(chunk, None)], len(ids))
    own = np.stack(
        [row[[list(ids).index(product) for product in best]] for row, best in zip(scores, found, strict=True)]
    )
    np.testing.assert_allclose(found_scores, own, atol=2e-3)


def test_a_changed_chunk_alone_is_encoded_anew(indexed: Run) -> None:
    project, run = indexed
    before = digests(project)
    tsv = project / "data/01_raw/shop/valid.tsv"
    lines = tsv.read_bytes().splitlines(keepends=True)
    fields = lines[1].split(b"\t")
    tsv.write_bytes(lines[0] + b"\t".join([b"77", *fields[1:7], fields[7], b"4242\n"]) + b"".join(lines[1:]))
    run(node_names=["valid.chunk_000.ingest"])
    catalog = open_catalog(project)
    stale = find_stale(index_pipeline(), catalog)
    assert stale.reasons == {"newer version of products": ["two_tower.valid.chunk_000.index"]}
    run(pipeline_names=["index"], from_nodes=stale.first)
    assert not find_stale(index_pipeline(), open_catalog(project)).reasons
    assert [versions(project, chunk) for chunk in CHUNKS] == [1, 1, 2, 1]
    after = digests(project)
    assert [after[chunk] == before[chunk] for chunk in CHUNKS] == [True, True, False, True]
    assert 77 in load(project, "two_tower.index").chunks["valid.chunk_000"].product_ids
    found = search(open_catalog(project), ["red dress"], product_ids=[77])
    assert found["product_id"].tolist() == [77]
    assert "by the index of" in found.attrs["source"]


def test_a_catalogue_without_products_is_one_error(run_copy: Run) -> None:
    project, run = run_copy
    header = (project / "data/01_raw/shop/train.tsv").read_bytes().splitlines(keepends=True)[0]
    (project / "data/01_raw/shop/catalogue.tsv").write_bytes(header)
    with pytest.raises(IngestError, match=r"catalogue\.tsv.* holds no rows?"):
        run(pipeline_names=["ingest", "index"], namespaces=["catalogue", "two_tower"], parameters=SMALL)


@pytest.mark.slow
def test_an_index_whose_making_was_killed_is_made_to_the_same_bits(indexed: Run) -> None:
    project, _ = indexed
    before = digests(project)
    shutil.rmtree(project / PLACE / "index.json")
    for chunk in CHUNKS:
        shutil.rmtree(project / PLACE / chunk.replace(".", "/") / "encoded")
    command = [sys.executable, "-m", "kedro", "run", "--pipelines=index"]
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "DO_NOT_TRACK": "1"}
    process = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL)
    first = project / PLACE / CHUNKS[0].replace(".", "/") / "encoded"
    until = time.monotonic() + 120
    while not list(first.glob("*/encoded")) and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert list(first.glob("*/encoded"))
    assert not (project / PLACE / "index.json").exists()
    run_project(project, pipeline_names=["index"], only_missing_outputs=True)
    assert digests(project) == before
    assert [versions(project, chunk) for chunk in CHUNKS] == [1, 1, 1, 1]


def test_chunks_of_two_models_are_no_index(indexed: Run) -> None:
    project, run = indexed
    first = load(project, "two_tower.model").folder.parent.name
    run(node_names=["two_tower.train"], parameters={**SMALL, "seed": 3})
    with pytest.raises(IndexMismatch, match=r"several models of two_tower .* --namespaces=two_tower$"):
        run(pipeline_names=["index"], node_names=["two_tower.train.chunk_001.index", "two_tower.list_index"])
    # a pinned model is the model of all
    run(pipeline_names=["index"], load_versions={"two_tower.model": first})
    assert load(project, "two_tower.index").model == first


def test_a_damaged_or_missing_file_is_one_error(indexed: Run) -> None:
    project, _ = indexed
    file = next((project / PLACE / "train/chunk_001/encoded").glob("*/encoded/values.npy"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedError, match=r"chunk_001/.* is damaged: .*kedro run --pipelines=index"):
        open_catalog(project).get("two_tower.index").load()
    damages = [damage for _, damage in find_damage(index_pipeline(), open_catalog(project)) if damage]
    assert len(damages) == 1
    assert "values.npy is damaged" in damages[0]
    assert "kedro run --pipelines=index --from-nodes=two_tower.train.chunk_001.index" in damages[0]
    file.parent.rename(file.parent.with_name("gone"))
    with pytest.raises(DatasetError, match=r"which is gone\. Make the index anew with: kedro run --pipelines=index"):
        open_catalog(project).load("two_tower.index")


def test_pruning_keeps_what_a_kept_index_names(indexed: Run) -> None:
    project, run = indexed
    first = load(project, "two_tower.model").folder.parent.name
    run(pipeline_names=["ingest"], namespaces=["testA"])
    run(node_names=["two_tower.train"], parameters={**SMALL, "seed": 3})
    run(pipeline_names=["index"], node_names=["two_tower.train.chunk_000.index"])
    from kedro.framework.project import pipelines

    prunable = find_prunable(pipelines["all"], open_catalog(project), keep=1)
    dropped = {path.relative_to(project / "data").as_posix() for path in (item.path for item in prunable)}
    assert not any(first in path and ("model/" in path or "encoded" in path or "products" in path) for path in dropped)
    assert len(load(project, "two_tower.index").product_ids()) > 0


def digests_after(project: Path, **how: object) -> dict[str, dict]:
    run_project(project, pipeline_names=["index"], **how)
    return digests(project)


def test_threads_make_the_same_index(indexed: Run) -> None:
    project, _ = indexed
    before = digests(project)
    assert digests_after(project, runner=ThreadRunner(max_workers=2)) == before
    assert versions(project, "train.chunk_000") == 2


@pytest.mark.external
def test_dask_makes_the_same_index(indexed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    dask_runner = pytest.importorskip("multimodal_recall.runtime.dask_runner")
    monkeypatch.delenv(dask_runner.ADDRESS, raising=False)
    project, _ = indexed
    before, runner = digests(project), dask_runner.DaskRunner()
    assert isinstance(runner, AbstractRunner)
    assert digests_after(project, runner=runner) == before


def test_a_catalogue_of_its_own_is_checked_ingested_indexed_and_searched(run_copy: Run) -> None:
    # Given the products of train twice, without queries, so that each stands in both chunks
    project, run = run_copy
    header, *lines = (project / "data/01_raw/shop/train.tsv").read_bytes().splitlines(keepends=True)
    rows = [b"\t".join([*line.split(b"\t")[:7], b"", b"0\n"]) for line in lines]
    (project / "data/01_raw/shop/catalogue.tsv").write_bytes(b"".join([header, *rows, *rows]))
    options = {**SMALL, "chunks": {"train": 2, "catalogue": 2}}
    set_options(project, options)
    run(pipeline_names=["ingest", "index"], namespaces=["catalogue", "two_tower"], parameters=options)
    index = load(project, "two_tower.index")
    assert list(index.chunks) == ["catalogue.chunk_000", "catalogue.chunk_001"]
    ids = index.product_ids()
    assert [len(chunk.product_ids) for chunk in index.chunks.values()] == [len(ids)] * 2
    catalog = open_catalog(project)
    found = search(catalog, ["red dress"], top=10_000)
    assert f"{len(ids)} products of catalogue, " in found.attrs["source"]
    assert "by the index of" in found.attrs["source"]
    assert sorted(found["product_id"]) == ids.tolist()
    checked = {file.name: file for file in check_raw_files(catalog, read_layout())}
    assert checked["catalogue.tsv"].faults == []
    assert f"{len(ids)} products" in checked["catalogue.tsv"].facts


def test_cells_are_made_of_the_index_and_searched_where_the_options_say_so(run_copy: Run) -> None:
    project, run = run_copy
    ranker = {"epochs": 1, "batch_size": 50, "model": {"size": 8, "hidden": 8}}
    options = {**SMALL, "rankers": ["bag_of_words"], "bag_of_words": ranker}
    set_options(project, options | {"index": {"approximate": True}})
    run(pipeline_names=["train", "index"], parameters={})
    said = search(open_catalog(project), ["red dress"]).attrs["source"]
    assert re.search(r"index of .*, approximate, \d+ of \d+ cells: recall@10 of exact search 1\.000 over 8 q", said)
    again = ["bag_of_words.train.chunk_000.index", "bag_of_words.list_index"]
    run(pipeline_names=["index"], node_names=again, parameters={})
    said = search(open_catalog(project), ["red dress"]).attrs["source"]
    assert "exact: the cells are of another index. Make them anew: kedro run --pipelines=index" in said
    assert "newer version of index" in find_stale(index_pipeline(), open_catalog(project)).reasons
    run(pipeline_names=["index"], parameters={})
    file = max((project / "data/07_model_output/shop/bag_of_words/cells").iterdir()) / "cells/cells.faiss"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedError, match=r"cells.faiss is damaged.*kedro run --pipelines=index"):
        search(open_catalog(project), ["red dress"])
