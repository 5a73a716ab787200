"""Time and peak memory of each stage for growing training files, and what 3,000,000 rows would take.

python -m benchmarks.growth --rows 5000 20000 80000

Made-up rows with the features of the official ones, cut into chunks of 5,000 rows; towers and language model as in
``conf/base``, one epoch each. Memory is that of the whole process, Python and libraries included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.made_up import FOLDER, made_up_tsv
from benchmarks.small_project import copy_project
from multimodal_recall.config.options import ShopOptions
from multimodal_recall.datasets.official_files import OfficialTsvDataset
from multimodal_recall.datasets.small_files import JsonFile, LabelsFile
from multimodal_recall.pipelines.make_shop.nodes import make_candidate_files, make_labels

PIPELINES = ("ingest", "featurize", "sample_negatives", "train", "evaluate")
OFFICIAL_ROWS = 3_000_000
ONE_EPOCH = {"two_tower": {"epochs": 1}, "language_model": {"pretrain_epochs": 1}, "sample_negatives": {"epochs": 1}}


def make_project(folder: Path, rows: int, parameters: dict) -> Path:
    """A copy of the project with a made-up training file, the default shop's valid split, and some options."""
    project = copy_project(folder)
    raw = project / "data" / "01_raw" / "shop"
    raw.mkdir(parents=True)
    (raw / "train.tsv").symlink_to(made_up_tsv(rows))
    valid = make_candidate_files(ShopOptions(), "valid")
    OfficialTsvDataset(str(raw / "valid.tsv")).save(valid["tsv"])
    JsonFile(str(raw / "valid_answer.json")).save(valid["answers"])
    LabelsFile(str(raw / "multimodal_labels.txt")).save(make_labels())
    (project / "conf" / "local" / "parameters.yml").write_text(json.dumps({"make_shop": None, **parameters}))
    return project


def run_stage(project: Path, pipeline: str) -> tuple[float, float]:
    """Seconds and peak memory (GB) of one stage from the shell; not less than this process holds, 0.2 GB."""
    command = [sys.executable, "-m", "kedro", "run", f"--pipelines={pipeline}"]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{pipeline} failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    """Print a line a stage and size, then the extrapolation by the slope between the two largest sizes."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", nargs="+", type=int, default=[5_000, 20_000, 80_000])
    arguments.add_argument("--chunk-rows", type=int, default=5_000)
    options = arguments.parse_args()
    FOLDER.mkdir(exist_ok=True)
    found: dict[str, list[float]] = {pipeline: [] for pipeline in PIPELINES}
    print(f"{'rows':>8} {'stage':17} {'seconds':>8} {'peak GB':>8}")
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            chunks = -(-rows // options.chunk_rows)
            project = make_project(Path(folder), rows, {"chunks": {"train": chunks}, **ONE_EPOCH})
            for pipeline in PIPELINES:
                seconds, peak = run_stage(project, pipeline)
                found[pipeline].append(seconds)
                print(f"{rows:8} {pipeline:17} {seconds:8.1f} {peak:8.2f}", flush=True)
    before, last = options.rows[-2:]
    print(f"{OFFICIAL_ROWS} rows, by the slope from {before} to {last}:")
    for pipeline, seconds in found.items():
        each = (seconds[-1] - seconds[-2]) / (last - before)
        print(f"{pipeline:17} {1e6 * each:8.0f} us a row, {each * OFFICIAL_ROWS / 60:8.0f} minutes")


if __name__ == "__main__":
    main()
