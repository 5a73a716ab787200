"""Search in an index of made-up products, beside numpy, faiss and usearch used directly: time, bytes, memory, recall.

python -m benchmarks.index --products 10000 100000 1000000

Each side runs in a process of its own. ``exact`` searches float16 files that are memory-mapped, and ``cells`` is our
approximate search of the same files; both are written by a process before, of which "GB to write" is the peak. numpy
holds float32 vectors in memory, computes ``vectors @ query`` and sorts all scores. faiss and usearch are left out where
they are not installed (``pip install faiss-cpu usearch``): faiss visits ``PROBED`` cells of an inverted file of float16
vectors, usearch walks a graph (HNSW) of them, both as their pages advise. ``recall`` is the share of the ten best that
a side finds. The queries lie apart from the products, as texts lie apart from images. Memory is what is resident after
the searches, Python, torch and mapped files included. With
``--cpu``, milliseconds are those of the CPU: other work on the machine counts less.

python -m benchmarks.index --rows 50000

times the whole way instead, from a training file of so many made-up rows, each with a product of its own, to recall in
all of them, stage by stage in a project of its own.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.growth import make_project, run_stage
from benchmarks.made_up import FOLDER

WIDTH, CHUNK, TOP, BATCH, REPEATS = 256, 100_000, 10, 64, 21
PROBED = 64
SIDES = {"exact": "torch", "cells": "faiss", "numpy": "numpy", "faiss": "faiss", "usearch": "usearch"}
"""Module that each side needs."""
WRITING = ("s to write", "GB to write", "bytes each")
COLUMNS = (*WRITING, "s to open", "ms a query", "ms, 95 %", "ms in batches", "GB", "recall")
WHOLE_WAY = ("ingest", "featurize", "sample_negatives", "train", "index", "recall")


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


def write_index(folder: Path, products: int) -> None:
    """Save an index through the catalog's datasets."""
    from multimodal_recall.datasets.product_index import IndexChunkFolder, IndexList
    from multimodal_recall.models.index import IndexChunk, ProductIndex

    listed = {}
    for number, (ids, vectors) in enumerate(chunks_of(products)):
        dataset = IndexChunkFolder(str(folder / f"chunk_{number:03d}"))
        dataset.save(IndexChunk("made_up", "", "", ids, vectors.astype(np.float16), word_major=False))
        listed[f"catalogue.chunk_{number:03d}"] = dataset.load()
    IndexList(str(folder / "index.json")).save(ProductIndex("made_up", "", listed))


def write_cells(folder: Path, _: int) -> None:
    """Part a saved index into cells, and save them through the catalog's dataset."""
    from multimodal_recall.config.options import IndexOptions
    from multimodal_recall.datasets.cells_folder import CellsFolder
    from multimodal_recall.models.cells import build_cells

    cells = build_cells(opened(folder)[2], IndexOptions(approximate=True, probes=PROBED))
    CellsFolder(str(folder / "cells")).save(cells)


