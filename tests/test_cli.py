"""This project's own commands on the small shop, as typed in a shell."""

import inspect
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from kedro.framework.cli.cli import KedroCLI
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import find_run_command
from PIL import Image

from multimodal_recall.datasets.atomic import seal
from tests.conftest import SMALL, copy_project, load
from tests.test_whole_run import versions

Kedro = Callable[[str], Result]
CHUNK = "data/03_primary/shop/train/chunk_001"
EVALUATED = "data/08_reporting/shop"
SPLITS = ("testA", "valid")
GATHER, BLEND, MEASURE = (
    [f"{name}_{split}_{things}" for split in SPLITS]
    for name, things in (
        ("gather", "scores"),
        ("blend", "rankings"),
        ("measure", "rankings"),
    )
)
TAKES_EVALUATE = (
    *GATHER,
    *BLEND,
    "calibrate_testA_scores",
    "fit_rankings",
    "break_down_queries",
    "compare_rankings",
    "make_report",
)
PLACES_OF_MODEL_AND_SCORES = (("06_models", "model"), ("07_model_output", "valid_scores.parquet"))
FOLLOWS_FROM_SCORES = ", ".join(
    [
        *(f"{node} of evaluation" for node in ("count_lists", *GATHER)),
        "make_testA_submission of two_tower",
        *(
            f"{node} of evaluation"
            for node in (*BLEND, "calibrate_testA_scores", "fit_rankings", *MEASURE, "break_down_queries")
        ),
        "compare_rankings of evaluation, make_report of evaluation",
    ]
)


@pytest.fixture
def kedro_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Kedro]:
    """Gives the shell's ``kedro`` of a project whose options are the small shop's."""
    monkeypatch.setenv("DO_NOT_TRACK", "1")

    def enter(project: Path) -> Kedro:
        (project / "conf/local").mkdir(exist_ok=True)
        (project / "conf/local/parameters.yml").write_text(json.dumps(SMALL))
        monkeypatch.chdir(project)
        return lambda line: CliRunner().invoke(KedroCLI(project), shlex.split(line)[1:])

    return enter


@pytest.fixture(scope="module")
def unchanged_project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(finished_project, tmp_path_factory.mktemp("cli") / "project")


@pytest.fixture
def kedro_unchanged(unchanged_project: Path, kedro_in: Callable[[Path], Kedro]) -> Kedro:
    """The shell's ``kedro`` in a copy that several tests share: for commands that make and drop nothing."""
    return kedro_in(unchanged_project)


@pytest.fixture
def kedro(run_copy: tuple[Path, Callable], kedro_in: Callable[[Path], Kedro]) -> Kedro:
    """The shell's ``kedro`` in a copy of the finished project, which is the working directory."""
    return kedro_in(run_copy[0])


def lines_of(result: Result, code: int) -> list[str]:
    """What the command said; it must have ended with ``code``."""
    assert result.exit_code == code, result.output
    return result.output.splitlines()


def count(folder: str) -> int:
    return len(list(Path(folder).iterdir()))


