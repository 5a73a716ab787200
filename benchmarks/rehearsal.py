"""A rehearsal of conf/kddcup: each ranker trains at its published size, is killed, resumes, scores and submits.

python -m benchmarks.rehearsal                       # every published ranker, one after the other
python -m benchmarks.rehearsal --rankers mcan siamese

The files have the layout of the official archives, and hold just enough made-up rows for two chunks of training, of
which the first is the published batch or more, and 4 queries with some 30 candidates each. Text models have the
published shapes and random weights. A training is killed when its first checkpoint is there; the same command must go
on from it. Memory is the peak of a process, Python included, and says what machine to rent; a checkpoint lies on the
disk. Scoring computes in float32.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
import yaml
from transformers import BertConfig, BertModel, PreTrainedModel, RobertaConfig, RobertaModel

from benchmarks.made_up import FOLDER, made_up_queries
from benchmarks.small_project import PROJECT
from benchmarks.stages import albert_folder
from benchmarks.whole import change, make_official_project, run_stage
from multimodal_recall.config.options import ShopOptions
from multimodal_recall.models.language_model import train_tokenizer

PUBLISHED = sorted(path.stem for path in (PROJECT / "conf" / "kddcup" / "rankers").glob("*.yml"))
LEAST_ROWS = 80  # of training: similar_query needs some products to draw from
BEFORE_TRAINING = ("ingest", "featurize", "sample_negatives")
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SHAPES: dict[str, type[PreTrainedModel]] = {"bert-large-uncased": BertModel, "roberta-large": RobertaModel}
CONFIGS = {
    "bert-large-uncased": BertConfig(vocab_size=30_522, **LARGE),
    "roberta-large": RobertaConfig(vocab_size=50_265, max_position_embeddings=514, **LARGE),
}
COLUMNS = ("parameters, M", "pairs/s", "s a batch", "GB to train", "GB of checkpoint", "s of 120 scores", "GB to score")


class Rehearsed(NamedTuple):
    """What a ranker took."""

    figures: tuple[float, ...]  # of COLUMNS
    submission: int  # rows


def text_folder(name: str) -> Path:
    """A text model of a published shape with random weights, and a tokenizer of made-up queries; written once."""
    folder = FOLDER / name
    if not folder.exists():
        tokenizer = train_tokenizer(made_up_queries(20_000, np.random.default_rng(0)), 8_000)
        config = CONFIGS[name]
        config.pad_token_id = tokenizer.pad_token_id
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory(dir=FOLDER) as unfinished:
            for part in (tokenizer, SHAPES[name](config)):
                part.save_pretrained(unfinished)
            shutil.copytree(unfinished, folder)
    return folder


def options_of(ranker: str) -> dict[str, Any]:
    """Merge a ranker's options of conf/base and conf/kddcup, as far as they are read here."""
    files = [PROJECT / "conf" / env / "rankers" / f"{ranker}.yml" for env in ("base", "kddcup")]
    base, official = (yaml.safe_load(file.read_text())[ranker] for file in files)
    return {**base, **official, "model": base["model"] | official.get("model", {})}


def rows_for(options: dict[str, Any]) -> int:
    """Count the rows of two chunks, each with a batch at least."""
    return max(LEAST_ROWS, 2 * options["batch_size"] // (1 + options.get("negatives_per_positive", 1)))


def make_project(folder: Path, ranker: str) -> Path:
    """A project with the official layout, few rows, and one epoch of the ranker and of what it starts from."""
    options = options_of(ranker)
    project = make_official_project(folder, rows_for(options), ShopOptions(valid_queries=4, test_queries=4))
    conf = project / "conf" / "kddcup"
    trained = [options["start_from"], ranker] if options.get("start_from") else [ranker]
    text_model = albert_folder(made_up_queries(20_000, np.random.default_rng(0)))
    change(conf / "parameters.yml", {"rankers": [ranker], "chunks": {"train": 2}, "sample_negatives": {"epochs": 1}})
    change(conf / "parameters.yml", {"language_model": {"start_from": str(text_model)}})
    for name in trained:
        change(conf / "rankers" / f"{name}.yml", {name: {"epochs": 1, "steps": None}})
    if name := options["model"].get("text_model"):
        model = options["model"] | {"text_model": str(text_folder(name))}
        change(conf / "rankers" / f"{ranker}.yml", {ranker: {"model": model}})
    return project


def train_and_kill(project: Path, ranker: str) -> float:
    """Train until the first checkpoint is there, and kill the run; its peak memory in GB."""
    command = [sys.executable, "-m", "kedro", "run", "--env=kddcup", "--pipelines=train"]
    checkpoints = project / "data" / "06_models" / "kddcup"
    with (project / "killed.log").open("w") as log:
        process = subprocess.Popen(command, cwd=project, stdout=log, stderr=subprocess.STDOUT)
        while not list(checkpoints.glob(f"**/{ranker}/*.safetensors")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
    if status != signal.SIGKILL:
        raise SystemExit(f"{ranker} was not killed:\n{(project / 'killed.log').read_text()[-2000:]}")
    return usage.ru_maxrss * 1024 / 1e9


def newest(project: Path, pattern: str) -> Path:
    """The newest version of a dataset."""
    return max((project / "data").glob(pattern))


def rehearse(ranker: str) -> Rehearsed:
    """Run all stages; the training is killed and resumed."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        project = make_project(Path(folder), ranker)
        for stage in BEFORE_TRAINING:
            run_stage(project, stage)
        killed = train_and_kill(project, ranker)
        checkpoint = next((project / "data/06_models/kddcup").glob(f"**/{ranker}/*.safetensors")).stat().st_size
        _, resumed = run_stage(project, "train")
        if "resumed after 0 epochs and 1 chunks" not in (project / "train.log").read_text().replace("\n", " "):
            raise SystemExit(f"{ranker} did not go on from its checkpoint")
        score, scoring = run_stage(project, "evaluate")
        log = pq.read_table(newest(project, f"06_models/kddcup/{ranker}/training_log.parquet/*/*.parquet"))
        card = json.loads(newest(project, f"06_models/kddcup/{ranker}/model/*/model/card.json").read_text())
        submission = newest(project, f"07_model_output/kddcup/{ranker}/testA_submission.csv/*/*.csv").read_text()
        speed = sum(log["pairs"].to_pylist()) / sum(log["seconds"].to_pylist())
        batch = options_of(ranker)["batch_size"] / speed
        figures = (card["parameters"] / 1e6, speed, batch, max(killed, resumed), checkpoint / 1e9, score, scoring)
        return Rehearsed(figures, len(submission.splitlines()) - 1)


def main(words: Sequence[str] | None = None) -> None:
    """Print a line for each ranker as it ends."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rankers", nargs="+", default=PUBLISHED, choices=PUBLISHED)
    FOLDER.mkdir(exist_ok=True)
    print(f"{'ranker':22}" + "".join(f" {name:>{len(name)}}" for name in COLUMNS), flush=True)
    for ranker in arguments.parse_args(words).rankers:
        figures, submission = rehearse(ranker)
        cells = [f"{figure:.2f}" for figure in figures]
        row = "".join(f" {cell:>{len(name)}}" for name, cell in zip(COLUMNS, cells, strict=True))
        print(f"{ranker:22}{row} submission of {submission} queries", flush=True)


if __name__ == "__main__":
    main()
