"""All five stages on made-up rows in the layout and with the recipes of conf/kddcup, and what the official file takes.

python -m benchmarks.whole --rows 100000  # one chunk of the official size, one epoch of two_tower

The text model has ALBERT-base's shape and random weights, the word vectors are a made-up GloVe file of 300 numbers, and
each stage is `kedro run --env=kddcup --pipelines=<stage>` in a process of its own. Seconds are those of the clock,
Python and imports included; memory is the process's peak. The last table extrapolates one chunk to thirty, and says so.
The other rankers: benchmarks/rehearsal.py.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.made_up import FOLDER, MODIFIERS, NOUNS, made_up_queries, made_up_tsv, made_up_words
from benchmarks.simulate import PAIRS_A_ROW, ROWS, ROWS_PER_QUERY, official_pipeline, seconds_of, simulate
from benchmarks.small_project import copy_project
from benchmarks.stages import albert_folder
from multimodal_recall.config.options import ShopOptions
from multimodal_recall.datasets.official_files import OfficialTsvDataset
from multimodal_recall.datasets.small_files import JsonFile, LabelsFile
from multimodal_recall.pipelines.make_shop.nodes import make_candidate_files, make_labels

STAGES = ("ingest", "featurize", "sample_negatives", "train", "evaluate")
CHUNKS, ROWS_A_CHUNK, CORES_A_WORKER = 30, 100_000, 2


def write_glove(path: Path) -> None:
    """Write the words of the made-up queries with random vectors, as a GloVe text file."""
    random = np.random.default_rng(0)
    with path.open("w") as file:
        for word in made_up_words(NOUNS + MODIFIERS):
            print(word, *(f"{number:.4f}" for number in random.standard_normal(300)), file=file)


def make_official_project(folder: Path, rows: int, options: ShopOptions | None = None) -> Path:
    """A copy of the project in the layout of the official archives; ``options`` are those of the candidates."""
    project = copy_project(folder)
    raw = project / "data" / "01_raw"
    for split in ("train", "valid", "testA"):
        (raw / split).mkdir(parents=True)
    (raw / "train" / "train.tsv").symlink_to(made_up_tsv(rows))
    for split in ("valid", "testA"):
        files = make_candidate_files(options or ShopOptions(), split)
        OfficialTsvDataset(str(raw / split / f"{split}.tsv")).save(files["tsv"])
        JsonFile(str(raw / split / f"{split}_answer.json")).save(files["answers"])
    LabelsFile(str(raw / "multimodal_labels.txt")).save(make_labels())
    write_glove(raw / "glove.840B.300d.txt")
    return project


def change(path: Path, options: dict[str, Any]) -> None:
    """Change a file of parameters; of a group that stands in both, the other options stay."""
    kept = yaml.safe_load(path.read_text()) if path.exists() else {}
    for name, value in options.items():
        kept[name] = kept.get(name, {}) | value if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(kept))


def run_stage(project: Path, stage: str) -> tuple[float, float]:
    """Run one stage from the shell; seconds and peak memory (GB), which is not less than this process holds."""
    command = [sys.executable, "-m", "kedro", "run", "--env=kddcup", f"--pipelines={stage}"]
    start = time.perf_counter()
    with (project / f"{stage}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=project, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{stage} failed:\n{(project / f'{stage}.log').read_text()[-2000:]}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


def extrapolate(rows: int, seconds: dict[str, float], epochs: int) -> None:
    """Print what the official file takes by these speeds, on this machine and on eight such machines."""
    work = {"ingest": rows, "featurize": rows / ROWS_PER_QUERY, "sample_negatives": rows, "train": rows * PAIRS_A_ROW}
    speeds = {stage: amount / seconds[stage] for stage, amount in work.items()}
    print(f"\n{ROWS:,} rows, {epochs} epochs; measured: speeds of {rows:,} rows; extrapolated: everything else")
    each = {stage: amount * ROWS / rows / speeds[stage] / 3600 for stage, amount in work.items()}
    each = {stage: hours * (epochs if stage in ("sample_negatives", "train") else 1) for stage, hours in each.items()}
    print("this machine, hours: " + ", ".join(f"{stage} {hours:.2f}" for stage, hours in each.items()))
    pipeline = official_pipeline(CHUNKS, rankers=1)
    times = {node.name: seconds_of(node, CHUNKS, speeds, epochs) for node in pipeline.nodes}
    for workers in (1, 8):
        hours, cores = simulate(pipeline, times, workers) / 3600, workers * CORES_A_WORKER
        print(f"{cores:>3} cores, as {workers} workers of {CORES_A_WORKER}: {hours:.1f} hours at the least")


def main(words: Sequence[str] | None = None) -> None:
    """Print a line for each stage as it ends, then the extrapolation."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--epochs", type=int, default=10, help="epochs that the extrapolation counts")
    options = arguments.parse_args(words)
    FOLDER.mkdir(exist_ok=True)
    text_model = albert_folder(made_up_queries(20_000, np.random.default_rng(0)))
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        project = make_official_project(Path(folder), options.rows)
        conf = project / "conf" / "kddcup"
        changes = {"rankers": ["two_tower"], "chunks": {"train": -(-options.rows // ROWS_A_CHUNK)}}
        change(conf / "parameters.yml", changes | {"language_model": {"start_from": str(text_model)}})
        change(conf / "parameters.yml", {"sample_negatives": {"epochs": 1}})
        change(conf / "rankers" / "two_tower.yml", {"two_tower": {"epochs": 1}})
        found = {}
        print(f"{'stage':17} {'seconds':>8} {'peak GB':>8}")
        for stage in STAGES:
            found[stage], peak = run_stage(project, stage)
            print(f"{stage:17} {found[stage]:8.1f} {peak:8.2f}", flush=True)
    extrapolate(options.rows, found, options.epochs)


if __name__ == "__main__":
    main()
