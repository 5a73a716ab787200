"""Our rankings and judgements in other toolkits, and theirs in ours: the figures are equal."""

import csv
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from multimodal_recall.config.layout import Layout
from multimodal_recall.datasets.beir_folder import product_texts
from multimodal_recall.datasets.trec import QrelsFile, RunFolder
from multimodal_recall.evaluation.judgements import take_judgements
from multimodal_recall.evaluation.metrics import MetricError
from multimodal_recall.evaluation.rankings import REFERENCES, run_scores
from multimodal_recall.evaluation.recall import IR_MEASURES, TITLES
from multimodal_recall.pipelines.exchange.nodes import name_products
from multimodal_recall.pipelines.exchange.pipeline import create_pipeline
from tests.conftest import SMALL, copy_project, load, run_project
from tests.pipelines.test_recall import TWO_STAGES

Run = tuple[Path, Callable[..., None]]
OF_LISTS = {
    "nDCG@5": ir_measures.nDCG @ 5,
    "nDCG@10": ir_measures.nDCG @ 10,
    "MRR": ir_measures.RR,
    "MAP": ir_measures.AP,
}


@pytest.fixture(scope="module")
def exchanged(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose rankings, of lists and of the whole catalogue, are written for others."""
    project = shutil.copytree(finished_project, tmp_path_factory.mktemp("exchange") / "project")
    run_project(project, pipeline_names=["index", "recall", "exchange", "exchange_recall"], parameters=TWO_STAGES)
    return project


def theirs(project: Path, split: str, runs: str, measures: list) -> dict[str, dict]:
    """What ir_measures, which runs pytrec-eval-terrier, reads and measures in our files, by tag."""
    qrels = list((project / "data/08_reporting/shop/exchange").glob(f"{split}.qrels/*/{split}.qrels"))[-1]
    judged = list(ir_measures.read_trec_qrels(str(qrels)))
    files = load(project, f"exchange.{split}_{runs}")
    read = {tag: list(ir_measures.read_trec_run(str(file))) for tag, file in files.items()}
    return {tag: ir_measures.calc_aggregate(measures, judged, run) for tag, run in read.items()}


@pytest.mark.parametrize("split", ["valid", "testA"])
def test_our_figures_of_lists_come_out_of_our_files(exchanged: Path, split: str) -> None:
    table = load(exchanged, "comparison")
    table = table[(table["split"] == split) & ~table["ranking"].isin(REFERENCES.values())]
    found = theirs(exchanged, split, "runs", list(OF_LISTS.values()))
    assert len(found) == len(table) > 4
    for row in table.to_dict("records"):
        measured = found["_".join(row["ranking"].replace(",", "").split())]
        for name, measure in OF_LISTS.items():
            assert measured[measure] == pytest.approx(row[name], abs=1e-6), (row["ranking"], name)


def test_our_figures_of_the_whole_catalogue_come_out_of_our_files(exchanged: Path) -> None:
    table = load(exchanged, "recall").set_index(["split", "ranking", "measure"])["value"]
    found = theirs(exchanged, "testA", "recall_runs", list(IR_MEASURES.values()))
    assert {*found} == {"two_tower", "two_tower_then_two_tower"}
    for tag, ranking in zip(found, ("two_tower", "two_tower, then two_tower"), strict=True):
        for name, measure in IR_MEASURES.items():
            ours = table["testA", ranking, TITLES[name]]
            assert found[tag][measure] == pytest.approx(ours, abs=1e-6), (tag, name)


def test_beir_reads_the_collection(exchanged: Path) -> None:
    beir = pytest.importorskip("beir.datasets.data_loader", reason="beir is not installed")
    folder = load(exchanged, "exchange.beir")
    corpus, queries, qrels = beir.GenericDataLoader(str(folder)).load("testA")
    assert {*map(int, corpus)} == {*load(exchanged, "two_tower.index").product_ids().tolist()}
    answers = json.loads((exchanged / "data/01_raw/shop/testA_answer.json").read_text())
    assert qrels == {query: {str(product): 1 for product in right} for query, right in answers.items()}
    pairs = load(exchanged, "testA_examples")["chunk_000"]["pairs"].to_table().to_pandas()
    texts = pairs.drop_duplicates("query_id").set_index("query_id")["query"]
    assert queries == {str(query): text for query, text in texts.items()}
    titles = load(exchanged, "titles").to_table().to_pandas().set_index("product_id")["title"]
    assert all(corpus[str(product)]["text"] == title for product, title in titles.items())
    with (folder / "qrels/valid.tsv").open() as file:
        assert next(csv.reader(file, delimiter="\t")) == ["query-id", "corpus-id", "score"]


def test_a_product_without_a_title_is_called_by_its_labels() -> None:
    lists = pa.array([[0, 1, 0], [1], None, [2, 2]], pa.list_(pa.int16()))
    products = pa.table({"product_id": [1, 2, 3, 4], "title": ["", "red hat", None, None], "labels": lists})
    assert product_texts(products, ["shoe", "hat, cap", "l'été"]).tolist() == ["shoe, hat, cap", "red hat", "", "l'été"]


def test_a_run_of_ours_gives_our_figures_as_scores_from_elsewhere(exchanged: Path, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    raw = project / "data/01_raw/scores"
    raw.mkdir(parents=True)
    for split in ("valid", "testA"):
        files = load(exchanged, f"exchange.{split}_runs")
        lines = "".join(files[tag].read_text() for tag in ("two_tower", "two_tower_smoothed_boxes"))
        (raw / f"{split}.run").write_text(lines)
        qrels = list((exchanged / "data/08_reporting/shop/exchange").glob(f"{split}.qrels/*/{split}.qrels"))[-1]
        (raw / f"{split}.qrels").write_text(qrels.read_text())
    run_project(project, env="scores", parameters={"evaluate": {"bootstrap_draws": 50, "folds": 2}})
    ours = load(exchanged, "comparison").set_index(["split", "ranking"])["nDCG@5"]
    again = load(project, "comparison", "scores").set_index(["split", "ranking"])["nDCG@5"]
    for split in ("valid", "testA"):
        assert again[split, "two_tower"] == pytest.approx(ours[split, "two_tower"], abs=1e-6)
        assert again[split, "two_tower_smoothed_boxes"] == pytest.approx(
            ours[split, "two_tower, smoothed boxes"], abs=1e-6
        )
    run_project(project, env="scores", pipeline_name="exchange")


def test_judgements_of_some_queries_are_evaluated(run_copy: Run, caplog: pytest.LogCaptureFixture) -> None:
    # as a user downloads them from the page of a search: some queries, graded, products that are no candidates
    project, run = run_copy
    answers = json.loads((project / "data/01_raw/shop/testA_answer.json").read_text())
    first, second, third, *_ = answers
    all_products = load(project, "train_examples")["chunk_000"]["products"].to_table(columns=["product_id"])
    stranger = all_products["product_id"][0].as_py()
    lines = [f"{first} 0 {product} 2" for product in answers[first]]
    lines += [f"{second} 0 {stranger} 1", f"{second} 0 {answers[second][0]} 0", f"{third} 0 {stranger} 0", "-5 0 1 1"]
    (project / "data/01_raw/shop/testA.qrels").write_text("\n".join(lines))
    with caplog.at_level(logging.INFO):
        run(pipeline_names=["qrels", "evaluate", "index", "recall"], parameters=SMALL)
    told = [record.message for record in caplog.records if record.message.startswith("qrels of testA")]
    assert told == [
        "qrels of testA: 2 of its 8 queries have a right product and are measured. Left out: 2 further queries of the "
        f"qrels. 1 of {len(answers[first]) + 1} right products are no candidates"
    ]
    metrics = load(project, "evaluation.testA_query_metrics").to_table().to_pandas()
    assert {*metrics["query_id"]} == {int(first), int(second)}
    assert metrics.loc[metrics["query_id"] == int(second), "ndcg_at_5"].eq(0).all()
    before = load(project, "evaluation.valid_query_metrics").to_table().to_pandas()
    assert before["query_id"].nunique() == 8  # the other split has its answer file
    table = load(project, "recall").set_index(["split", "ranking", "measure"])
    assert table.loc[("testA", "two_tower", "recall@10"), "queries"] == 2
    retrieved = load(project, "two_tower.testA_retrieved").to_table().to_pandas()
    judged = {(int(line.split()[0]), int(line.split()[2])) for line in lines}
    top = retrieved[retrieved["rank"] <= 10][["query_id", "product_id"]].itertuples(index=False)
    share = np.mean([tuple(row) in judged for row in top])
    assert table.loc[("testA", "two_tower", "judged@10"), "value"] == pytest.approx(share)


def test_qrels_of_other_queries_are_refused() -> None:
    qrels = pd.DataFrame({"query_id": [1, 2], "product_id": [5, 6], "relevance": [1, 0]})
    candidates = pd.DataFrame({"query_id": [2, 3], "product_id": [6, 5]})
    with pytest.raises(
        MetricError, match=r"qrels of testA judge 2 queries\. None of these is one of the 2 queries of testA"
    ):
        take_judgements(qrels, candidates, split="testA")


def test_a_shops_own_qrels_and_its_runs_name_a_product_alike(tmp_path: Path) -> None:
    # Given a SKU with what a file of TREC has no quoting for, and a judged product that the shop no longer has
    products = ds.dataset(pa.table({"product_id": [1, 2], "sku": ['12" pan 100%', "00,7"]}))
    judged = ds.dataset(pa.table({"query_id": [5, 5, 5], "product_id": [1, 2, 77], "relevance": [2, 0, 1]}))
    ranked = pd.DataFrame({"query_id": [5, 5], "product_id": [2, 1], "rank": [1, 2], "score": [2.0, 1.0]})
    layout = Layout({"testA": 1}, ("testA",), makes_shop=False, rankers=("x",), judged=("testA",), import_chunks=1)
    write = next(node for node in create_pipeline(layout).nodes if node.name.endswith("write_testA_qrels"))
    assert write.inputs == ["shop.products", "testA.judged"]
    QrelsFile(str(tmp_path / "qrels")).save(write.func(products, judged))
    RunFolder(str(tmp_path / "runs")).save({"x": name_products(ranked, products)})
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels")))
    run = list(ir_measures.read_trec_run(str(tmp_path / "runs/x.run")))
    assert [row.doc_id for row in qrels] == ["12%22%20pan%20100%25", "00,7", "77"]
    assert [row.doc_id for row in run] == ["00,7", "12%22%20pan%20100%25"]
    assert ir_measures.calc_aggregate([ir_measures.RR], qrels, run)[ir_measures.RR] == 0.5


def test_a_run_beside_our_own_candidates() -> None:
    run = pd.DataFrame(
        [(1, 10, 3.0, "a"), (1, 11, 3.0, "a"), (1, 99, 9.0, "a"), (1, 12, 1e20, "b")],
        columns=["query_id", "product_id", "score", "tag"],
    )
    candidates = pd.DataFrame({"query_id": [1, 1, 1, 2], "product_id": [12, 11, 10, 10]})
    table, outside, missing = run_scores(run, candidates)
    assert (outside, missing) == (1, 5)
    assert table["product_id"].tolist() == [12, 11, 10, 10]
    assert table["a"].tolist() == [2, 3, 3, -1]
    assert (table["b"].iloc[1:3] < 1e20).all()
    assert run_scores(run)[0]["product_id"].tolist() == [10, 11, 12, 99]
