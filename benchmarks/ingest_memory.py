"""Time and peak memory of ``kedro run --pipelines=ingest`` on made-up files of several sizes.

python benchmarks/ingest_memory.py --rows 20000 80000 --chunk-rows 10000
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from multimodal_recall.datasets.official_tsv import OfficialTsvDataset
from multimodal_recall.datasets.small_files import JsonFile, LabelsFile
from multimodal_recall.options import ShopOptions
from multimodal_recall.pipelines.make_shop.nodes import make_candidate_files_of, make_labels, make_training_file

PROJECT = Path(__file__).parents[1]


def make_project(folder: Path, rows: int) -> Path:
    """A copy of the project with a training file of so many rows."""
    for name in ("conf", "src"):
        shutil.copytree(PROJECT / name, folder / name)
    shutil.copy(PROJECT / "pyproject.toml", folder)
    options = replace(ShopOptions(), train_rows=rows, valid_queries=5)
    raw = folder / "data" / "01_raw" / "shop"
    valid = make_candidate_files_of("valid")(options)
    OfficialTsvDataset(str(raw / "train.tsv")).save(make_training_file(options))
    OfficialTsvDataset(str(raw / "valid.tsv")).save(valid["tsv"])
    JsonFile(str(raw / "valid_answer.json")).save(valid["answers"])
    LabelsFile(str(raw / "multimodal_labels.txt")).save(make_labels())
    return folder


def main() -> None:
    """Print one line a size."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", nargs="+", type=int, default=[20_000, 80_000])
    arguments.add_argument("--chunk-rows", type=int, default=10_000)
    options = arguments.parse_args()
    print(f"{'rows':>8} {'chunks':>7} {'GB':>6} {'seconds':>8} {'rows/s':>8} {'peak GB':>8}")
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            project, chunks = make_project(Path(folder), rows), -(-rows // options.chunk_rows)
            names = ",".join(f"train.chunk_{number:03d}" for number in range(chunks))
            command = [sys.executable, "-m", "kedro", "run", "--pipelines=ingest", f"--namespaces={names}"]
            start = time.perf_counter()
            process = subprocess.Popen(
                [*command, f"--params=chunks.train={chunks}"], cwd=project, stdout=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)  # peak memory of this process alone
            seconds = time.perf_counter() - start
            if status:
                raise SystemExit(f"ingest of {rows} rows failed")
            size = (project / "data" / "01_raw" / "shop" / "train.tsv").stat().st_size
            print(
                f"{rows:8} {chunks:7} {size / 1e9:6.2f} {seconds:8.1f} {rows / seconds:8.0f} "
                f"{usage.ru_maxrss * 1024 / 1e9:8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