def open_exact(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Open an index, compare its digests, and give its search."""
    from multimodal_recall.models.index import search_index

    ranker, chunks, _ = opened(folder)
    return lambda queries: search_index(ranker, queries, chunks, TOP)[0]


def open_cells(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Open an index and its cells, compare their digests, and give their search."""
    from multimodal_recall.datasets.cells_folder import CellsFolder

    ranker, chunks, _ = opened(folder)
    cells = CellsFolder(str(folder / "cells")).load()
    return lambda queries: cells.search(ranker, queries, chunks, TOP)[0]


def opened(folder: Path) -> tuple[Any, list, Any]:
    """Open an index, compare its digests, and give a ranker, the chunks and the index."""
    import torch

    from multimodal_recall.datasets.product_index import IndexList
    from multimodal_recall.models.indexable import DotRanker

    index, ranker = IndexList(str(folder / "index.json")).load(), DotRanker()
    ranker.device = torch.nn.Parameter(torch.zeros(1))
    return ranker, [(chunk, None) for chunk in index.chunks.values()], index


def open_numpy(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Read all vectors into memory as float32, and give a search that sorts all scores."""
    files = sorted(folder.glob("chunk_*/values.npy"))
    vectors = np.concatenate([np.load(file).astype(np.float32) for file in files])
    return lambda queries: np.argsort(-(vectors @ queries.T), axis=0)[:TOP].T


def open_faiss(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Build an inverted file of the vectors, and give a search that visits some of its cells."""
    import faiss

    files = sorted(folder.glob("chunk_*/values.npy"))
    products = sum(len(np.load(file, mmap_mode="r")) for file in files)
    lists = round(4 * products**0.5)  # of faiss's guide: 4 to 16 times the square root
    index = faiss.index_factory(WIDTH, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.train(np.concatenate([np.load(file)[: 50 * lists // len(files)].astype(np.float32) for file in files]))
    for file in files:
        index.add(np.load(file).astype(np.float32))
    index.nprobe = PROBED
    return lambda queries: index.search(queries, TOP)[1]


def open_usearch(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Build a graph of the vectors with usearch's own settings, and give its search."""
    from usearch.index import Index

    index, start = Index(ndim=WIDTH, metric="ip", dtype="f16"), 0
    for file in sorted(folder.glob("chunk_*/values.npy")):
        vectors = np.load(file)
        index.add(np.arange(start, start + len(vectors)), vectors, threads=1)
        start += len(vectors)
    return lambda queries: index.search(queries, TOP, threads=1).keys.reshape(len(queries), -1)


OPENED = {"exact": open_exact, "cells": open_cells, "numpy": open_numpy, "faiss": open_faiss, "usearch": open_usearch}


def resident() -> float:
    """Give this process's resident memory in GB; where the system does not tell, the largest so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def recall_of(found: np.ndarray, folder: Path) -> float:
    """Share of the ten best products of ``BATCH`` queries that are among those found (BATCH, TOP)."""
    best = open_exact(folder)(queries_of(BATCH))
    return np.mean([len({*row} & {*exact}) / TOP for row, exact in zip(found.tolist(), best.tolist(), strict=True)])


WRITTEN = {"exact": write_index, "cells": write_cells}


def write(side: str, folder: Path, products: int, clock: Callable[[], float]) -> dict[str, float]:
    """Time the writing of one side's files in this process."""
    start = clock()
    WRITTEN[side](folder, products)
    files = (folder / "cells" if side == "cells" else folder).rglob("*")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    size = sum(file.stat().st_size for file in files if file.is_file())
    return dict(zip(WRITING, (clock() - start, peak, size / products), strict=True))


def measure(side: str, folder: Path, clock: Callable[[], float]) -> dict[str, float]:
    """Time one side's opening and searching in this process."""
    start = clock()
    search = OPENED[side](folder)
    ready = clock() - start
    one = timed(search, queries_of(1), clock)
    many = np.median(timed(search, queries_of(BATCH), clock) if side != "numpy" else one * BATCH) / BATCH
    memory, recall = resident(), recall_of(search(queries_of(BATCH)), folder)
    figures = (ready, np.median(one), np.quantile(one, 0.95), many, memory, recall)
    return dict(zip(COLUMNS[len(WRITING) :], map(float, figures), strict=True))


def run_whole_way(rows: int, chunk_rows: int) -> None:
    """Print seconds and peak memory of each stage, then what the searches take."""
    tiny = {"bag_of_words": {"epochs": 1}, "language_model": {"pretrain_epochs": 1}, "index": {"approximate": True}}
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        chunks = {"chunks": {"train": -(-rows // chunk_rows)}, "sample_negatives": {"epochs": 1}}
        project = make_project(Path(folder), rows, {"rankers": ["bag_of_words"], **chunks, **tiny})
        print(f"{'stage':17} {'seconds':>8} {'peak GB':>8}")
        for pipeline in WHOLE_WAY:
            seconds, peak = run_stage(project, pipeline)
            print(f"{pipeline:17} {seconds:8.1f} {peak:8.2f}", flush=True)
        print(next((project / "data/08_reporting/shop/search_speed.csv").glob("*/*.csv")).read_text())


def main() -> None:
    """Print a line a size and side."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--products", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    arguments.add_argument("--rows", type=int, help="time the whole way with so many rows instead")
    arguments.add_argument("--chunk-rows", type=int, default=5_000)
    arguments.add_argument("--cpu", action="store_true")
    arguments.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--write", type=int, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.side:
        clock = time.process_time if options.cpu else time.perf_counter
        if options.write:
            return print(json.dumps(write(options.side, options.folder, options.write, clock)))
        return print(json.dumps(measure(options.side, options.folder, clock)))
    if options.rows:
        return run_whole_way(options.rows, options.chunk_rows)
    print(f"{'products':>10} {'side':7}" + "".join(f" {name:>{len(name)}}" for name in COLUMNS))
    for products in options.products:
        folder = FOLDER / f"index_{products}"
        shutil.rmtree(folder, ignore_errors=True)
        for side in [side for side, module in SIDES.items() if find_spec(module)]:
            command = [sys.executable, "-m", "benchmarks.index", f"--side={side}", f"--folder={folder}"]
            command += ["--cpu"] * options.cpu
            writing = [[*command, f"--write={products}"]] if side in WRITTEN else []
            runs = [subprocess.run(one, stdout=subprocess.PIPE, text=True, check=True) for one in (*writing, command)]
            figures = {name: value for run in runs for name, value in json.loads(run.stdout.splitlines()[-1]).items()}
            cells = [f"{figures[name]:.2f}" if name in figures else "" for name in COLUMNS]
            row = "".join(f" {cell:>{len(name)}}" for name, cell in zip(COLUMNS, cells, strict=True))
            print(f"{products:10,} {side:7}{row}", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
