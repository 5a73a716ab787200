"""Scores from elsewhere through ``kedro run``, with and without rankers of our own."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from multimodal_recall.config.options import UnknownModelError
from tests.conftest import copy_project, load, run_project

pytestmark = pytest.mark.slow

PUBLISHED = {
    "imagebert": (0.709813, 0.6155),
    "lxmert_b1": (0.689490, 0.5327),
    "lxmert_b2": (0.686212, 0.5646),
    "lxmert_b3": (0.673890, 0.5136),
}


def test_the_leaderboard(leaderboard_project: Path) -> None:
    table = load(leaderboard_project, "comparison", "leaderboard").set_index("ranking")
    for model, (ndcg, leak_poor) in PUBLISHED.items():
        assert table.loc[model, "nDCG@5"] == pytest.approx(ndcg, abs=1e-6)
        assert table.loc[model, "leak-poor nDCG@5"] == pytest.approx(leak_poor, abs=1e-4)
    for rule, ndcg in {"best query only": 0.7486, "keep-once": 0.8367, "keep-once all splits": 0.8766}.items():
        row = table.loc[f"imagebert, {rule}"]
        assert row["nDCG@5"] == pytest.approx(ndcg, abs=5e-5)
        assert row["kind"] == "uses the candidate-list leak"
    for ranking, (least, kind) in {
        "weighted sum of log-odds": (0.725, "fitted on valid, out of fold"),
        "LambdaRank": (0.733, "fitted on valid, out of fold"),
        "LambdaRank, list counts": (0.885, "uses the candidate-list leak"),
    }.items():
        assert table.loc[ranking, "one_shuffle"] >= least
        assert table.loc[ranking, "kind"] == kind
        assert 0 < table.loc[ranking, "over_shuffles"] < 0.01
    assert table.loc["lxmert_b1", ["wins", "loses", "ties"]].sum() == 496


def test_given_scores_stand_beside_our_own(run_copy: tuple) -> None:
    project, run = run_copy
    scores = load(project, "two_tower.valid_scores").to_table().to_pandas()
    theirs = scores[["query_id", "product_id"]].assign(theirs=-scores["score"], score=scores["score"])
    theirs.sample(frac=1, random_state=0).to_parquet(project / "data/01_raw/shop/valid_scores.parquet")
    run(pipeline_name="evaluate")
    table = load(project, "comparison").set_index(["split", "ranking"])
    assert {"two_tower", "theirs", "score", "sum of ranks", "LambdaRank"} < set(table.loc["valid"].index)
    # a column that is called as ours inside
    assert table.loc[("valid", "score"), "nDCG@5"] == table.loc[("valid", "two_tower"), "nDCG@5"]
    assert "theirs" not in table.loc["testA"].index


def test_an_answer_that_is_missing(run_copy: tuple) -> None:
    project, run = run_copy
    answers = project / "data/01_raw/shop/valid_answer.json"
    kept = json.loads(answers.read_text())
    query, _ = kept.popitem()
    answers.write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=f"1 scored queries have no answer, first {query}"):
        run(node_names=["evaluation.measure_valid_rankings"])


def test_an_option_that_names_a_model_without_scores_is_refused_before_the_first_node(run_copy: tuple) -> None:
    project, run = run_copy
    scores = load(project, "two_tower.valid_scores").to_table().to_pandas()
    scores = scores[["query_id", "product_id"]].assign(theirs=scores["score"])
    scores.to_parquet(project / "data/01_raw/shop/valid_scores.parquet")
    message = r"evaluate.ranking names \['theirs'\], but the models with scores are \['two_tower'\]"
    with pytest.raises(UnknownModelError, match=message):  # of testA: theirs has scores of valid
        run(pipeline_names=["train", "evaluate"], parameters={"evaluate": {"ranking": "theirs"}})
    assert len(list((project / "data/06_models/shop/two_tower").glob("model*/*Z"))) == 1
    scores.to_parquet(project / "data/01_raw/shop/testA_scores.parquet")
    run(node_names=["evaluation.gather_valid_scores"], parameters={"evaluate": {"ranking": "theirs"}})


def test_a_table_of_scores_that_lacks_a_model_of_the_options(run_copy: tuple) -> None:
    project, run = run_copy
    blends = {"evaluate": {"blends": {"both": ["two_tower", "theirs"]}}}
    for split in ("valid", "testA"):  # it came after all scores were gathered
        scores = load(project, f"two_tower.{split}_scores").to_table().to_pandas()
        scores = scores[["query_id", "product_id"]].assign(theirs=scores["score"])
        scores.to_parquet(project / f"data/01_raw/shop/{split}_scores.parquet")
    with pytest.raises(UnknownModelError, match=r"blends.both names \['theirs'\], but .* are \['two_tower'\]"):
        run(node_names=["evaluation.blend_valid_rankings"], parameters=blends)
    run(node_names=["evaluation.gather_valid_scores", "evaluation.blend_valid_rankings"], parameters=blends)


def test_one_candidate_in_half_precision_is_evaluated(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    folder = project / "data/01_raw/scores"
    folder.mkdir(parents=True)
    scores = pd.DataFrame({"query_id": [-7], "product_id": [2**63 - 1], "theirs": np.float16([0.5])})
    scores.set_index("query_id").to_parquet(folder / "valid_scores.parquet")
    (folder / "valid_answer.json").write_text(json.dumps({"-7": [2**63 - 1]}))
    run_project(project, env="scores", parameters={"evaluate": {"bootstrap_draws": 50}})
    assert load(project, "comparison", "scores").set_index("ranking").loc["theirs", "nDCG@5"] == 1


def test_scores_that_are_no_table(run_copy: tuple) -> None:
    project, run = run_copy
    pd.DataFrame({"query": [1], "score": [0.5]}).to_parquet(project / "data/01_raw/shop/valid_scores.parquet")
    with pytest.raises(ValueError, match=r"given scores has the columns \['query', 'score'\]: wanted query_id"):
        run(node_names=["evaluation.gather_valid_scores"])


def test_a_column_that_is_called_as_a_ranking_of_ours(run_copy: tuple) -> None:
    project, run = run_copy
    scores = load(project, "two_tower.valid_scores").to_table().to_pandas()
    scores = scores[["query_id", "product_id"]].assign(**{"random order": scores["score"]})
    scores.to_parquet(project / "data/01_raw/shop/valid_scores.parquet")
    with pytest.raises(ValueError, match=r"scores of \['random order'\], but evaluate gives this name to"):
        run(node_names=["evaluation.gather_valid_scores"])