def change_record(record: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(record.read_text())
    change(content)
    record.write_text(json.dumps({**content, "seal": seal(content)}))


def test_the_run_command_is_kedros_with_shorter_errors() -> None:
    run = find_run_command("multimodal_recall")
    assert run.params is kedro_run.params
    assert inspect.unwrap(run.callback) is kedro_run.callback


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("kedro run --params=rankers=two_towr", "rankers names 'two_towr', which has no options with a model"),
        ("kedro run --params=two_tower.epoch=3", "epoch\n  Unexpected keyword argument"),
        (
            "kedro run --params=two_tower.negatives.label_sharing=0",
            "  negatives names no kind with a weight above 0, and negatives_per_positive is 1. Name a kind, such as "
            "random: 1\nAll options",
        ),
        ("kedro run --env=mien", "Name a folder of conf/ as --env"),
        ("kedro run --pipelines=training", "Did you mean train?"),
        ("kedro run --nodes=train", "Did you mean two_tower.train?"),
        (
            "kedro run --namespaces=chunk_001",
            "Did you mean language.queries.chunk_001 or train.chunk_001 or two_tower.train.chunk_001?",
        ),
        ("kedro run --from-inputs=train_tsvv", "Did you mean train_tsv or valid_tsv?"),
        ("kedro run --tags=x", "Pipeline contains no nodes after applying all provided filters"),
        ("kedro run --runner=Foo", "module 'kedro.runner' has no attribute 'Foo'"),
        ("kedro run --params=at_once=both", "at_once is 'both', not 'wait' or 'refuse'"),
        (
            "kedro run --pipelines=train --params=ingest.max_boxes=1,stale_inputs=refuse",
            "  ingest.max_boxes was 12, is now 1: collect_queries of language, ingest of train.chunk_000 and 2 more",
        ),
        ("kedro run --env=photos", "Put the file there, official or your own"),
        ("kedro stale --env=mien", "Name a folder of conf/ as --env"),
    ],
)
def test_what_is_wrong_before_the_first_node_is_one_error(kedro_unchanged: Kedro, command: str, said: str) -> None:
    result = kedro_unchanged(command)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)  # no traceback
    assert said in result.output[result.output.index("Error: ") :]


def test_nothing_is_stale_after_a_whole_run(kedro_unchanged: Kedro) -> None:
    assert lines_of(kedro_unchanged("kedro stale"), 0) == ["nothing is stale"]


def test_everything_is_stale_before_the_first_run(tmp_path: Path, kedro_in: Callable[[Path], Kedro]) -> None:
    lines = lines_of(kedro_in(copy_project(tmp_path))("kedro stale"), 1)
    assert lines[1].startswith("  missing: ")
    assert lines[-1] == "  kedro run"


def test_the_command_remakes_what_follows_from_a_new_chunk_and_nothing_else(kedro: Kedro) -> None:
    kedro("kedro run --pipelines=ingest --namespaces=train.chunk_001")
    lines = lines_of(kedro("kedro stale"), 1)
    assert lines[1:5] == [
        "  newer version of rejected: merge_rejected of train",
        "  newer version of pairs: merge_rejected of train, featurize of train.chunk_001, "
        "sample_negatives of train.chunk_001",
        "  newer version of products: sample_negatives of train.chunk_001, list_examples of train",
        "downstream nodes: train of two_tower, judge_negatives of two_tower, score_testA of two_tower, "
        f"score_valid of two_tower, {FOLLOWS_FROM_SCORES}",
    ]
    nodes = "train.merge_rejected,train.chunk_001.featurize"
    assert lines[-1] == f"  kedro run --from-nodes={nodes}"
    assert kedro(lines[-1]).exit_code == 0
    assert lines_of(kedro("kedro stale"), 0) == ["nothing is stale"]
    listed = load(Path.cwd(), "train_examples")["chunk_001"]
    assert Path(listed["query_features"].files[0]).parent.name == versions(Path(), "query_features")[-1]
    made = [len(versions(Path(), name)) for name in ("products", "query_features", "samples")]
    assert made == [2, 2, 2]
    assert len(versions(Path(), "query_features", chunk="chunk_000")) == 1
    assert count("data/03_primary/shop/language_model") == 1
    assert count("data/06_models/shop/two_tower/model") == 2


def test_another_option_is_named_and_stale_until_it_is_run(kedro: Kedro) -> None:
    changed = "--params=evaluate.confidence=0.9"
    lines = lines_of(kedro(f"kedro stale {changed}"), 1)
    wanted = ", ".join(f"{node} of evaluation" for node in TAKES_EVALUATE)
    assert lines[1] == f"  evaluate.confidence was 0.95, is now 0.9: {wanted}"
    assert lines[-1].endswith(f" {changed}")
    assert kedro(lines[-1]).exit_code == 0
    assert lines_of(kedro(f"kedro stale {changed}"), 0) == ["nothing is stale"]
    assert lines_of(kedro("kedro stale"), 1)[1] == f"  evaluate.confidence was 0.9, is now 0.95: {wanted}"


