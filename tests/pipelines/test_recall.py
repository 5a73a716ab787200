"""Recall of the small shop in all its products, in one stage and in two."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from multimodal_recall.config.options import EvaluateOptions, HardwareOptions
from multimodal_recall.evaluation.metrics import MetricError
from multimodal_recall.evaluation.recall import COVERAGE, TITLES
from multimodal_recall.models.index import IndexMismatch
from multimodal_recall.pipelines.recall.nodes import retrieve
from multimodal_recall.pipelines.recall.speed_nodes import time_search
from tests.conftest import SMALL, load, open_catalog, run_project

Run = tuple[Path, Callable[..., None]]
STAGES = {"first": "two_tower", "second": "two_tower", "candidates": 50}
TWO_STAGES = {**SMALL, "evaluate": {**SMALL["evaluate"], "recall": STAGES}}


@pytest.fixture(scope="module")
def measured_project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished project with its index and its recall in two stages."""
    project = shutil.copytree(finished_project, tmp_path_factory.mktemp("recall") / "project")
    run_project(project, pipeline_names=["index", "recall"], parameters=TWO_STAGES)
    return project


def test_the_second_stage_orders_what_the_first_has_found(measured_project: Path) -> None:
    # Given the same ranker twice: its own scores differ from those of the index by the rounding of float16
    project = measured_project
    first = load(project, "two_tower.testA_retrieved").to_table().to_pandas()
    second = load(project, "two_tower.testA_rescored").to_table().to_pandas()
    assert first.groupby("query_id").size().eq(len(load(project, "two_tower.index").product_ids())).all()
    assert second.groupby("query_id")["rank"].agg(list).map(lambda ranks: ranks == [*range(1, 51)]).all()
    both = second.merge(first, on=["query_id", "product_id"], suffixes=("", "_first"))
    assert len(both) == len(second) == 50 * 8
    assert both["rank_first"].max() == 50
    assert both["score"].to_numpy() == pytest.approx(both["score_first"].to_numpy(), abs=2e-3)


def test_the_table_names_each_ranking_its_measures_and_the_ceiling(measured_project: Path) -> None:
    project = measured_project
    table = load(project, "recall")
    assert table["split"].unique().tolist() == ["valid", "testA"]
    names = ["random order", "two_tower", "two_tower, then two_tower"]
    assert table["ranking"].unique().tolist() == names
    assert table["measure"].unique().tolist() == [*TITLES.values(), COVERAGE]
    assert table["value"].between(0, 1).all()
    cells = table.set_index(["split", "ranking", "measure"])
    for split in ("valid", "testA"):
        first, second = (cells.loc[(split, name)] for name in names[1:])
        assert second.loc["recall@10", "ceiling"] == first.loc["recall@50", "value"] == second.loc["recall@50", "value"]
        assert first.loc["recall@1000", "value"] == 1  # all products are found, the right ones among them
    retrieved = load(project, "two_tower.testA_retrieved").to_table().to_pandas()
    pairs = load(project, "testA_examples")["chunk_000"]["pairs"].to_table().to_pandas()
    top = retrieved[retrieved["rank"] <= 10].merge(pairs[["query_id", "product_id"]])
    assert cells.loc[("testA", "two_tower", "judged@10"), "value"] == pytest.approx(len(top) / 80)
    preview = json.loads(json.dumps(open_preview(project)))
    assert {trace["name"] for trace in preview["data"]} == {
        f"{split}, {name}" for split in cells.index.levels[0] for name in names
    }


def open_preview(project: Path) -> dict:
    return dict(open_catalog(project).get("recall").preview())


def test_an_index_of_another_model_is_refused(indexed: Run) -> None:
    _, run = indexed
    run(node_names=["two_tower.train"], parameters={**SMALL, "seed": 3})
    with pytest.raises(IndexMismatch, match=r"the index of two_tower was made by the model of .*--pipelines=index$"):
        run(pipeline_names=["recall"])


def test_answers_of_another_split_are_refused(finished_project: Path) -> None:
    model, index = load(finished_project, "two_tower.model"), SimpleNamespace(check_model=lambda version: None)
    examples, options = load(finished_project, "testA_examples"), (EvaluateOptions(), HardwareOptions())
    with pytest.raises(MetricError, match="none of the 2 queries with answers is a query of the split: take the same"):
        retrieve(model, index, examples, {-5: [1], -6: [2]}, *options)


def test_a_blend_orders_what_the_first_stage_has_found(run_copy: Run) -> None:
    project, run = run_copy
    tags = {"epochs": 1, "model": {"size": 8, "hidden": 8}}
    stages = {"first": "bag_of_words", "second": ["two_tower", "bag_of_words"], "candidates": 20}
    options = {**SMALL, "rankers": ["two_tower", "bag_of_words"], "bag_of_words": {"batch_size": 50, **tags}}
    options |= {"evaluate": {**SMALL["evaluate"], "recall": stages}, "index": {"approximate": True}}
    run(pipeline_names=["train", "index", "recall"], parameters=options)
    blended = load(project, "evaluation.testA_blended").to_table().to_pandas()
    parts = [load(project, f"{name}.testA_rescored").to_table().to_pandas() for name in ("two_tower", "bag_of_words")]
    keys = ["query_id", "product_id"]
    total = sum(
        part.set_index(keys)["score"]
        .groupby("query_id")
        .transform(lambda scores: (scores - scores.mean()) / scores.std(ddof=0))
        for part in parts
    )
    assert len(blended) == len(total) == 20 * 8
    assert blended.set_index(keys)["score"].sub(total).abs().max() < 1e-5
    assert blended.groupby("query_id")["score"].agg(lambda scores: scores.is_monotonic_decreasing).all()
    assert load(project, "recall")["ranking"].unique().tolist()[-1] == "bag_of_words, then two_tower + bag_of_words"
    check_speed(load(project, "search_speed"))


def check_speed(speed: pd.DataFrame) -> None:
    """A row a way to search, with its timings and what it finds."""
    assert speed[["ranker", "search"]].to_numpy().tolist() == [
        ["two_tower", "exact"],
        ["bag_of_words", "exact"],
        ["bag_of_words", "approximate"],
    ]
    assert speed["recall@10"].between(0.5, 1).all()
    assert (speed["queries"] == 8).all()
    assert speed["bytes"].tolist()[1:] == [8 * 2 + 8] * 2
    warm, cold = (speed[[f"p{part} {name} ms" for part in (50, 95, 99)]] for name in ("warm", "cold"))
    assert (warm > 0).all(axis=None)
    assert (cold.iloc[:2] > 0).all(axis=None)
    assert cold.iloc[2].isna().all()
    for times in (warm, cold.iloc[:2]):
        assert (np.diff(times, axis=1) >= 0).all()


def test_cells_of_another_index_are_not_timed() -> None:
    index = SimpleNamespace(ranker="siamese", check_model=lambda version: None)
    model, cells = (
        SimpleNamespace(folder=Path("model/v/model")),
        SimpleNamespace(is_of=lambda found: found is not index),
    )
    with pytest.raises(IndexMismatch, match=r"the cells of siamese are of another index\. .* kedro run --pipelines=in"):
        time_search(model, index, None, {}, HardwareOptions(), cells)
