"""The whole project on a shop of seconds, and the commands of the README's chunk table on its saved data."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DatasetError, MemoryDataset
from kedro.io.core import is_parameter
from kedro.runner import ThreadRunner
from transformers import AutoModel

from multimodal_recall.config.options import NegativeKind
from multimodal_recall.data.examples import read_candidates, read_chunk
from multimodal_recall.data.origins import EncodingMismatch
from multimodal_recall.evaluation.submission import check_submission
from multimodal_recall.models.saved import read_ranker
from tests.conftest import PROJECT, SMALL, by_precision, copy_project, load, run_project, set_options
from tests.tiny_text import save_sentence_encoder

Run = tuple[Path, Callable[..., None]]
PINNED = "import os, sys; os.sched_setaffinity(0, {allowed}); from kedro.framework.cli import main; main()"
STAGES = {"products": "03_primary", "query_features": "04_feature", "samples": "05_model_input"}


def versions(project: Path, name: str, split: str = "train", chunk: str = "chunk_001") -> list[str]:
    """Versions of a chunk's table, oldest first."""
    folder = project / "data" / STAGES[name] / "shop" / split / chunk / f"{name}.parquet"
    return sorted(path.name for path in folder.iterdir())


def read_record(folder: Path, name: str) -> dict:
    return json.loads((folder / f".{name}.record.json").read_text())


def scores_of(project: Path) -> pd.DataFrame:
    return load(project, "two_tower.valid_scores").to_table().to_pandas()


@pytest.mark.precision
def test_the_run_ends_with_a_comparison_and_a_submission(finished_project: Path) -> None:
    comparison = load(finished_project, "comparison")
    free = comparison[comparison["kind"] == "leak-free"]
    assert free["split"].value_counts().to_dict() == {"valid": 6, "testA": 6}
    assert {"two_tower, keep-once", "two_tower, best query only"} < set(comparison["ranking"]) - set(free["ranking"])
    comparison = free[free["split"] == "valid"].set_index("ranking")
    assert set(comparison.index) == {
        *("random order", "noun alone", "two_tower", "generator's truth", "BM25 over titles", "title overlap")
    }
    assert comparison.loc["generator's truth", "nDCG@5"] == 1.0
    assert comparison["queries"].unique().tolist() == [8]
    ours = comparison.loc["two_tower"]
    assert 0 <= ours["low"] <= ours["nDCG@5"] <= ours["high"] <= 1
    queries = load(finished_project, "evaluation.valid_query_metrics").to_table().to_pandas()
    assert queries.loc[queries["ranking"] == "two_tower", "ndcg_at_5"].mean() == pytest.approx(ours["nDCG@5"], abs=1e-6)
    facts = load(finished_project, "evaluation.valid_query_facts").to_table().to_pandas()
    assert (facts["words"] == facts["query"].str.split().str.len()).all()
    assert facts.notna().all(axis=None)
    breakdown = load(finished_project, "evaluation.breakdown")
    assert breakdown["split"].unique().tolist() == ["valid", "testA"]
    parts = breakdown[breakdown["split"] == "valid"].groupby("by")
    assert (parts["queries"].sum() == 8).all()
    others = comparison.drop(index="two_tower")
    assert (others[["wins", "loses", "ties"]].sum(axis=1) == 8).all()
    assert "two_tower" in load(finished_project, "evaluation.report")
    negatives = load(finished_project, "two_tower.negatives").set_index("kind")
    assert set(negatives.index) == set(get_args(NegativeKind))
    assert (negatives["candidates"] == 3).all()  # two epochs of one
    assert negatives[["false_share", "beaten", "ndcg_at_5"]].stack().between(0, 1).all()
    assert negatives.loc["random", "false_share"] <= negatives.loc["same_last_word", "false_share"]
    check_submission(
        load(finished_project, "two_tower.testA_submission"),
        load(finished_project, "two_tower.testA_scores").to_table().to_pandas(),
    )


