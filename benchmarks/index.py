"""Exact search in an index of made-up products, beside plain numpy: seconds, bytes and memory as products grow.

python -m benchmarks.index --products 10000 100000 1000000

Each side runs in a process of its own. Ours searches float16 files that are memory-mapped; numpy holds float32 vectors
in memory, computes ``vectors @ query`` and sorts all scores. Memory is the largest resident set, Python, torch and
mapped files included. With ``--cpu``, milliseconds are those of the CPU: other work on the machine counts less.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.made_up import FOLDER

WIDTH, CHUNK, TOP, BATCH, REPEATS = 256, 100_000, 10, 64, 21
SIDES = ("ours", "numpy")
COLUMNS = ("seconds to write", "bytes a product", "seconds to open", "ms a query", "ms, 95 %", "ms in batches", "GB")


def chunks_of(products: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw ids and unit vectors (n, WIDTH) float32 around common directions, chunk after chunk."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(1000, WIDTH)).astype(np.float32)
    for start in range(0, products, CHUNK):
        count = min(CHUNK, products - start)
        vectors = centres[random.integers(1000, size=count)] + random.normal(size=(count, WIDTH)).astype(np.float32)
        yield np.arange(start, start + count), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def queries_of(count: int) -> np.ndarray:
    """Draw unit vectors (count, WIDTH) that a common shift keeps apart from the products, as texts are from images."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(count, WIDTH)) + 2 * random.normal(size=WIDTH)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def timed(search: Callable[[np.ndarray], Any], queries: np.ndarray, clock: Callable[[], float]) -> np.ndarray:
    """Milliseconds of one search each (REPEATS,), after one that is not counted."""
    search(queries)
    times = []
    for _ in range(REPEATS):
        start = clock()
        search(queries)
        times.append(1e3 * (clock() - start))
    return np.array(times)


def write_index(folder: Path, products: int) -> int:
    """Save an index through the catalog's datasets; returns its bytes."""
    from multimodal_recall.datasets.product_index import IndexChunkFolder, IndexList
    from multimodal_recall.models.index import IndexChunk, ProductIndex

    listed = {}
    for number, (ids, vectors) in enumerate(chunks_of(products)):
        dataset = IndexChunkFolder(str(folder / f"chunk_{number:03d}"))
        dataset.save(IndexChunk("made_up", "", "", ids, vectors.astype(np.float16), word_major=False))
        listed[f"catalogue.chunk_{number:03d}"] = dataset.load()
    IndexList(str(folder / "index.json")).save(ProductIndex("made_up", "", listed))
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def open_ours(folder: Path) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Open an index, compare its digests, and give its search."""
    import torch

    from multimodal_recall.datasets.product_index import IndexList
    from multimodal_recall.models.index import search_index
    from multimodal_recall.models.ranker import DotRanker

    index, ranker = IndexList(str(folder / "index.json")).load(), DotRanker()
    ranker.device = torch.nn.Parameter(torch.zeros(1))
    chunks = [(chunk, None) for chunk in index.chunks.values()]
    return lambda queries: search_index(ranker, queries, chunks, TOP)


def open_numpy(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Read all vectors into memory as float32, and give a search that sorts all scores."""
    files = sorted(folder.glob("chunk_*/values.npy"))
    vectors = np.concatenate([np.load(file).astype(np.float32) for file in files])
    return lambda queries: np.argsort(-(vectors @ queries.T), axis=0)[:TOP]


def measure(side: str, folder: Path, clock: Callable[[], float]) -> dict[str, float]:
    """Time one side's opening and searching in this process."""
    start = time.perf_counter()
    search = {"ours": open_ours, "numpy": open_numpy}[side](folder)
    opened = time.perf_counter() - start
    one = timed(search, queries_of(1), clock)
    many = np.median(timed(search, queries_of(BATCH), clock) if side == "ours" else one * BATCH) / BATCH
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    figures = (opened, np.median(one), np.quantile(one, 0.95), many, peak)
    return dict(zip(COLUMNS[2:], map(float, figures), strict=True))


def main() -> None:
    """Print a line a size and side."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--products", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    arguments.add_argument("--cpu", action="store_true")
    arguments.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.side:
        clock = time.process_time if options.cpu else time.perf_counter
        return print(json.dumps(measure(options.side, options.folder, clock)))
    print(f"{'products':>10} {'side':6}" + "".join(f" {name:>{len(name)}}" for name in COLUMNS))
    for products in options.products:
        folder = FOLDER / f"index_{products}"
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        size = write_index(folder, products)
        written = {COLUMNS[0]: time.perf_counter() - start, COLUMNS[1]: size / products}
        for side in SIDES:
            command = [sys.executable, "-m", "benchmarks.index", f"--side={side}", f"--folder={folder}"]
            command += ["--cpu"] * options.cpu
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            figures = {**(written if side == "ours" else {}), **json.loads(done.stdout.splitlines()[-1])}
            cells = [f"{figures[name]:.2f}" if name in figures else "" for name in COLUMNS]
            row = "".join(f" {cell:>{len(name)}}" for name, cell in zip(COLUMNS, cells, strict=True))
            print(f"{products:10,} {side:6}{row}", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
