"""Runs of the small shop side by side, as notebooks and the shell see them."""

import json
import shutil
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from kedro.io import CatalogProtocol

from multimodal_recall.datasets.atomic import record_path, seal
from multimodal_recall.datasets.parquet_table import digest_footer
from multimodal_recall.runs.compare import RunError, compare_runs, find_runs
from tests.conftest import SMALL, open_catalog, run_project

OTHER = {**SMALL, "seed": 1, "two_tower": {**SMALL["two_tower"], "epochs": 3}}
LAST = ["evaluation.compare_rankings"]  # the report would follow


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole run; another training with its evaluation; an evaluation alone; a training alone."""
    project = tmp_path_factory.mktemp("runs") / "project"
    shutil.copytree(finished_project, project)
    run_project(project, parameters=OTHER, pipeline_names=["train", "evaluate"], to_nodes=LAST)
    wide = {**OTHER, "evaluate": {**SMALL["evaluate"], "confidence": 0.5}}
    run_project(project, parameters=wide, pipeline_names=["evaluate"], to_nodes=LAST)
    run_project(project, parameters=SMALL, node_names=["two_tower.train"])
    return project


@pytest.fixture(scope="module")
def catalog(project: Path) -> CatalogProtocol:
    return open_catalog(project)


def test_each_run_is_found_with_what_it_made(catalog: CatalogProtocol) -> None:
    both = ["comparison", "two_tower.model"]
    assert list(find_runs(catalog).values()) == [both, both, ["comparison"], ["two_tower.model"]]


def test_another_training(catalog: CatalogProtocol) -> None:
    first, second = list(find_runs(catalog))[:2]
    found = compare_runs(catalog, [second, first])
    assert list(found.differences.columns) == [first, second]  # the oldest first
    assert found.differences.loc["two_tower.epochs"].tolist() == ["2", "3"]
    assert found.differences.loc["two_tower.model"].tolist() == [first, second]
    seeds = found.differences.loc["seed"]
    assert seeds[first] == "0"
    assert seeds[second].startswith("0 in ")  # of the chunks that were not made again
    assert "; 1 in " in seeds[second]
    assert set(found.differences.index) == {"two_tower.epochs", "two_tower.model", "seed", "two_tower.seed"}
    row = found.scores.loc[("testA", "leak-free", "two_tower")]
    tables = {run: catalog.load("comparison", run).set_index(["split", "ranking"]) for run in (first, second)}
    for run, table in tables.items():
        assert row[(run, "nDCG@5")] == table.loc[("testA", "two_tower"), "nDCG@5"]
    difference = row[second]
    assert difference["difference"] == pytest.approx(difference["nDCG@5"] - row[(first, "nDCG@5")], abs=2e-6)
    assert difference["difference_low"] < difference["difference"] < difference["difference_high"]
    assert (found.scores.loc[("testA", "leak-free", "noun alone"), second]["difference":] == 0).all()
    assert found.trainings.loc[("two_tower", "epochs")].tolist() == [2, 3]
    log = catalog.load("two_tower.training_log", second).to_table().to_pandas()
    assert found.trainings.loc[("two_tower", "last loss"), second] == log["loss"].iloc[-1]
    assert found.trainings.loc[("two_tower", "best valid nDCG@5"), second] == log["valid_ndcg_at_5"].max()
    assert found.notes == []


def test_the_newest_two_evaluations_one_of_the_same_model(catalog: CatalogProtocol) -> None:
    runs = list(find_runs(catalog))
    found = compare_runs(catalog)
    assert list(found.differences.columns) == runs[1:3]
    assert found.differences.loc["evaluate.confidence"].tolist() == ["0.95", "0.5"]
    assert "two_tower.model" not in found.differences.index
    assert (found.trainings[runs[1]] == found.trainings[runs[2]]).all()
    shown = str(found)
    assert "evaluate.confidence" in shown
    assert "testA, leak-free:" in shown
    assert "best valid nDCG@5" in shown


def test_a_training_alone_has_no_scores(catalog: CatalogProtocol) -> None:
    first, *_, last = find_runs(catalog)
    found = compare_runs(catalog, [first, last])
    assert "two_tower.epochs" not in found.differences.index
    assert found.trainings.loc[("two_tower", "last loss")].nunique() == 1  # the same options and seed
    assert set(found.scores.columns.get_level_values(0)) == {first}
    assert "testA, leak-free:" in str(found)


def test_a_run_that_is_not_there(catalog: CatalogProtocol) -> None:
    with pytest.raises(RunError, match=r"no run 2020-01-01\. The runs .*\n  .*Z: comparison, two_tower\.model\n"):
        compare_runs(catalog, ["2020-01-01"])
    with pytest.raises(RunError, match="Two runs are needed"):
        compare_runs(catalog, [next(iter(find_runs(catalog)))])


def test_what_was_dropped_is_said(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project, copy)
    first = min((copy / "data/06_models/shop/two_tower/model").iterdir())
    shutil.rmtree(first)
    found = compare_runs(open_catalog(copy), [first.name, sorted(find_runs(open_catalog(copy)))[1]])
    assert found.notes == [
        f"{first.name} comes from two_tower.model {first.name}, without a record (dropped by kedro prune?): the "
        "options and files before it are not compared"
    ]


def test_other_queries_have_no_paired_difference(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project, copy)
    place = copy / "data/08_reporting/shop/valid_query_metrics.parquet"
    file = sorted(place.iterdir())[-1] / place.name
    table = pq.read_table(file)
    pq.write_table(table.filter(pc.not_equal(table["query_id"], table["query_id"][0])), file)
    record = json.loads(record_path(file).read_text())  # as if a run had written that table
    record["digests"]["footer"] = digest_footer(file)
    record_path(file).write_text(json.dumps({**record, "seal": seal(record)}))
    found = compare_runs(open_catalog(copy))
    new = found.scores.columns[-1][0]
    old = found.scores.columns[0][0]
    assert found.notes == [f"valid of {new} has other files or queries than {old}: no paired difference"]
    assert found.scores[(new, "difference")].groupby("split").count().to_dict() == {"testA": 11, "valid": 0}


def test_queries_of_another_file_are_others_whatever_their_ids(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project, copy)
    run_project(copy, parameters={**SMALL, "make_shop": {**SMALL["make_shop"], "seed": 1}}, to_nodes=LAST)
    found = compare_runs(open_catalog(copy))
    new, old = (found.scores.columns[place][0] for place in (-1, 0))
    assert found.notes == [
        f"{split} of {new} has other files or queries than {old}: no paired difference" for split in ("testA", "valid")
    ]
    assert "difference" not in found.scores[new]


def test_given_scores_that_were_added_leave_the_rankers_paired(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project, copy)
    scores = open_catalog(copy).load("two_tower.valid_scores").to_table().to_pandas()
    given = scores[["query_id", "product_id", "score"]].rename(columns={"score": "elsewhere"})
    given.to_parquet(copy / "data/01_raw/shop/valid_scores.parquet", index=False)
    run_project(copy, parameters=SMALL, pipeline_names=["evaluate"], to_nodes=LAST)
    found = compare_runs(open_catalog(copy))
    new = found.scores.columns[-1][0]
    assert found.notes == []
    assert found.scores.notna().loc[("valid", "leak-free", "two_tower"), (new, "difference")]
    assert ("valid", "leak-free", "elsewhere") in found.scores.index
