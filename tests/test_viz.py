"""What kedro viz shows: folded namespaces, layers, few boxes, docstrings, previews; and its page in a browser."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("kedro_viz", reason="kedro-viz is not installed")
pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")

from benchmarks.pictures import build_lineage, open_lineage, served

from tests.conftest import copy_project

pytestmark = pytest.mark.external

LAYERS = ["raw", "intermediate", "primary", "feature", "model_input", "models", "model_output", "reporting"]
"""Kedro's order."""


@pytest.fixture(scope="module")
def build(finished_project: Path) -> Path:
    return build_lineage(finished_project)


@pytest.fixture(scope="module")
def graph(build: Path) -> dict:
    return json.loads((build / "api" / "main").read_text())


@pytest.fixture(scope="module")
def details(build: Path, graph: dict) -> dict[str, dict]:
    """What is shown of each node and dataset that is clicked, by its name."""
    nodes = [node for node in graph["nodes"] if node["type"] != "parameters" and node["type"] != "modularPipeline"]
    names = {node["id"]: node["full_name"] if node["type"] == "task" else node["name"] for node in nodes}
    return {name: json.loads((build / "api" / "nodes" / key).read_text()) for key, name in names.items()}


@pytest.fixture(scope="module")
def graph_of_three(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The graph of a project with three rankers, before its first run."""
    project = copy_project(tmp_path_factory.mktemp("three"))
    (project / "conf/local/parameters.yml").write_text("rankers: [two_tower, mcan, query_likelihood]")
    return json.loads((build_lineage(project) / "api" / "main").read_text())


def boxes_of(graph: dict) -> list[dict]:
    """The boxes of the default view, in which parameters are hidden."""
    return [box for box in graph["modular_pipelines"]["__root__"]["children"] if box["type"] != "parameters"]


def test_the_default_view_is_readable(graph: dict, graph_of_three: dict) -> None:
    assert 10 < len(boxes_of(graph)) <= 30
    assert len(boxes_of(graph_of_three)) < 45


def test_layers_are_in_the_order_of_kedro(graph: dict, graph_of_three: dict) -> None:
    assert graph["layers"] == graph_of_three["layers"] == LAYERS
    data = [node for node in graph["nodes"] if node["type"] == "data"]
    assert [node["name"] for node in data if node["layer"] is None] == []


def test_each_chunk_folds_into_its_split(graph: dict) -> None:
    children = {child["id"] for child in graph["modular_pipelines"]["train"]["children"]}
    assert {"train.chunk_000", "train.chunk_001"} <= children


def test_each_node_says_what_it_does(graph: dict, details: dict[str, dict]) -> None:
    # kedro-viz shows a node's source and has no other place for words
    nodes = [node["full_name"] for node in graph["nodes"] if node["type"] == "task"]
    assert len(nodes) > 40
    assert [name for name in nodes if '"""' not in details[name]["code"]] == []


def test_each_dataset_has_a_preview(graph: dict, details: dict[str, dict]) -> None:
    data = [node["name"] for node in graph["nodes"] if node["type"] == "data"]
    made = [name for name in data if "chunk_002" not in name and "chunk_003" not in name]  # conf/base has four chunks
    assert [name for name in made if not details[name].get("preview")] == []
    cells = details["train.chunk_000.query_features"]["preview"]["data"]
    assert max(len(cell) for row in cells for cell in row) < 200
    assert details["train_examples"]["preview"]["columns"] == ["chunk", "products", "query_features", "samples"]
    tsv = details["train_tsv"]["preview"]
    assert dict(zip(tsv["columns"], tsv["data"][0], strict=True))["features"].endswith("bytes")
    assert json.loads(details["two_tower.model"]["preview"])["options"]["model"]["kind"] == "two_tower"
    assert details["photos"]["preview_type"] == "ImagePreview"
    products = details["train.chunk_000.products"]["preview"]
    assert products["columns"][:2] == ["product_id", "title"]
    assert len(products["data"][0][1].split()) == 6
    figures = details["evaluation.report"]["preview"]["data"]
    assert "nDCG@5 of two_tower" in [meaning for _, meaning in figures]
    assert figures[-1][0].endswith("report.html")


def test_learning_curves_comparison_and_calibration_are_drawn(details: dict[str, dict]) -> None:
    drawn = {}
    for name in ("two_tower.training_log", "comparison", "evaluation.testA_calibration"):
        assert details[name]["preview_type"] == "PlotlyPreview"
        drawn[name] = {trace["name"]: trace for trace in details[name]["preview"]["data"]}
    assert len(drawn["two_tower.training_log"]["nDCG@5 on valid"]["y"]) == 2
    ours = drawn["comparison"]["testA"]
    assert "two_tower" in ours["text"]
    bins = drawn["evaluation.testA_calibration"]["candidates, binned"]
    assert bins["x"] == sorted(bins["x"])
    assert len(bins["x"]) == len(bins["y"]) == len(bins["text"]) > 1
    assert min(ours["error_x"]["array"] + ours["error_x"]["arrayminus"]) >= 0


def test_the_page_draws_the_graph_and_shows_previews_without_errors(browser: Any, build: Path, graph: dict) -> None:
    ids = {node["name"]: node["id"] for node in graph["nodes"]}
    page, errors = browser.new_page(viewport={"width": 1400, "height": 900}), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    with served(build) as address:
        open_lineage(page, address)
        boxes = set(page.locator(".pipeline-node").all_text_contents())
        assert {"shop", "language", "train", "two_tower", "evaluation", "train_examples"} <= boxes
        assert page.locator(".pipeline-layer-name").all_text_contents()[0] == "raw"
        page.locator(".pipeline-node", has_text="train_examples").click()
        page.wait_for_selector("text=chunk_001")
        page.locator(".pipeline-node", has_text="training_log").click()
        page.wait_for_selector(".js-plotly-plot .scatterlayer .trace")
        assert page.locator(".js-plotly-plot .scatterlayer .trace").count() == 2
        open_lineage(page, address, ids["train_tsv"])  # a link to a dataset
        page.wait_for_selector("text=product_id")
    page.close()
    assert errors == []


def test_kedro_viz_serves_the_same_lineage(finished_project: Path, graph: dict) -> None:
    command = [sys.executable, "-m", "kedro", "viz", "run", "--no-browser"]
    with subprocess.Popen(
        command, cwd=finished_project, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            printed, address = [], None  # up to its address: it takes the next free port when its own is in use
            for line in process.stdout:
                printed.append(line)
                if address := re.search(r"http://127\.0\.0\.1:\d+/", line):
                    break
            assert address, "".join(printed)
            with urlopen(f"{address[0]}api/main") as answer:
                served_graph = json.load(answer)
        finally:
            with suppress(ProcessLookupError):  # it may have failed to start
                os.killpg(process.pid, signal.SIGTERM)  # kedro-viz serves from a process of its own
    assert {node["id"] for node in served_graph["nodes"]} == {node["id"] for node in graph["nodes"]}