def test_a_reason_of_many_chunks_is_one_line(kedro_unchanged: Kedro) -> None:
    lines = lines_of(kedro_unchanged("kedro stale --params=ingest.max_boxes=10"), 1)
    assert lines[1] == (
        "  ingest.max_boxes was 12, is now 10: collect_queries of language, ingest of testA.chunk_000 and 3 more"
    )
    assert "--from-nodes=language.collect_queries,testA.chunk_000.ingest," in lines[-1]


def test_another_cut_of_the_file_is_seen(kedro_unchanged: Kedro) -> None:
    lines = lines_of(kedro_unchanged("kedro stale --params=chunks.train=3"), 1)
    assert lines[1].startswith("  chunk.count was 2, is now 3: ingest of train.chunk_000 and 1 more")
    assert "train.chunk_002.ingest" in lines[-1]


def test_an_option_younger_than_the_record_had_its_default(kedro: Kedro) -> None:
    record = next(Path(CHUNK).glob("products.parquet/*/.products.parquet.record.json"))
    change_record(record, lambda content: content["options"]["params:ingest"].pop("box_order"))
    assert lines_of(kedro("kedro stale"), 0) == ["nothing is stale"]
    change_record(record, lambda content: content["options"]["params:ingest"].update(crop=True))
    assert lines_of(kedro("kedro stale"), 1)[1] == "  ingest.crop was true, is now absent: ingest of train.chunk_001"


def test_changed_code_is_named(kedro: Kedro) -> None:
    record = next(Path(CHUNK).glob("products.parquet/*/.products.parquet.record.json"))
    change_record(record, lambda content: content["code"].update({"data.decoding.decode_rows": "other"}))
    assert lines_of(kedro("kedro stale"), 1)[1] == (
        "  the code of data.decoding.decode_rows has changed: ingest of train.chunk_001"
    )
    assert lines_of(kedro("kedro stale --no-code"), 0) == ["nothing is stale"]
    change_record(record, lambda content: content.update(code={name: "other" for name in content["code"]}))
    assert " has changed: ingest of train.chunk_001" in lines_of(kedro("kedro stale"), 1)[1]
    assert " more has changed" in lines_of(kedro("kedro stale"), 1)[1]


def test_a_raw_file_replaced_by_hand_stays_and_what_read_it_is_stale(kedro: Kedro) -> None:
    answers = Path("data/01_raw/shop/testA_answer.json")
    content = answers.read_text() + " "
    answers.write_text(content)
    lines = lines_of(kedro("kedro stale"), 1)
    assert lines[0].startswith("note: testA_answers is not the file that shop.make_testA_files wrote: ")
    assert lines[2].startswith("  testA_answers is not the file that was read: ")
    assert "shop.make" not in lines[-1]
    assert kedro(lines[-1]).exit_code == 0
    assert lines_of(kedro("kedro stale"), 0)[-1] == "nothing is stale"
    assert answers.read_text() == content


def test_titles_are_an_input_like_any_raw_file(kedro: Kedro) -> None:
    path = Path("data/01_raw/shop/titles.parquet")
    titles = pd.read_parquet(path)
    titles.assign(title=titles["title"].where(titles["product_id"] != titles["product_id"][0], "new")).to_parquet(path)
    lines = lines_of(kedro("kedro stale --pipelines=ingest"), 1)
    assert "  titles is not the file that was read: ingest of testA.chunk_000 and 3 more" in lines
    # Nobody makes titles in an environment of one's own: once read and gone, they are missed
    kept = {"make_shop": None, "chunks": {"train": 2}}
    Path("conf/local/parameters.yml").write_text(json.dumps(kept))
    path.unlink()
    lines = lines_of(kedro("kedro stale --pipelines=ingest"), 1)
    assert "  titles was read and is gone: ingest of testA.chunk_000 and 3 more" in lines


