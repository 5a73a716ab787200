import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from multimodal_recall.config.options import HardwareOptions, RerankOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.data.examples import read_candidates
from multimodal_recall.evaluation.rankings import IDS
from multimodal_recall.models.ranker import Ranker
from multimodal_recall.models.saved import TrainedRanker
from multimodal_recall.pipelines.evaluate.nodes import score_candidates
from tests.conftest import SMALL, forced_options, load, run_project

RESCORED = {"two_tower, smoothed boxes", "two_tower, k-reciprocal"}


class Joint(Ranker):
    """A ranker that has vectors of pairs, but none of products."""

    def __init__(self, model: TrainedRanker) -> None:
        super().__init__()
        self.inner = model.build()

    def pair_vectors(self, batch: Batch) -> Tensor:
        return self.inner.pair_vectors(batch)

    def score_vectors(self, vectors: Tensor) -> Tensor:
        return self.inner.score_vectors(vectors)


def score(project: Path, build: type[nn.Module] | None = None, **options: bool) -> pd.DataFrame:
    model = load(project, "two_tower.model")
    made = (
        model if build is None else SimpleNamespace(build=lambda: build(model), options=model.options, card=model.card)
    )
    hardware = HardwareOptions(**forced_options())
    return score_candidates(made, load(project, "valid_examples"), RerankOptions(**options), hardware).to_pandas()


