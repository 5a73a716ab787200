"""Exact search in an index of made-up products, beside plain numpy and faiss: time, bytes, memory as products grow.

python -m benchmarks.index --products 10000 100000 1000000

Each side runs in a process of its own. Ours searches float16 files that are memory-mapped; numpy holds float32 vectors
in memory, computes ``vectors @ query`` and sorts all scores. faiss (``pip install faiss-cpu``; left out where it is not
installed) visits ``PROBED`` of the ``LISTS`` cells of an inverted file of float16 vectors, and so misses products:
``recall`` is the share of the ten best that it finds. The queries lie apart from the products, as texts lie apart from
images. Memory is the largest resident set, Python, torch and mapped files included. With ``--cpu``, milliseconds are
those of the CPU: other work on the machine counts less.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.made_up import FOLDER

WIDTH, CHUNK, TOP, BATCH, REPEATS = 256, 100_000, 10, 64, 21
LISTS, PROBED = 4096, 64
SIDES = ("ours", "numpy", "faiss")
COLUMNS = ("s to write", "bytes each", "s to open", "ms a query", "ms, 95 %", "ms in batches", "GB", "recall")


def centres() -> np.ndarray:
    """Draw the kinds of products (1000, WIDTH) float32."""
    return np.random.default_rng(0).normal(size=(1000, WIDTH)).astype(np.float32)


def drawn(count: int, random: np.random.Generator, shift: np.ndarray | float = 0.0) -> np.ndarray:
    """Draw unit vectors (count, WIDTH) float32, each near the centre of a kind, all moved by ``shift``."""
    noise = random.normal(size=(count, WIDTH)).astype(np.float32)
    vectors = centres()[random.integers(1000, size=count)] + noise + shift
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def chunks_of(products: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw ids (n,) and vectors (n, WIDTH) of the products, chunk after chunk."""
    random = np.random.default_rng(1)
    for start in range(0, products, CHUNK):
        count = min(CHUNK, products - start)
        yield np.arange(start, start + count), drawn(count, random)


def queries_of(count: int) -> np.ndarray:
    """Draw vectors (count, WIDTH) of queries: of the same kinds, moved by as much as a kind lies from the origin."""
    random = np.random.default_rng(2)
    return drawn(count, random, random.normal(size=WIDTH))


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


def open_faiss(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Build an inverted file of the vectors, and give a search that visits some of its cells."""
    import faiss

    files = sorted(folder.glob("chunk_*/values.npy"))
    products = sum(len(np.load(file, mmap_mode="r")) for file in files)
    lists = min(LISTS, products // 40)
    index = faiss.index_factory(WIDTH, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.train(np.concatenate([np.load(file)[: 50 * lists // len(files)].astype(np.float32) for file in files]))
    for file in files:
        index.add(np.load(file).astype(np.float32))
    index.nprobe = PROBED
    return lambda queries: index.search(queries, TOP)[1]


def recall_of(found: np.ndarray, folder: Path) -> float:
    """Share of the ten best products of ``BATCH`` queries that are among those found (BATCH, TOP)."""
    best = open_ours(folder)(queries_of(BATCH))[0]
    return np.mean([len({*row} & {*exact}) / TOP for row, exact in zip(found.tolist(), best.tolist(), strict=True)])


def measure(side: str, folder: Path, clock: Callable[[], float]) -> dict[str, float]:
    """Time one side's opening and searching in this process."""
    start = time.perf_counter()
    search = {"ours": open_ours, "numpy": open_numpy, "faiss": open_faiss}[side](folder)
    opened = time.perf_counter() - start
    one = timed(search, queries_of(1), clock)
    many = np.median(timed(search, queries_of(BATCH), clock) if side != "numpy" else one * BATCH) / BATCH
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    recall = recall_of(search(queries_of(BATCH)), folder) if side == "faiss" else 1.0
    figures = (opened, np.median(one), np.quantile(one, 0.95), many, peak, recall)
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
        for side in SIDES if find_spec("faiss") else SIDES[:2]:
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