def test_missing_and_unrecorded_outputs(kedro: Kedro) -> None:
    shutil.rmtree(f"{EVALUATED}/testA_calibration.csv")
    next(Path(EVALUATED).glob("breakdown.csv/*/.breakdown.csv.record.json")).unlink()
    assert lines_of(kedro("kedro stale --pipelines=evaluate"), 1) == [
        "stale:",
        "  missing: testA_calibration of evaluation",
        "  no record of how it was made: breakdown of evaluation",
        "downstream nodes: make_report of evaluation",
        "make them anew with:",
        "  kedro run --pipelines=evaluate --from-nodes=evaluation.calibrate_testA_scores,evaluation.break_down_queries",
    ]


def test_a_pinned_older_input_is_not_stale(run_copy: tuple[Path, Callable], kedro: Kedro) -> None:
    first = versions(Path(), "samples")[0]
    run_copy[1](node_names=["train.chunk_001.sample_negatives"])
    run_copy[1](node_names=["train.list_examples"], load_versions={"train.chunk_001.samples": first})
    assert lines_of(kedro("kedro stale"), 1)[1:3] == [
        "  newer version of train_examples: train of two_tower, judge_negatives of two_tower",
        f"downstream nodes: score_testA of two_tower, score_valid of two_tower, {FOLLOWS_FROM_SCORES}",
    ]


def test_an_unknown_pipeline_is_refused(kedro_unchanged: Kedro) -> None:
    result = kedro_unchanged("kedro stale --pipelines=ingst")
    assert result.exit_code == 2
    assert "there is no pipeline ['ingst'], only ['__default__', 'all', 'evaluate'," in result.output


def test_pruning_keeps_what_a_kept_list_or_model_names(run_copy: tuple[Path, Callable], kedro: Kedro) -> None:
    project, run = run_copy
    featurize = ["train.chunk_001.featurize", "valid.chunk_000.featurize"]
    run(node_names=[*featurize, "train.list_examples", "two_tower.score_valid"])
    # The old training features are in the card of the only model, the old valid ones in the only list of valid
    before = sorted(path for path in Path("data").rglob("*") if path.is_file())
    dry = lines_of(kedro("kedro prune --keep=1 --dry-run"), 0)
    assert sorted(path for path in Path("data").rglob("*") if path.is_file()) == before
    lines = lines_of(kedro("kedro prune --keep=1"), 0)
    assert lines[:-1] == dry[:-1]
    assert "  valid_scores: 1, 0.0 MB" in lines
    assert "  train_examples: 1, 0.0 MB" in lines
    assert (dry[-1].split()[:2], lines[-1].split()[0]) == (["would", "drop"], "dropped")
    assert count("data/07_model_output/shop/two_tower/valid_scores.parquet") == 1
    assert len(versions(project, "query_features")) == 2
    assert len(versions(project, "query_features", "valid", "chunk_000")) == 2
    assert load(project, "valid_examples")["chunk_000"]["query_features"].count_rows() > 0
    named = load(project, "two_tower.model").card["inputs"]
    pins = {f"train.{chunk}.{kind}": v for chunk, kinds in named.items() for kind, v in kinds.items()}
    run(node_names=["train.list_examples"], load_versions=pins)
    listed = load(project, "train_examples")["chunk_001"]["query_features"].files[0]
    assert Path(listed).parent.name == named["chunk_001"]["query_features"] == versions(project, "query_features")[0]
    # Now the newest list names the old features, and nothing the new ones but that they are the newest
    assert lines_of(kedro("kedro prune --keep=1"), 0)[0] == "  train_examples: 1, 0.0 MB"
    assert len(versions(project, "query_features")) == 2
    assert load(project, "train_examples")["chunk_001"]["query_features"].count_rows() > 0


