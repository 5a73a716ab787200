"""What kedro viz shows when it opens: folded namespaces, layers, few boxes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("kedro_viz", reason="kedro-viz is not installed")


@pytest.fixture(scope="module")
def graph(finished_project: Path) -> dict:
    command = [sys.executable, "-m", "kedro", "viz", "build", "--include-previews"]
    finished = subprocess.run(command, cwd=finished_project, capture_output=True, text=True, check=False, timeout=180)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return json.loads((finished_project / "build" / "api" / "main").read_text())


def test_the_default_view_is_readable(graph: dict) -> None:
    # parameters are hidden until one asks for them
    boxes = [box for box in graph["modular_pipelines"]["__root__"]["children"] if box["type"] != "parameters"]
    assert 10 < len(boxes) < 30


def test_layers_are_in_order(graph: dict) -> None:
    layers = ["raw", "primary", "intermediate", "feature", "model_input", "models", "model_output", "reporting"]
    assert graph["layers"] == layers
    data = [node for node in graph["nodes"] if node["type"] == "data"]
    assert [node["name"] for node in data if node["layer"] is None] == []


def test_each_chunk_folds_into_its_split(graph: dict) -> None:
    children = {child["id"] for child in graph["modular_pipelines"]["train"]["children"]}
    assert {"train.chunk_000", "train.chunk_001"} <= children


def test_learning_curves_comparison_and_calibration_are_drawn(finished_project: Path, graph: dict) -> None:
    drawn = {}
    for node in graph["nodes"]:
        if node["name"] in ("two_tower.training_log", "comparison", "evaluation.testA_calibration"):
            detail = json.loads((finished_project / "build" / "api" / "nodes" / node["id"]).read_text())
            assert detail["preview_type"] == "PlotlyPreview"
            drawn[node["name"]] = {trace["name"]: trace for trace in detail["preview"]["data"]}
    assert len(drawn["two_tower.training_log"]["nDCG@5 on valid"]["y"]) == 2
    ours = drawn["comparison"]["testA, leak-free"]
    assert "two_tower" in ours["y"]
    bins = drawn["evaluation.testA_calibration"]["candidates, binned"]
    assert bins["x"] == sorted(bins["x"])
    assert len(bins["x"]) == len(bins["y"]) == len(bins["text"]) > 1
    assert min(ours["error_x"]["array"] + ours["error_x"]["arrayminus"]) >= 0