@pytest.mark.precision
def test_the_model_card_says_how_it_came_about(finished_project: Path) -> None:
    model, log = load(finished_project, "two_tower.model"), load(finished_project, "two_tower.training_log").to_table()
    assert model.options.model.image_state == SMALL["two_tower"]["model"]["image_state"]
    facts = {"seed", "epoch", "valid_ndcg_at_5", "parameters", "inputs", "query_features", "packages", "git_commit"}
    assert set(model.card) == facts | {"hardware", "right_pairs", "meant_for", "learning_curve_on_photos"}
    assert model.card["right_pairs"] == SMALL["make_shop"]["train_rows"]
    assert model.card["meant_for"].startswith("millions of right pairs, as published")
    assert model.card["hardware"] == SMALL["hardware"]
    assert model.card["query_features"]["precision"] == SMALL["hardware"]["precision"]
    assert set(model.card["inputs"]) == {"chunk_000", "chunk_001"}
    assert model.card["valid_ndcg_at_5"] == max(log["valid_ndcg_at_5"].to_pylist())
    comparison = load(finished_project, "comparison").set_index(["split", "ranking"])
    assert comparison.loc[("valid", "two_tower"), "nDCG@5"] == pytest.approx(model.card["valid_ndcg_at_5"], abs=1e-6)


@pytest.mark.precision
def test_a_model_works_from_plain_python(finished_project: Path) -> None:
    folder = next((finished_project / "data/06_models/shop/two_tower/model").iterdir()) / "model"
    examples = load(finished_project, "valid_examples")
    ranker = read_ranker(str(folder)).build()
    candidates, pairs = read_candidates(examples["chunk_000"])
    scores = ranker.score(read_chunk(examples["chunk_000"]), pairs)
    assert candidates.num_rows == len(scores)
    assert scores == pytest.approx(scores_of(finished_project)["score"].to_numpy(), abs=1e-6)


def test_no_rows_are_lost(finished_project: Path) -> None:
    pairs = [load(finished_project, f"train.chunk_00{number}.pairs").count_rows() for number in range(2)]
    assert sum(pairs) == SMALL["make_shop"]["train_rows"]
    assert load(finished_project, "train.rejected").count_rows() == 0


def test_nothing_unfinished_is_left(finished_project: Path) -> None:
    assert [path for path in (finished_project / "data").rglob("*") if "unfinished" in path.name] == []


@pytest.mark.precision
def test_a_finished_training_is_repeated_with_another_seed_alone(
    run_copy: Run, caplog: pytest.LogCaptureFixture
) -> None:
    # as after a crash between the last epoch and the saving of the model
    project, run = run_copy
    before, scores = load(project, "two_tower.model"), scores_of(project)
    caplog.set_level("INFO", "multimodal_recall")
    run(node_names=["two_tower.train"])
    assert "taking its result" in caplog.text
    after = load(project, "two_tower.model")
    assert all(torch.equal(after.weights[name], tensor) for name, tensor in before.weights.items())
    caplog.clear()
    # and another seed draws other negatives and trains another model
    stages, last = ["sample_negatives", "train", "evaluate"], ["two_tower.score_valid"]
    run(pipeline_names=stages, to_nodes=last, parameters={**SMALL, "seed": 5})
    assert "training starts anew and replaces it" in caplog.text
    assert not scores_of(project)["score"].equals(scores["score"])


@pytest.mark.precision
def test_threads_in_any_order_give_the_same_scores(finished_project: Path, tmp_path: Path) -> None:
    run_project(copy_project(tmp_path), runner=ThreadRunner(max_workers=2))
    pd.testing.assert_frame_equal(scores_of(tmp_path), scores_of(finished_project))


