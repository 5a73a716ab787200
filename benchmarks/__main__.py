"""Time every stage against a straightforward implementation.

python -m benchmarks                      # all, medians of three alternated runs, 22 minutes on two cores
python -m benchmarks --only ingest train  # some
python -m benchmarks --peers              # beside other libraries too: pip install -e ".[benchmarks]"
python -m benchmarks --only train --busy  # CPU seconds of one thread, on a machine with other work
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks import limits
from benchmarks.growth import ONE_EPOCH, make_project
from benchmarks.made_up import FOLDER, made_up_tsv
from benchmarks.peers import PEERS
from benchmarks.ranker_speed import CANDIDATES, base_rankers, made_up_chunk, speed
from benchmarks.stages import CHUNKS, INGESTED_ROWS, STAGES, save_chunk
from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.runtime.device import choose_hardware

PROJECT = Path(__file__).parents[1]
SIDES = {
    "ingest": ("ours", "straightforward", "two_workers"),
    "albert": ("ours", "straightforward", "float32"),
    "train": ("ours", "straightforward", "float32"),
}
NODES = 300
PARTS = [*STAGES, "rankers", "kedro", "runners"]
RUNNERS = ("SequentialRunner", "ThreadRunner", "multimodal_recall.runtime.dask_runner.DaskRunner")


def run_side(stage: str, side: str) -> dict[str, float]:
    """One side of a stage, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.stages", stage, side]
    finished = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(finished.stdout.splitlines()[-1])
    if limits.clock is time.process_time:
        found["seconds"] = found["cpu_seconds"]
    return found