@pytest.fixture(scope="module")
def halved_project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished project, its valid candidates read in two chunks and scored by the same model."""
    project = tmp_path_factory.mktemp("halved") / "project"
    shutil.copytree(finished_project, project)
    nodes = ["featurize", "ingest"]
    made = [f"valid.chunk_00{number}.{node}" for number in range(2) for node in nodes]
    run_project(
        project,
        parameters={**SMALL, "chunks": {"train": 2, "valid": 2}},
        node_names=[*made, "valid.list_examples", "two_tower.score_valid"],
    )
    return project


def test_what_reads_the_candidate_list_is_a_kind_of_its_own(finished_project: Path) -> None:
    comparison = load(finished_project, "comparison")
    for split in ("valid", "testA"):
        kinds = comparison[comparison["split"] == split].set_index("ranking")["kind"]
        assert set(kinds.index[kinds == "reads the query's candidate list"]) == RESCORED
        assert kinds["two_tower"] == "leak-free"
        assert load(finished_project, f"evaluation.{split}_model_scores").schema.names[2:] == ["two_tower"]
    page = load(finished_project, "evaluation.report")
    assert page.index('aria-label="nDCG@5: leak-free"') < page.index("Reads the query&#39;s candidate list</h3>")


def test_the_calibration_is_of_the_headline_model(finished_project: Path) -> None:
    scores = load(finished_project, "two_tower.testA_scores").to_table().to_pandas()
    answers = load(finished_project, "testA_answers")
    bins = load(finished_project, "evaluation.testA_calibration")
    assert bins["candidates"].sum() == len(scores)
    probability = 1 / (1 + np.exp(-scores["score"].astype(float)))
    assert np.average(bins["predicted"], weights=bins["candidates"]) == pytest.approx(probability.mean(), abs=1e-5)
    right = sum(product in answers[query] for query, product in scores[IDS].to_numpy())
    assert bins["observed"] @ bins["candidates"] == pytest.approx(right, abs=1e-3)
    error = np.average(abs(bins["predicted"] - bins["observed"]), weights=bins["candidates"])
    assert f"calibration error {error:.3f}" in load(finished_project, "evaluation.report")


def test_each_can_be_switched_off_and_a_joint_ranker_has_no_product_vectors(finished_project: Path) -> None:
    both = load(finished_project, "two_tower.valid_scores").to_table().to_pandas()
    columns = ["score", "smoothed", "reranked"]
    assert both.notna().all(axis=None)
    off = score(finished_project, smooth_boxes=False, k_reciprocal=False)
    assert off[columns].notna().all().tolist() == [True, False, False]
    smoothed = score(finished_project, k_reciprocal=False)
    assert smoothed[columns].notna().all().tolist() == [True, True, False]
    joint = score(finished_project, Joint)
    assert joint[columns].notna().all().tolist() == [True, True, False]
    for table in (smoothed, joint):
        np.testing.assert_allclose(table["smoothed"], both["smoothed"], atol=1e-6)
    assert np.abs(both["smoothed"] - both["score"]).max() > 1e-4


@pytest.mark.parametrize("columns", [["score"], ["smoothed"], ["reranked"]])
def test_a_list_that_lies_in_two_chunks_is_one_list(
    finished_project: Path, halved_project: Path, columns: list[str]
) -> None:
    chunks = [read_candidates(tables)[0] for tables in load(halved_project, "valid_examples").values()]
    first, second = (set(table["query_id"].to_pylist()) for table in chunks)
    assert first & second
    whole, halved = (
        load(project, "two_tower.valid_scores").to_table().to_pandas() for project in (finished_project, halved_project)
    )
    pd.testing.assert_frame_equal(halved[IDS], whole[IDS])
    pd.testing.assert_frame_equal(halved[columns], whole[columns], check_exact=False, rtol=0, atol=1e-5)


def test_vectors_are_kept_and_classified_anew_where_that_is_asked_for(run_copy: tuple) -> None:
    project, run = run_copy
    asked = {**SMALL, "evaluate": {"bootstrap_draws": 50, "reclassify": True}}
    run(pipeline_names=["evaluate"], parameters=asked)
    table = load(project, "two_tower.valid_vectors").to_table()
    scores = load(project, "two_tower.valid_scores").to_table().to_pandas()
    pd.testing.assert_frame_equal(table.select(IDS).to_pandas(), scores[IDS])
    ranker = load(project, "two_tower.model").build().eval()
    vectors = torch.tensor(np.stack(table["vector"].to_numpy()).astype(np.float32))
    again = ranker.score_vectors(vectors).detach()
    np.testing.assert_allclose(again, scores["score"], atol=1e-2)  # float16
    # Then it stands with the leak, on valid alone
    comparison = load(project, "comparison")
    line = comparison[comparison["ranking"] == "two_tower, re-classified vectors"]
    assert line[["split", "kind"]].to_numpy().tolist() == [["valid", "uses the candidate-list leak"]]
    assert line["one_shuffle"].notna().all()
    # And the fit can be run alone, with the same result
    fits = load(project, "evaluation.fits")
    run(node_names=["evaluation.fit_rankings"], parameters=asked)
    pd.testing.assert_frame_equal(load(project, "evaluation.fits"), fits)


def test_a_ranker_that_is_not_evaluated_has_no_line(run_copy: tuple) -> None:
    project, run = run_copy
    scores = load(project, "two_tower.valid_scores").to_table().to_pandas()
    theirs = scores[IDS].assign(theirs=scores["score"])
    theirs.to_parquet(project / "data/01_raw/shop/valid_scores.parquet")
    parameters = {**SMALL, "evaluate": {"models": ["theirs"]}}
    run(node_names=["evaluation.gather_valid_scores", "evaluation.blend_valid_rankings"], parameters=parameters)
    made = load(project, "evaluation.valid_rankings").to_table().to_pandas()
    assert "theirs, keep-once" in set(made["ranking"])
    assert not RESCORED & set(made["ranking"])


def test_log_and_report_say_whether_the_ranker_beats_chance(
    run_copy: tuple[Path, Callable[..., None]], caplog: pytest.LogCaptureFixture
) -> None:
    project, run = run_copy
    caplog.set_level("INFO")
    run(node_names=["evaluation.compare_rankings", "evaluation.make_report"])
    said = re.search(
        r"on testA, (two_tower \(0\.\d{3}\) is (no better|better|worse) than random order .*)", caplog.text
    )
    assert f'<p class="verdict">{said[1]}.</p>' in load(project, "evaluation.report")