def test_pruning_drops_versions_that_nothing_names(run_copy: tuple[Path, Callable], kedro: Kedro) -> None:
    first = versions(Path(), "query_features")[0]
    run_copy[1](from_nodes=["train.chunk_001.featurize"], to_nodes=["two_tower.train"])
    kedro("kedro prune --keep=1")
    assert first in versions(Path(), "query_features")  # of the model that the newest scores were made with
    readers = ("score_valid", "score_testA", "judge_negatives")
    run_copy[1](from_nodes=[f"two_tower.{reader}" for reader in readers])
    assert first in versions(Path(), "query_features")
    assert "dropped 0 in all, 0.0 MB" in kedro("kedro prune --keep=2").output
    # A ranker that is not configured at present keeps what its models name, as long as they are there
    models = Path("data/06_models/shop")
    shutil.copytree(models / "two_tower" / "model", models / "retired" / "model")
    kedro("kedro prune --keep=1")
    assert first in versions(Path(), "query_features")
    shutil.rmtree(models / "retired")
    kedro("kedro prune --keep=1")
    assert len(versions(Path(), "query_features")) == 1
    assert first not in versions(Path(), "query_features")
    assert versions(Path(), "query_features", chunk="chunk_000") == [first]
    assert load(Path.cwd(), "train_examples")["chunk_001"]["query_features"].count_rows() > 0


def test_pruning_drops_what_killed_runs_left_an_hour_ago(kedro: Kedro) -> None:
    left = {
        f"{CHUNK}/products.parquet/2030-01-01T00.00.00.000Z/.products.parquet.7.unfinished": True,
        f"{CHUNK}/pairs.parquet/2030-01-01T00.00.00.000Z/.pairs.parquet.record.json": True,
        f"{CHUNK}/pairs.parquet/.2020-01-01T00.00.00.000Z.7.unfinished/pairs.parquet": True,
        "data/01_raw/shop/.train.tsv.7.unfinished": True,
        "data/06_models/shop/two_tower/.checkpoint.safetensors.7.unfinished": True,
        f"{CHUNK}/rejected.parquet/2030-01-01T00.00.00.000Z/.rejected.parquet.7.unfinished": False,
    }
    for name, is_old in left.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"1" * 1_000_000)
        for path in (name, Path(name).parent):
            os.utime(path, (0, 0)) if is_old else None
    whole = sorted(path for path in Path("data").rglob("*") if path.is_file() and str(path) not in left)
    assert lines_of(kedro("kedro prune --keep=1"), 0) == [
        "  left by killed runs: 5, 5.0 MB",
        "dropped 5 in all, 5.0 MB",
    ]
    assert [Path(name).exists() for name in left] == [not is_old for is_old in left.values()]
    assert not Path(f"{CHUNK}/products.parquet/2030-01-01T00.00.00.000Z").exists()
    assert sorted(path for path in Path("data").rglob("*") if path.is_file() and str(path) not in left) == whole
    assert lines_of(kedro("kedro stale"), 0) == ["nothing is stale"]


def test_at_least_one_version_stays(kedro_unchanged: Kedro) -> None:
    result = kedro_unchanged("kedro prune --keep=0")
    assert result.exit_code == 2
    assert "0 is not in the range x>=1" in result.output


def test_search_prints_and_draws_the_best_products(kedro_unchanged: Kedro, tmp_path: Path) -> None:
    page = tmp_path / "found.html"
    result = kedro_unchanged(f"kedro search 'red dress' 'schwarzes <b>kleid' --split=valid --top=3 --html={page}")
    assert result.exit_code == 0, result.output
    source, red, black, drawn = result.output.strip().split("\n\n")
    assert re.fullmatch(
        r"209 products of valid, ranked by two_tower of 20\S+: \d epochs, nDCG@5 on valid 0\.\d{3}; every product was "
        r"scored: there is no index, which makes search faster: kedro run --pipelines=index",
        source,
    )
    assert (red.split("\n")[0], drawn) == ("red dress", f"drawn in {page}")
    assert [line.split()[0] for line in red.splitlines()[-3:]] == ["1", "2", "3"]
    assert "not in the vocabulary: schwarzes, b, kleid" in black
    titles = pd.read_parquet("data/01_raw/shop/titles.parquet").set_index("product_id")["title"]
    assert red.splitlines()[-4].split() == ["rank", "product_id", "score", "title"]
    for line in red.splitlines()[-3:]:
        assert line.endswith(titles[int(line.split()[1])])
    scores = [float(line.split()[2]) for line in red.splitlines()[-3:]]
    assert scores == sorted(scores, reverse=True)
    text = page.read_text()
    assert text.count('<svg class="product photo"') == text.count("data:image/png") == 6
    assert "schwarzes &lt;b&gt;kleid" in text
    for line in red.splitlines()[-3:]:
        assert f"product {line.split()[1]}" in text