def test_one_chunk_in_all_stages_or_in_one(run_copy: Run) -> None:
    project, run = run_copy
    run(namespaces=["train.chunk_001"])
    assert [len(versions(project, name)) for name in STAGES] == [2, 2, 2]
    run(pipeline_names=["featurize"], namespaces=["train.chunk_001"])
    assert [len(versions(project, name)) for name in STAGES] == [2, 3, 2]
    assert [len(versions(project, name, chunk="chunk_000")) for name in STAGES] == [1, 1, 1]


@pytest.mark.precision
def test_resume_makes_what_is_missing_and_what_follows_nothing_else(run_copy: Run) -> None:
    project, run = run_copy
    before = scores_of(project)
    shutil.rmtree(project / "data/04_feature/shop/train/chunk_001/query_features.parquet")
    shutil.rmtree(project / "data/07_model_output/shop/two_tower/valid_scores.parquet")
    run(only_missing_outputs=True)
    assert [len(versions(project, name)) for name in STAGES] == [1, 1, 1]
    pd.testing.assert_frame_equal(scores_of(project), before)


def test_pinning_a_chunk_and_a_training_set(run_copy: Run) -> None:
    project, run = run_copy
    first = versions(project, "query_features")[0]
    lists = project / "data/05_model_input/shop/train/examples.json"
    first_list = next(lists.iterdir()).name
    run(from_nodes=["train.chunk_001.featurize"], to_nodes=["train.list_examples"])
    pinned = {"train.chunk_001.query_features": first}
    run(node_names=["train.list_examples"], load_versions=pinned)
    newest = load(project, "train_examples")["chunk_001"]["query_features"]
    assert Path(newest.files[0]).parent.name == first
    record = read_record(max(lists.iterdir()), "examples.json")
    assert record["inputs"]["train.chunk_001.query_features"] == first
    run(node_names=["two_tower.train"], load_versions={"train_examples": first_list})
    model = load(project, "two_tower.model")
    assert model.card["inputs"]["chunk_001"]["query_features"] == first


def test_a_seed_ensemble_trained_in_threads_is_a_ranking_of_its_own(run_copy: Run) -> None:
    # Given two rankers that differ in their seed alone, and train in threads at the same time
    project, run = run_copy
    first = {**SMALL["two_tower"], "model": {"kind": "two_tower", **SMALL["two_tower"]["model"], "dropout": 0.5}}
    blends = {"evaluate": {**SMALL["evaluate"], "blends": {"both": ["first", "second"]}}}
    parameters = {**SMALL, "first": first, "second": {**first, "seed": 1}, **blends}
    run(
        pipeline_names=["train", "evaluate"],
        to_nodes=["evaluation.blend_valid_rankings"],
        parameters={**parameters, "rankers": "first second"},
        runner=ThreadRunner(max_workers=2),
    )
    assert "both, sum of z-scores" in load(project, "evaluation.valid_rankings").to_table()["ranking"].to_pylist()
    second = load(project, "second.model")
    assert second.card["seed"] == 1
    # When the first is trained alone with the seed of the second
    run(node_names=["first.train"], parameters={**parameters, "rankers": "first", "seed": 1})
    first = load(project, "first.model")
    assert all(torch.equal(first.weights[name], weights) for name, weights in second.weights.items())


def test_query_features_of_another_way_are_neither_trained_on_nor_scored(run_copy: Run) -> None:
    _, run = run_copy
    other = {**SMALL, "language_model": {**SMALL["language_model"], "pretrain_epochs": 2}}
    remade = ["language.prepare_language_model", "train.chunk_001.featurize", "valid.chunk_000.featurize"]
    run(node_names=[*remade, "train.list_examples", "valid.list_examples"], parameters=other)
    with pytest.raises(EncodingMismatch, match=r"chunk_001.* was made with another language model than train's first"):
        run(node_names=["two_tower.train"], parameters=other)
    with pytest.raises(
        EncodingMismatch, match=r"valid.* was made with another language model than the ranker's training queries"
    ):
        run(node_names=["two_tower.score_valid"], parameters=other)
    run(node_names=["two_tower.score_testA"], parameters=other)