def measure(stage: str, repeats: int, peers: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Medians of a stage's sides, alternated so that a noisy machine hurts all alike."""
    sides = (*SIDES.get(stage, ("ours", "straightforward")), *peers)
    runs = [{side: run_side(stage, side) for side in sides} for _ in range(repeats)]
    return {side: {name: median(run[side][name] for run in runs) for name in runs[0][side]} for side in sides}


def print_stage(stage: str, repeats: int, limit: tuple[float, str] | None, peers: Sequence[str] = ()) -> None:
    """One line of the table; another for two workers of ingest and for each peer."""
    found = measure(stage, repeats, peers)
    speed = {side: run["rows"] / run["seconds"] for side, run in found.items()}
    ours, other = found["ours"], found["straightforward"]
    share = ""
    if limit:
        rate = ours["work"] / ours["seconds"]
        share = f"{rate:.2f} of {limit[0]:.2f} {limit[1]} ({rate / limit[0]:.0%})"
    print(
        f"{stage:14} {ours['rows']:>9,.0f} {speed['ours']:>11,.0f} {speed['straightforward']:>11,.0f} "
        f"{speed['ours'] / speed['straightforward']:>7.1f}x {ours['peak_gb']:>6.2f} {other['peak_gb']:>6.2f}  {share}",
        flush=True,
    )
    for side in SIDES.get(stage, ())[2:]:
        print(f"{'  ' + side:24} {speed[side]:>11,.0f} {speed[side] / speed['ours']:>18.2f}x ours", flush=True)
    for peer in peers:
        ratio, memory = speed["ours"] / speed[peer], found[peer]["peak_gb"]
        print(f"{'  ' + peer:24} {'':11} {speed[peer]:>11,.0f} {ratio:>7.1f}x {'':6} {memory:>6.2f}", flush=True)


def print_rankers(repeats: int) -> None:
    """A line a ranker of ``conf/base``: training pairs a second, seconds to score 10,000 candidates, of both sides."""
    arrays = made_up_chunk(np.random.default_rng(0))
    heads = f"{'ranker':22} {'train/s':>8} {'straight/s':>11} {'ratio':>6}"
    print(f"{heads}   scoring {CANDIDATES:,}: ours s, straight s, ratio")
    for name, options in base_rankers().items():
        ours, other = speed(options, arrays, repeats).values()
        print(
            f"{name:22} {ours.pairs_per_second:>8,.0f} {other.pairs_per_second:>11,.0f} "
            f"{ours.pairs_per_second / other.pairs_per_second:>5.1f}x {ours.score_seconds:>20.2f} "
            f"{other.score_seconds:>8.2f} {other.score_seconds / ours.score_seconds:>5.1f}x",
            flush=True,
        )


def kedro(project: Path, *arguments: str, cores: int = 2) -> float:
    """Seconds that ``kedro run`` takes, from the shell, on so many cores; runners start as many workers."""
    start = time.perf_counter()
    first = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
    command = ["taskset", "--cpu-list", first, sys.executable, "-m", "kedro", "run", *arguments]
    subprocess.run(command, cwd=project, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def print_overhead(repeats: int) -> None:
    """What Kedro costs: 300 ingest nodes of twenty rows beside their work alone, and one node from the shell."""
    rows = 20 * NODES
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        project = make_project(Path(folder), rows, {"chunks": {"train": NODES}})
        one = ["--namespaces=train.chunk_001", "--params=chunks.train=4"]
        single = median(kedro(project, "--pipelines=ingest", *one) for _ in range(repeats))
        start = median(kedro(project, "--pipelines=ingest", "--namespaces=train.chunk_001") for _ in range(repeats))
        nodes = median(kedro(project, "--pipelines=ingest", "--namespaces=train") for _ in range(repeats)) - start
        begun = time.perf_counter()
        for number in range(NODES):
            save_chunk(made_up_tsv(rows), Path(folder), number, NODES)
        work = time.perf_counter() - begun
    print(f"kedro run of one ingest node of 4 chunks from the shell: {single:.1f} s")
    print(
        f"kedro run of {NODES} ingest nodes: {1000 * nodes / NODES:.1f} ms a node, {1000 * work / NODES:.1f} of them "
        f"its work, {1000 * (nodes - work) / NODES:.1f} Kedro"
    )


def print_runners(repeats: int) -> None:
    """Stages of 4 chunks, then of 2 rankers, by each runner on one core and on two; starting it is included."""
    chunks = ",".join(f"train.chunk_{number:03d}" for number in range(CHUNKS))
    parts = ",".join(f"language.queries.chunk_{number:03d}" for number in range(CHUNKS))
    rankers = ("two_tower", "bag_of_words")
    seeds = itertools.count(1)  # with a seed that it was trained with before, a ranker's training is not done again
    works = {
        "ingest": lambda: ["--pipelines=ingest", f"--namespaces={chunks}"],
        "encode queries": lambda: ["--pipelines=featurize", f"--namespaces={parts}"],
        "sample_negatives": lambda: ["--pipelines=sample_negatives", f"--namespaces={chunks}"],
        "score": lambda: [f"--nodes={','.join(f'{ranker}.score_valid' for ranker in rankers)}"],
        "train": lambda: [
            f"--nodes={','.join(f'{ranker}.train' for ranker in rankers)}",
            f"--params=seed={next(seeds)}",
        ],
    }
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        options = {ranker: {"epochs": 1} for ranker in rankers} | {"rankers": list(rankers)}
        project = make_project(Path(folder), INGESTED_ROWS, {"chunks": {"train": CHUNKS}, **ONE_EPOCH, **options})
        kedro(project)
        sides = list(itertools.product(RUNNERS, (1, 2)))
        for work, how in works.items():
            runs = [
                {(name, cores): kedro(project, *how(), f"--runner={name}", cores=cores) for name, cores in sides}
                for _ in range(repeats)
            ]
            found = {side: median(run[side] for run in runs) for side in sides}
            taken = (
                f"{name.rpartition('.')[2]} {seconds:.1f} s on {cores}" for (name, cores), seconds in found.items()
            )
            print(f"kedro run of {work}: {', '.join(taken)}", flush=True)


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--peers", action="store_true", help="time other libraries too")
    arguments.add_argument("--busy", action="store_true", help="compare CPU seconds of one thread: other work runs")
    options = arguments.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if options.busy:
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
        limits.clock = time.process_time
    product = limits.matrix_product(torch.float32)
    decoding = limits.base64_decoding()
    print(
        f"limits of this machine: {product:.0f} GFLOP/s float32, {limits.matrix_product(torch.bfloat16):.1f} bfloat16; "
        f"base64 {decoding:.1f} GB/s a core; memory copy {limits.memory_copy():.1f} GB/s; "
        f"disk write {limits.disk_write():.2f} GB/s"
    )
    hardware = choose_hardware(HardwareOptions())
    used = (limits.matrix_product(hardware.dtype), f"GFLOP/s {hardware.precision}")
    bounds = {"albert": used, "train": used, "ingest": (decoding, "GB/s")}
    print(
        f"{'stage':14} {'rows':>9} {'ours/s':>11} {'straight/s':>11} {'ratio':>8} {'GB':>6} {'GB str':>6}  of the limit"
    )
    for stage in STAGES:
        if stage in options.only:
            print_stage(stage, options.repeats, bounds.get(stage), PEERS.get(stage, ()) if options.peers else ())
    if "rankers" in options.only:
        print_rankers(options.repeats)
    if "kedro" in options.only:
        print_overhead(options.repeats)
    if "runners" in options.only:
        print_runners(options.repeats)


if __name__ == "__main__":
    main()
