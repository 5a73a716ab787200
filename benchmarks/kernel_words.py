"""Time and memory of ``kernel_words``: the sums of each chunk, their total, the solution.

python -m benchmarks.kernel_words --rows 100000 --landmarks 500 1000 2000

Made-up rows with the features of the official ones and 5,000 words, a product a row, in chunks of 10,000 rows. Each
number of landmarks is measured in a process of its own, on one thread, in CPU seconds: other work hardly changes these.
Memory is the highest of the process, Python, libraries and one chunk of made-up rows included.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time

import numpy as np
import torch

from benchmarks.made_up import FOLDER, ROWS_PER_QUERY
from benchmarks.stages import made_up_arrays
from multimodal_recall.config.baselines import KernelWordsOptions
from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.datasets.word_sums import WordSumsFolder
from multimodal_recall.models.kernel_ridge import WordSums, add_up, solve, sum_pairs
from multimodal_recall.models.layers.kernel_features import KernelFeatures
from multimodal_recall.models.layers.largest_box import describe_largest

CHUNK_ROWS, POOL, WORDS = 10_000, 5_000, 5_000
COLUMNS = ("sums s", "rows/s", "total s", "solution s", "peak GB", "MB a chunk")


def made_up_chunk(pool: ChunkArrays, rows: int, random: np.random.Generator) -> tuple[ChunkArrays, Pairs]:
    """A chunk of products of the pool, a product a row."""
    queries = random.integers(0, len(pool.word_counts), rows)
    arrays = pool.take_products(random.integers(0, len(pool.box_counts), rows))
    return arrays, Pairs(queries, np.arange(rows), np.ones(rows, np.int8))


def measure(rows: int, landmarks: int) -> dict[str, float]:
    """Sum the chunks and save the sums, then read, add up and solve, as the nodes do."""
    torch.set_num_threads(1)
    random, folder = np.random.default_rng(0), FOLDER / f"kernel_words_{landmarks}"
    shutil.rmtree(folder, ignore_errors=True)
    pool = made_up_arrays(POOL, round(CHUNK_ROWS / ROWS_PER_QUERY), random)
    arrays, pairs = made_up_chunk(pool, landmarks, random)
    features, summed = KernelFeatures(KernelWordsOptions(), describe_largest(arrays.batch(pairs))).double(), 0.0
    datasets = [WordSumsFolder(str(folder / f"chunk_{start}")) for start in range(0, rows, CHUNK_ROWS)]
    for number, dataset in enumerate(datasets):
        arrays, pairs = made_up_chunk(pool, min(CHUNK_ROWS, rows - number * CHUNK_ROWS), random)
        start = time.process_time()
        dataset.save(WordSums({}, len(pairs.query_rows), 0.0, **sum_pairs(features, arrays, pairs)))
        summed += time.process_time() - start
    start = time.process_time()
    total = add_up((dataset.load() for dataset in datasets), WORDS)
    added = time.process_time() - start
    solve(total, features.between_landmarks().numpy(), KernelWordsOptions.ridge)
    solved = time.process_time() - start - added
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    size = sum(file.stat().st_size for file in folder.rglob("*.npy")) / len(datasets) / 1e6
    shutil.rmtree(folder)
    return dict(zip(COLUMNS, (summed, rows / summed, added, solved, peak, size), strict=True))


def main() -> None:
    """Print a line a number of landmarks."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--landmarks", nargs="+", type=int, default=[500, 1000, 2000])
    arguments.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.here:
        return print(json.dumps(measure(options.rows, options.landmarks[0])))
    print(f"{'rows':>10} {'landmarks':>10}" + "".join(f" {name:>{len(name)}}" for name in COLUMNS))
    for landmarks in options.landmarks:
        command = [sys.executable, "-m", "benchmarks.kernel_words", "--here", f"--rows={options.rows}"]
        done = subprocess.run([*command, f"--landmarks={landmarks}"], stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        row = "".join(f" {found[name]:>{len(name)},.{0 if name == 'rows/s' else 2}f}" for name in COLUMNS)
        print(f"{options.rows:10,} {landmarks:>10,}{row}", flush=True)


if __name__ == "__main__":
    main()
