"""The straightforward implementations give what ours give: a benchmark against a wrong one would say nothing."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from benchmarks import __main__ as command
from benchmarks import (
    ablations,
    choices,
    experiments,
    gpu,
    index,
    kernel_words,
    made_up,
    model_peers,
    ranker_speed,
    rehearsal,
    simulate,
    straightforward,
)
from benchmarks.__main__ import run_side
from benchmarks.ablations import Ranking, Setting, finished, keep, measure, open_environment, options_of
from benchmarks.experiments import (
    READERS,
    Training,
    cut,
    draw,
    load,
    plot_attention,
    plot_negatives,
    right_pairs,
    save,
    train_all,
)
from benchmarks.growth import make_project, run_stage
from benchmarks.made_up import made_up_queries, write_made_up
from benchmarks.ranker_speed import SIZES, base_rankers, made_up_chunk, once_a_pair, training_pairs
from benchmarks.rankers import per_query
from benchmarks.stages import made_up_arrays, made_up_pairs, padded

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import HardwareOptions, IngestOptions, LanguageModelOptions
from multimodal_recall.config.rankers import IN_BATCH_LOSSES, RankerOptions
from multimodal_recall.config.systems import TwoTowerOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.data.pairs import RightAnswers
from multimodal_recall.evaluation.blending import blend
from multimodal_recall.evaluation.metrics import MEASURES, measure_queries, ndcg_at_5
from multimodal_recall.models.language_model import QueryVectors, new_albert, train_tokenizer
from multimodal_recall.models.layers.padding import Packing
from multimodal_recall.models.layers.recurrent import BiLstm
from multimodal_recall.models.ranker import build_ranker
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.training.objective import RankerObjective
from tests.conftest import PROJECT, SMALL, forced_hardware, forced_options
from tests.conftest import load as load_saved
from tests.tiny_rankers import SYSTEMS


def test_ingest_of_a_made_up_file(tmp_path: Path) -> None:
    tsv = write_made_up(tmp_path / "train.tsv", rows=60)
    labels = [str(number) for number in range(33)]
    ours = ingest_chunk(OfficialTsv(tsv), labels, IngestOptions(), chunk=Chunk("train", 0, 1))
    assert straightforward.ingest(tsv, tmp_path / "pieces", rows_per_file=25) == ours["pairs"].num_rows == 60
    theirs = pd.concat(
        [pq.read_table(tmp_path / "pieces" / f"{piece}.parquet").to_pandas() for piece in range(3)], ignore_index=True
    )
    assert theirs["product_id"].tolist() == ours["pairs"]["product_id"].to_pylist()
    assert theirs["query"].tolist() == ours["pairs"]["query"].to_pylist()
    products = ours["products"].to_pylist()
    for row, product in zip(theirs.itertuples(), products, strict=True):
        np.testing.assert_array_equal(np.frombuffer(product["features"], np.float16), row.features)
        np.testing.assert_array_equal(product["labels"], row.class_labels)
        assert product["top"] == row.boxes[::4].tolist()


def test_query_vectors(tmp_path: Path) -> None:
    queries = made_up_queries(50, np.random.default_rng(0))
    options = LanguageModelOptions(hidden_size=32, heads=2, vocabulary_size=200)
    tokenizer = train_tokenizer(queries, options.vocabulary_size)
    torch.manual_seed(0)
    for part in (tokenizer, new_albert(options, tokenizer)):
        part.save_pretrained(tmp_path)
    ours = QueryVectors(tmp_path, max_tokens=64, tokens_per_batch=100, hardware=Hardware())(queries)
    np.testing.assert_allclose(
        straightforward.query_vectors(queries, *straightforward.load_text_model(tmp_path), batch_size=7),
        ours,
        atol=2e-3,
    )


def test_the_straightforward_ranker_learns() -> None:
    arrays = made_up_arrays(200, 100, np.random.default_rng(0))
    pairs = made_up_pairs(arrays, 20, np.random.default_rng(1))
    batch = arrays.batch(pairs)
    torch.manual_seed(0)
    model = straightforward.TwoTower(5000, image_state=16)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(100):
        straightforward.training_step(model, optimiser, padded(batch), batch.relevance)
    assert (model.eval()(*padded(batch)).argmax(dim=1) == batch.relevance).all()


def test_the_data_loader_makes_the_batches_that_we_train_on() -> None:
    # Given the straightforward model's weights, on packed sequences
    arrays = made_up_arrays(60, 30, np.random.default_rng(0))
    pairs = made_up_pairs(arrays, 20, np.random.default_rng(1))
    torch.manual_seed(0)
    padded_model, packed_model = straightforward.TwoTower(5000).eval(), model_peers.PackedTwoTower(5000).eval()
    packed_model.load_state_dict(padded_model.state_dict())
    rows = model_peers.PairRows(arrays, pairs)
    inputs, target = model_peers.collate([rows[row] for row in range(len(rows))])
    assert target.tolist() == pairs.relevance.tolist()
    # When all images have as many boxes and all queries as many words, padding changes nothing
    arrays = replace(arrays, box_counts=np.ones_like(arrays.box_counts), word_counts=np.ones_like(arrays.word_counts))
    rows, batch = model_peers.PairRows(arrays, pairs), arrays.batch(pairs)
    inputs = model_peers.collate([rows[row] for row in range(len(rows))])[0]
    torch.testing.assert_close(packed_model(*inputs), padded_model(*padded(batch)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("inputs", [300, 7])
def test_the_recurrent_step_is_torchs(inputs: int) -> None:
    # Given sequences of one to twelve entries, and both ways of reading them
    torch.manual_seed(0)
    counts = torch.arange(1, 13).repeat(2)
    packed, net = Packing(torch.arange(12) >= counts.unsqueeze(1)), BiLstm(inputs, 16)
    data = torch.randn(len(packed.places), inputs)
    states = [way(net, data, packed) for way in (choices.own_step, choices.packed_lstm)]
    gradients = [torch.autograd.grad(state[:, 0].sum(), [*net.parameters()]) for state in states]
    torch.testing.assert_close(*states, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_both_sides_of_each_choice_are_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choices, "RECURRENT", {"words": (10, 8, 4)})
    monkeypatch.setattr(choices, "MOST_PAIRS", 8)
    choices.print_recurrent(seconds=0)
    choices.print_precisions("kddcup", ["siamese"], seconds=0)
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)  # takes minutes
    choices.print_compiled("base", ["siamese"], seconds=0)
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["words", "words", "kddcup", "base"]
    assert choices.rankers_of("kddcup")["siamese"].model.state == 768
    assert choices.rankers_of("base")["siamese"].model.state == 128


def test_label_sharing_negatives_share_a_label_and_are_not_right() -> None:
    labels = [{1}, {1, 2}, {2}, {3}, {2}]
    drawn = [
        straightforward.label_sharing_negatives([0, 0, 1], [0, 1, 2], labels, seed)  # 0 and 1 are right for query 0
        for seed in range(30)
    ]
    assert [set(column) for column in zip(*drawn, strict=True)] == [{-1}, {2, 4}, {1, 4}]


def test_similar_query_negatives_are_products_of_texts_that_share_words() -> None:
    texts = ["red shoes", "blue shoes", "green tea"]
    drawn = straightforward.similar_query_negatives(texts, [0, 1, 2, 0], [10, 11, 12, 13], k=1, seed=0)
    assert drawn[0] == drawn[3] == 11
    assert drawn[1] in (10, 13)


def test_ndcg() -> None:
    random = np.random.default_rng(0)
    scores = pd.DataFrame({"query_id": np.repeat(np.arange(40), 9), "product_id": np.tile(np.arange(9), 40)})
    scores["score"] = random.integers(0, 4, len(scores)) / 4  # many are equal
    answers = {query: random.permutation(9)[: random.integers(1, 8)].tolist() for query in range(40)}
    theirs = straightforward.ndcg_at_5(scores, answers)
    np.testing.assert_allclose(theirs, ndcg_at_5(scores, answers)["ndcg_at_5"], atol=1e-12)
    theirs, means = straightforward.measures(scores, answers, draws=2)
    ours = measure_queries(scores, answers)
    np.testing.assert_allclose(theirs, ours[theirs.columns], atol=1e-6)
    assert (theirs.shape[1], len(means)) == (len(MEASURES), 2)


@pytest.mark.slow
def test_a_side_of_a_stage_runs_alone() -> None:
    found = run_side("label_sharing", "ours")
    assert found["rows"] == 100_000
    assert 0 < found["peak_gb"] < 3


@pytest.mark.slow
def test_growth_times_a_stage_of_a_project_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_up, "FOLDER", tmp_path)
    project = make_project(tmp_path / "project", 20, {"chunks": {"train": 2}})
    seconds, peak = run_stage(project, "ingest")
    assert seconds > 0
    assert 0 < peak < 2
    assert len(list((project / "data/03_primary/shop/train").glob("chunk_*/products.parquet"))) == 2


@pytest.mark.slow
def test_each_runner_does_its_work_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, asked = command.kedro, []

    def kedro(project: Path, *arguments: str, cores: int = 2) -> float:
        asked.append(arguments)
        return real(project, *arguments, cores=cores)

    for name, value in {"kedro": kedro, "RUNNERS": ("SequentialRunner",), "INGESTED_ROWS": 60, "CHUNKS": 2}.items():
        monkeypatch.setattr(command, name, value)
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(made_up, "FOLDER", tmp_path)
    command.print_runners(1)
    lines = capsys.readouterr().out.splitlines()
    works = ["ingest", "encode queries", "sample_negatives", "score", "train"]
    assert [line.partition(":")[0] for line in lines] == [f"kedro run of {work}" for work in works]
    seeds = [argument for arguments in asked for argument in arguments if "seed=" in argument]
    assert len(seeds) == len(set(seeds)) == 2  # a run of train on one core, and on two


def test_the_file_writer_says_what_it_wrote(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.made_up", str(tmp_path / "a" / "train.tsv"), "--rows=30"]
    finished = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "30 rows" in finished.stdout
    assert len((tmp_path / "a" / "train.tsv").read_bytes().splitlines()) == 31


def test_queries_are_distinct_and_as_long_as_official_ones() -> None:
    queries = made_up_queries(5000, np.random.default_rng(0))
    assert len(set(queries)) == 5000
    assert 3 < np.mean([len(query.split()) for query in queries]) < 5


def alike_once_a_pair(name: str) -> tuple[RankerObjective, Batch, Batch]:
    """An untrained ranker of ``conf/base``, a batch in which products and queries stand in several pairs, its copy."""
    random, options = np.random.default_rng(0), base_rankers()[name]
    arrays = replace(made_up_chunk(random, products=12), max_boxes=options.max_boxes)
    pairs = training_pairs(arrays, replace(options, batch_size=40), random)
    batch = arrays.batch(pairs, RightAnswers.among(pairs, 12) if options.loss in IN_BATCH_LOSSES else None)
    torch.manual_seed(0)
    objective = RankerObjective(build_ranker(options, SIZES), options).eval()
    each = once_a_pair(batch)
    assert len(each.word_ids) == len(each.box_mask) == len(pairs.relevance) > len(batch.word_ids)
    return objective, batch, each


@pytest.mark.parametrize("name", ["two_tower", "siamese", "concat_query"])
def test_a_ranker_scores_the_same_once_a_pair(name: str) -> None:
    objective, batch, each = alike_once_a_pair(name)
    torch.testing.assert_close(objective.model(each), objective.model(batch), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["two_tower", "concat_query"])  # to an in-batch loss, a copy is one more product
def test_a_ranker_learns_the_same_once_a_pair(name: str) -> None:
    objective, *batches = alike_once_a_pair(name)
    losses = [objective(batch) for batch in batches]
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-4)
    trained = [weight for weight in objective.parameters() if weight.requires_grad]
    ours, theirs = (torch.autograd.grad(loss.mean(), trained, materialize_grads=True) for loss in losses)
    assert max(gradient.abs().max() for gradient in ours) > 1e-2
    torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["two_tower", "siamese"])
def test_the_speed_of_both_sides_is_measured_and_printed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = replace(base_rankers()[name], batch_size=8, model=SYSTEMS[name])
    monkeypatch.setattr(ranker_speed, "choose_hardware", lambda options: forced_hardware())
    monkeypatch.setattr(ranker_speed, "CANDIDATES", 40)
    monkeypatch.setattr(ranker_speed, "SCORED_PAIRS", 15)
    monkeypatch.setattr(command, "base_rankers", lambda: {name: small})
    monkeypatch.setattr(command, "made_up_chunk", lambda random: made_up_chunk(random, products=12))
    command.print_rankers(repeats=1)
    heads, row = capsys.readouterr().out.splitlines()
    assert heads.startswith("ranker ")
    assert row.startswith(f"{name} ")
    values = [float(value.rstrip("x").replace(",", "")) for value in row.split()[1:]]
    ours, other, ratio, seconds, other_seconds, _ = values
    assert min(ours, other) > 1
    # The rates are printed as whole numbers, the ratio with one decimal.
    assert (ours - 0.5) / (other + 0.5) - 0.05 <= ratio <= (ours + 0.5) / (other - 0.5) + 0.05
    assert 0 <= min(seconds, other_seconds) <= max(seconds, other_seconds) < 60


def test_experiments_train_on_saved_examples(finished_project: Path, tmp_path: Path) -> None:
    examples = load(finished_project, "base")
    half = cut(examples.training, 0.5)
    assert right_pairs(half) == 60 == right_pairs(examples.training) // 2
    rows = {name: half[name]["samples"].to_table().to_pandas() for name in half}
    assert all(table.groupby(["epoch", "kind"]).size().nunique() == 1 for table in rows.values())
    small = TwoTowerOptions(word_state=8, image_state=8, head_state=8)
    one = RankerOptions(small, epochs=1, negatives_per_positive=2)
    table = train_all(examples, [Training("1:2", one, draw(examples, 2, 1))], seeds=[0, 1], last=True)
    assert table.loc["1:2", "pairs"] == 3 * 120
    assert table.loc["1:2", "both low"] < table.loc["1:2", "both"] < table.loc["1:2", "both high"]
    kinds = pd.concat([table.set_axis([name]) for name in ("two_tower, random", "two_tower, label_sharing 1:12")])
    save(plot_negatives(kinds, "shop"), tmp_path / "plot.svg")
    assert "label_sharing" in (tmp_path / "plot.svg").read_text()
    readers = pd.concat([table.set_axis([f"{reader}, {pairs}"]) for reader in READERS for pairs in (10, 100)])
    save(plot_attention(readers, "shop"), tmp_path / "plot.svg")
    assert "transformer" in (tmp_path / "plot.svg").read_text()


@pytest.mark.slow
def test_lstms_and_transformers_are_compared(
    finished_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tiny(name: str, **changes: object) -> RankerOptions:
        assert name == "two_tower"
        return RankerOptions(TwoTowerOptions(word_state=8, image_state=8, head_state=8), **changes)

    monkeypatch.setattr(experiments, "ranker_group", tiny)
    monkeypatch.setattr(experiments, "SHARES", (0.5, 1.0))
    table = experiments.attention(load(finished_project, "base"), seeds=[0], seconds=0.01, pairs=40)
    assert table.index.tolist() == ["lstm, 20", "transformer, 20", "lstm, 40", "transformer, 40"]
    assert (table["pairs"] == table["epochs"] * [20, 20, 40, 40]).all()  # in-batch: the right ones alone
    assert set(table["rate"]) <= set(map(str, experiments.RATES))
    assert (table["testA low"] < table["testA high"]).all()
    assert "pairs/s" in capsys.readouterr().out
    axes = plot_attention(table, "shop").axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["20", "40"]


def test_an_ablation_has_what_kedro_run_gives(
    finished_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a ranker that a whole run has trained, and the same options
    monkeypatch.setattr(ablations, "ONE_THREAD", HardwareOptions(**forced_options()))
    environment = replace(open_environment(finished_project, "base"), folder=tmp_path)
    sizes = SMALL["two_tower"]["model"]
    small = {f"model.{name}": size for name, size in sizes.items()} | {"epochs": 2, "batch_size": 50}
    # When the ablation trains it
    folder = finished(environment, Setting("two_tower", small), 0)
    # Then the scores are equal
    scores = pd.read_parquet(folder / "scores.parquet").query("split == 'testA'")["score"]
    wanted = load_saved(finished_project, "two_tower.testA_scores").to_table()["score"].to_numpy()
    np.testing.assert_array_equal(scores, wanted)


def test_ablations_are_trained_once(
    run_copy: tuple[Path, Callable[..., None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given kernel words, a ranker that starts from another, and negatives with a margin
    project, run = run_copy
    run(pipeline_names=["train"], parameters={**SMALL, "rankers": ["kernel_words"]})
    monkeypatch.setattr(ablations, "ONE_THREAD", HardwareOptions(**forced_options()))
    environment = open_environment(project, "base")
    pooled, start = {"model.image_encoder.pooling": "gpo", "epochs": 1}, {"model.image_encoder.pooling": "gpo"}
    word_level = Setting("word_level", pooled, start | {"epochs": 1})
    margin = Setting("two_tower", {"negatives": {"similar_query": 1.0}, "epochs": 1}, relative_margin=0.05)
    kernel = Setting("kernel_words", {"model.boxes": "all"})
    rankings = {
        "sum": Ranking((word_level, margin, kernel)),
        "searched": Ranking((word_level, kernel), "out_of_fold"),
        "kernel_words": Ranking((kernel,)),
    }
    assert options_of(environment, "two_tower", margin.changes).negatives == {"similar_query": 1.0}
    # When they are measured, and measured again
    first = measure(environment, rankings, [0, 1])
    monkeypatch.setattr(ablations, "fit", None)
    again = measure(environment, rankings, [0, 1])
    # Then nothing is trained anew, and differences are to the first row
    pd.testing.assert_frame_equal(first, again)
    assert first.loc["sum", "testA difference"] == "+0.000 (+0.000 to +0.000)"
    assert first.loc["kernel_words", "valid seeds"].split()[0] == first.loc["kernel_words", "valid seeds"].split()[1]
    with pytest.raises(TypeError):
        measure(environment, rankings, [2])
    # And the file has each ablation's newest rows, in the order of the ablations
    for ablation in ("boxes", "kernel_words", "boxes"):
        keep(tmp_path / "kept.csv", ablation, first)
    kept = pd.read_csv(tmp_path / "kept.csv")
    assert kept["ablation"].tolist() == ["kernel_words"] * 3 + ["boxes"] * 3
    assert kept["ranking"].tolist() == list(rankings) * 2


def test_rankers_pairs_and_seed_ensembles_are_measured() -> None:
    index = pd.MultiIndex.from_product([[1, 2], range(10, 16)], names=["query_id", "product_id"])
    random = np.random.default_rng(0)
    seeds = [pd.DataFrame(random.random((12, 2)), index, ["a", "b"]) for _ in range(2)]
    answers = {1: [10, 11], 2: [15]}
    alone = per_query(seeds[:1], answers)
    assert list(alone) == ["a", "b", "a + b"]
    table = seeds[0].reset_index()
    assert alone["b"].tolist() == ndcg_at_5(table.rename(columns={"b": "score"}), answers)["ndcg_at_5"].tolist()
    added = blend(table, ["a", "b"], "z_score")
    assert alone["a + b"].tolist() == ndcg_at_5(added, answers)["ndcg_at_5"].tolist()
    right = pd.DataFrame({"a": [5.0, 4, 0, 0, 0, 0] + [0.0] * 5 + [9.0], "b": 0.0}, index)
    assert per_query([seeds[0], right * 100, right], answers)["a"].tolist() == [1.0, 1.0]  # two of three seeds


def test_all_sides_of_the_index_find_the_same_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "CHUNK", 200)
    for side in ("exact", "cells"):
        written = index.write(side, tmp_path, 500, time.perf_counter)
        assert written["bytes each"] > 2 * index.WIDTH
    queries = index.queries_of(4)
    found = {side: index.OPENED[side](tmp_path)(queries).tolist() for side in ("exact", "numpy", "cells")}
    assert found["exact"] == found["numpy"] == found["cells"]  # 45 cells are all visited
    many = index.queries_of(index.BATCH)
    assert index.recall_of(index.open_exact(tmp_path)(many), tmp_path) == 1
    assert 0.9 < index.recall_of(index.open_faiss(tmp_path)(many), tmp_path) <= 1  # 64 of 89 cells
    assert 0.05 < index.resident() < 10  # GB


def test_kernel_words_is_measured_chunk_by_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CHUNK_ROWS": 40, "POOL": 30, "FOLDER": tmp_path}.items():
        monkeypatch.setattr(kernel_words, name, value)
    found = kernel_words.measure(100, 20)
    assert list(found) == list(kernel_words.COLUMNS)
    assert all(value >= 0 for value in found.values())
    assert found["rows/s"] > 0
    assert list(tmp_path.iterdir()) == []


def test_the_script_for_a_gpu_runs_its_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a ranker with a loss of pairs, and another with a loss of the whole batch
    rankers = {name: replace(gpu.base_rankers()[name], model=SYSTEMS[name]) for name in ("two_tower", "siamese")}
    assert [ranker.loss in IN_BATCH_LOSSES for ranker in rankers.values()] == [False, True]
    monkeypatch.setattr(gpu, "base_rankers", lambda: rankers)
    monkeypatch.setattr(gpu, "choose_hardware", lambda options: Hardware(options.device, options.precision, threads=1))
    gpu.main(["--tiny", "--device=cpu", f"--precision={forced_hardware().precision}"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if " pairs/s " in line] == list(rankers)
    assert all(float(line.split()[1].replace(",", "")) > 0 for line in lines if " pairs/s " in line)
    assert sum("queries/s" in line for line in lines) == 1
    assert any("Self CPU" in line for line in lines)


def test_the_script_for_a_gpu_takes_the_published_sizes() -> None:
    published, small = gpu.published_rankers(), gpu.base_rankers()
    assert published.keys() == small.keys()
    assert published["two_tower"].model.image_state == 1024
    assert published["visual_bert"] != small["visual_bert"]


def test_simulated_workers_keep_to_the_graph(capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = simulate.official_pipeline(chunks=5, rankers=2)
    seconds = {node.name: 1.0 + len(node.name) for node in pipeline.nodes}
    chain, total = max(simulate.ways_to_the_end(pipeline, seconds).values()), sum(seconds.values())
    taken = {workers: simulate.simulate(pipeline, seconds, workers) for workers in (1, 2, 3, 1000)}
    assert taken[1] == pytest.approx(total)
    assert taken[1000] == pytest.approx(chain)
    for workers, found in taken.items():
        assert max(chain, total / workers) <= found + 1e-9 <= total / workers + chain + 1e-6  # Graham's bounds
    simulate.main(["--workers", "1", "8"])
    assert capsys.readouterr().out.count("workers") == 2


@pytest.mark.slow
def test_a_published_ranker_is_killed_resumes_and_submits() -> None:
    command = [sys.executable, "-m", "benchmarks.rehearsal", "--rankers", "concat_query"]
    printed = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout
    ranker, *figures, _, _, queries, _ = printed.splitlines()[1].split()
    assert (ranker, queries) == ("concat_query", "4")
    assert all(0 < float(figure) < 1000 for figure in figures)
    assert len(figures) == len(rehearsal.COLUMNS)


@pytest.mark.slow
def test_all_stages_run_at_the_published_sizes() -> None:
    command = [sys.executable, "-m", "benchmarks.whole", "--rows", "500"]
    printed = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [line.split() for line in printed.splitlines()[1:6]]
    assert [stage for stage, *_ in rows] == ["ingest", "featurize", "sample_negatives", "train", "evaluate"]
    assert all(float(seconds) > 0 and 0 < float(peak) < 24 for _, seconds, peak in rows)
    assert "16 cores, as 8 workers of 2" in printed