@pytest.mark.precision
def test_query_features_of_two_precisions_are_named(run_copy: Run, caplog: pytest.LogCaptureFixture) -> None:
    _, run = run_copy
    other = "float32" if SMALL["hardware"]["precision"] == "bfloat16" else "bfloat16"
    parameters = {**SMALL, "hardware": {**SMALL["hardware"], "precision": other}}
    run(node_names=["train.chunk_001.featurize", "train.list_examples"], parameters=parameters)
    run(node_names=["two_tower.train"])
    assert f"holds query vectors made in {other}, beside train's first chunk" in caplog.text


@pytest.mark.slow
def test_a_run_takes_the_cores_that_it_may_use(run_copy: Run) -> None:
    project, _ = run_copy
    set_options(project, {**SMALL, "hardware": {"device": "cpu"}})
    for allowed in ([0], [0, 1]):
        nodes = "--nodes=train.chunk_000.featurize"
        command = [sys.executable, "-c", PINNED.format(allowed=allowed), "run", nodes]
        variables = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        finished = subprocess.run(
            command, cwd=project, env=variables, capture_output=True, text=True, check=True, timeout=120
        )
        printed = " ".join(finished.stdout.split())
        assert f"{len(allowed)} thread" in printed
        assert f"cores that this process may use: {len(allowed)}" in printed


@pytest.mark.slow
def test_rankers_start_from_a_pre_trained_image_encoder(run_copy: Run) -> None:
    project, run = run_copy
    sizes = {"box_size": 16, "head_size": 8, "position_state": 4, "attention_heads": 2, "feed_forward": 16}
    starts = {"rankers": ["word_level", "sentence_level"], "evaluate": {"bootstrap_draws": 50, "folds": 2}}
    for name in ("image_tags", *starts["rankers"]):
        starts[name] = {"model": {"image_encoder": {**sizes, "weight_states": [4]}}, "epochs": 2, "batch_size": 50}
    parameters = {**SMALL, **starts}
    run(pipeline_names=["train", "evaluate"], parameters=parameters)
    log = load(project, "image_tags.training_log").to_table()
    assert [len(parts) for parts in log["loss_parts"].to_pylist()] == [2, 2]
    assert {"word_level", "sentence_level"} < set(load(project, "comparison")["ranking"])
    assert not (project / "data/07_model_output/shop/image_tags").exists()
    pretrained = load(project, "image_tags.model")
    assert set(pretrained.card["inputs"]) == {"chunk_000", "chunk_001"}
    # Given a rate too small to move a weight: the ranker ends where it started
    parameters["word_level"] = {**parameters["word_level"], "learning_rate": 1e-30}
    run(node_names=["word_level.train"], parameters=parameters)
    ranker = load(project, "word_level.model")
    taken = [name for name in ranker.weights if name.startswith("image_encoder.")]
    assert all(torch.equal(ranker.weights[name], pretrained.weights[name]) for name in taken)
    # and pre-training again changes what is trained from it
    run(node_names=["image_tags.train"], parameters={**parameters, "seed": 7})
    run(node_names=["word_level.train"], parameters=parameters)
    again = load(project, "word_level.model")
    assert not any(torch.equal(ranker.weights[name], again.weights[name]) for name in taken if "heads" in name)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [0, 2])