def test_search_is_narrowed_to_a_label_and_to_ids(kedro_unchanged: Kedro, tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("")
    found = lines_of(kedro_unchanged("kedro search 'red dress' --label=shoes --top=3"), 0)[-3:]
    ids.write_text("\n".join(line.split()[1] for line in found[1:]) + "\n\n", "utf-8-sig")  # as editors of Windows do
    narrowed = lines_of(kedro_unchanged(f"kedro search 'red dress' --ids={ids}"), 0)
    assert [line.split()[1:3] for line in narrowed[-2:]] == [line.split()[1:3] for line in found[1:]]
    ids.write_text("12\nseven\n")
    result = kedro_unchanged(f"kedro search 'red dress' --ids={ids}")
    assert result.exit_code == 1
    assert "the list of ids: an id is no whole number of 64 bits in its own digits" in result.output


def test_photos_are_found_from_any_folder(
    run_copy: tuple[Path, Callable], kedro: Kedro, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project, page = run_copy[0], tmp_path / "found.html"
    for product in load(project, "testA_examples")["chunk_000"]["products"].to_table()["product_id"].to_pylist():
        Image.new("RGB", (9, 9)).save(project / f"data/01_raw/shop/photos/{product}.jpg")
    monkeypatch.chdir(project / "src")
    result = kedro(f"kedro search 'red dress' --top=3 --html={page}")
    assert result.exit_code == 0, result.output
    assert page.read_text().count("data:image/jpeg") == 3
    monkeypatch.chdir(tmp_path)  # a run that Python starts needs no folder of the project
    run_copy[1](node_names=["evaluation.make_report"])
    report = max((project / "data/08_reporting/shop/report.html").iterdir()) / "report.html"
    assert "data:image/jpeg" in report.read_text()
    monkeypatch.chdir(project)
    note, nothing = lines_of(kedro("kedro stale"), 0)
    assert note.startswith("note: photos is not the file that shop.make_products wrote: the replacement is kept")
    assert nothing == "nothing is stale"


def test_search_works_with_what_prune_leaves(kedro: Kedro) -> None:
    before = kedro("kedro search 'red dress'")
    kedro("kedro run --nodes=language.prepare_language_model,language.make_word_vectors --params=seed=1")
    assert kedro("kedro prune --keep=1").exit_code == 0
    after = kedro("kedro search 'red dress'")
    assert (before.exit_code, after.exit_code) == (0, 0), after.output
    assert after.output == before.output


def test_a_pinned_model_is_used_and_kept_while_others_are_tried(run_copy: tuple[Path, Callable], kedro: Kedro) -> None:
    models, scores = (Path(f"data/{place}/shop/two_tower/{name}") for place, name in PLACES_OF_MODEL_AND_SCORES)
    first = next(models.iterdir()).name
    run_copy[1](node_names=["two_tower.train"])
    assert f"ranked by two_tower of {max(path.name for path in models.iterdir())}" in kedro("kedro search dress").output
    options = {**SMALL, "pins": {"two_tower.model": first}}
    Path("conf/local/parameters.yml").write_text(json.dumps(options))
    assert f"ranked by two_tower of {first}" in kedro("kedro search dress").output
    assert "nothing is stale" in kedro("kedro stale").output  # not even by the newer model
    Path("conf/local/parameters.yml").write_text(json.dumps(SMALL))
    run_copy[1](node_names=["two_tower.score_valid"])
    Path("conf/local/parameters.yml").write_text(
        json.dumps(options | {"two_tower": {**SMALL["two_tower"], "epochs": 9}})
    )
    said = kedro("kedro stale").output
    assert (
        f"two_tower.model is pinned to {first}, was {max(path.name for path in models.iterdir())}: score_valid" in said
    )
    assert "epochs" not in said  # the pinned model is the user's decision, whatever the options are now
    Path("conf/local/parameters.yml").write_text(json.dumps(options))

    def scored_with(*nodes: str) -> str:
        run_copy[1](node_names=nodes, parameters=options)
        newest = max(scores.iterdir()).joinpath(f".{scores.name}.record.json")
        return json.loads(newest.read_text())["inputs"]["two_tower.model"]

    assert scored_with("two_tower.score_valid") == first
    assert scored_with("two_tower.train", "two_tower.score_valid") == max(path.name for path in models.iterdir())
    assert kedro("kedro prune --keep=1").exit_code == 0
    assert sorted(path.name for path in models.iterdir())[0] == first
    assert len(list(models.iterdir())) == 2


def test_a_checkpoint_that_no_node_will_load_is_not_looked_at(kedro: Kedro) -> None:
    language = {**SMALL["language_model"], "start_from": "./gone"}
    Path("conf/local/parameters.yml").write_text(json.dumps({**SMALL, "language_model": language}))
    assert kedro("kedro run --pipelines=featurize --only-missing-outputs").exit_code == 0
    refused = kedro("kedro run --pipelines=featurize")
    assert (refused.exit_code, "language_model.start_from is './gone'" in refused.output) == (1, True)


@pytest.mark.parametrize(
    ("pins", "said"),
    [
        (None, None),
        (["two_tower.model"], "the parameters of conf/local and of conf/base cannot be merged: "),
        ({"two_tower.model": 1}, "The parameters do not fit: pins is {'two_tower.model': 1}, not a version for each"),
        ({"two_tower.model": "2020"}, "pins.two_tower.model is '2020', but its newest versions are ['20"),
        ({"labels": "2020"}, "pins.labels is '2020', but it has no versions"),
        ({"no_such": "2020"}, "pins.no_such is '2020', but it has no versions"),
    ],
)
def test_a_pin_of_nothing_is_one_error(kedro: Kedro, pins: Any, said: str | None) -> None:
    Path("conf/local/parameters.yml").write_text(json.dumps({**SMALL, "pins": pins}))
    result = kedro("kedro search dress")
    if said is None:  # as `pins:` with its entries in comments
        assert result.exit_code == 0
        return
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {said}")


def test_search_says_what_is_missing(kedro_unchanged: Kedro) -> None:
    result = kedro_unchanged("kedro search shoes --ranker=mcan")
    assert result.exit_code == 1
    assert "Error: there is no model of 'mcan'" in result.output
    assert "Traceback" not in result.output


def test_comparing_needs_two_runs_and_names_those_there(kedro: Kedro) -> None:
    lines = lines_of(kedro("kedro compare"), 2)
    assert "Two runs are needed to compare. The runs of this environment, and the outputs of each:" in lines[-2]
    assert lines[-1].endswith("Z: comparison, two_tower.model")
    kedro("kedro run --pipelines=evaluate --to-nodes=evaluation.compare_rankings")
    lines = lines_of(kedro("kedro compare"), 0)
    assert lines[:2] == ["what differs:", "nothing"]
    first, second = sorted(path.name for path in Path(EVALUATED, "comparison.csv").iterdir())
    assert lines_of(kedro(f"kedro compare {second} {first}"), 0) == lines
    assert any(line.startswith("two_tower ") and line.endswith("+0.000 (+0.000 to +0.000)") for line in lines)


def test_hardware_that_is_not_there_is_one_error(kedro_unchanged: Kedro, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = kedro_unchanged("kedro run --nodes=two_tower.train --params=hardware.device=cuda")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)  # no traceback
    assert "hardware.device is cuda, and torch" in result.output