def test_a_sentence_encoder_makes_the_query_vectors_and_starts_rankers(run_copy: Run, epochs: int) -> None:
    project, run = run_copy
    encoder = save_sentence_encoder(project / "models/encoder")
    sizes = {
        "siamese": {"state": 16, "layers": 2, "heads": 2},
        "mcan": {"width": 16, "heads": 2, "feed_forward": 16},
        "visual_bert": {"width": 16, "layers": 3, "heads": 2, "feed_forward": 64},
    }
    rankers = {
        name: {"model": {**model, "text_model": "models/encoder"}, "epochs": 1, "learning_rate": 1e-30}
        for name, model in sizes.items()
    }
    language = {"start_from": "models/encoder", "pretrain_epochs": epochs}
    names = {"rankers": ["two_tower", *rankers]}
    stages = ["featurize", "sample_negatives", "train", "evaluate"]
    run(pipeline_names=stages, parameters={**SMALL, **rankers, **names, "language_model": language})
    assert {*names["rankers"]} < set(load(project, "comparison")["ranking"])
    made = AutoModel.from_pretrained(load(project, "language_model")).embeddings.word_embeddings.weight
    start = AutoModel.from_pretrained(encoder).embeddings.word_embeddings.weight
    assert torch.equal(made, start) == (epochs == 0)
    # and a ranker starts from the named text model, whatever was done to the language model
    words = [name for name in load(project, "siamese.model").weights if "text.embeddings.word_embeddings" in name]
    for ranker, name in (
        ("siamese", words[0]),
        ("mcan", "tokens.words.weight"),
        ("visual_bert", "tokens.words.weight"),
    ):
        table = load(project, f"{ranker}.model").weights[name]
        assert torch.equal(table, start[: len(table)]), ranker


@pytest.mark.slow
@pytest.mark.precision
def test_two_processes_train_the_same_ranker(run_copy: Run) -> None:
    project, run = run_copy
    weights = []
    for processes in (1, 2):
        ranker = {
            **SMALL["two_tower"],
            "model": {**SMALL["two_tower"]["model"], "dropout": 0.0},
            "processes": processes,
        }
        run(node_names=["two_tower.train"], parameters={**SMALL, "two_tower": ranker})
        weights.append(load(project, "two_tower.model").weights)
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=by_precision(1e-4, 2e-2))


@pytest.mark.parametrize("env", [None, "kddcup", "photos"])
def test_every_dataset_of_every_pipeline_is_in_the_catalog(env: str | None, tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    bootstrap_project(project)
    pipelines.configure("multimodal_recall.pipeline_registry")
    with KedroSession.create(project, env=env) as session:
        catalog = session.load_context().catalog
        names = {name for pipeline in pipelines.values() for name in pipeline.datasets()}
        assert len(names) > 30
        for name in names:
            assert is_parameter(name) or not isinstance(catalog.get(name), MemoryDataset | None), name


def test_a_missing_train_file_says_where_to_put_it(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    with pytest.raises(DatasetError, match=r"does not exist\. Put the file there, official or your own") as error:
        run_project(project, env="photos", parameters={"seed": 0})
    # and so do the other files that the run would miss hours later
    for name in ("train_tsv", "valid_tsv", "valid_answers", "labels"):
        assert f"{name}: {project}/data/01_raw/photos" in str(error.value)


def test_a_stage_without_what_it_reads_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"train_examples: .* has no version yet\. Run the stage that makes it first"
    ):
        run_project(copy_project(tmp_path), pipeline_names=["train"])


def test_the_shell_command_runs_one_node(run_copy: Run) -> None:
    project, _ = run_copy
    set_options(project, SMALL)
    command = [sys.executable, "-m", "kedro", "run", "--pipelines=ingest", "--namespaces=train.chunk_001"]
    finished = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "1 of 1: " in finished.stdout
    assert len(versions(project, "products")) == 2
    assert (
        pq.read_table(
            project
            / "data/03_primary/shop/train/chunk_001/products.parquet"
            / versions(project, "products")[1]
            / "products.parquet"
        ).num_rows
        > 0
    )


def test_an_ingest_node_imports_no_library_that_it_does_not_need() -> None:
    slow = ["bm25s", "faiss", "gensim", "matplotlib", "scipy", "sklearn", "starlette", "torch", "transformers"]
    code = f"import sys, multimodal_recall.pipeline_registry; print(set({slow}) & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert finished.stdout.strip() == "set()"
