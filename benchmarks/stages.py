"""The benchmarked stages: ours and a straightforward implementation of each, on the same made-up data.

python -m benchmarks.stages ingest ours    # one side of one stage, to profile it; prints JSON

Each side runs in a process of its own, so that neither's memory or caches touch the other.
"""

import argparse
import itertools
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from transformers import AlbertConfig, AlbertModel, AutoTokenizer

from benchmarks import model_peers, peers, straightforward
from benchmarks.made_up import FOLDER, made_up_queries, made_up_tsv
from benchmarks.model_peers import SentenceEncoder
from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import HardwareOptions, IngestOptions
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.config.systems import TwoTowerOptions
from multimodal_recall.data.batch import Batch, ChunkArrays
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.data.pairs import Pairs, RightAnswers
from multimodal_recall.datasets.parquet_table import ChunkParquet
from multimodal_recall.evaluation.bootstrap import bootstrap_means
from multimodal_recall.evaluation.metrics import MEASURES, measure_queries, ndcg_at_5
from multimodal_recall.models.language_model import QueryVectors, load, train_tokenizer
from multimodal_recall.models.ranker import InputSizes, build_ranker
from multimodal_recall.negatives.drawing import LabelSharing, SimilarQueries
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk
from multimodal_recall.runtime.allocator import keep_freed_memory
from multimodal_recall.runtime.device import Hardware, choose_hardware, use_hardware
from multimodal_recall.training.losses import cross_entropy

LABELS = [f"label {number}" for number in range(33)]
OTHERS = 28
INGESTED_ROWS, CHUNKS = 24_000, 4
BOX_SHARES = np.array([0.242, 0.211, 0.151, 0.113, 0.078, 0.056, 0.039, 0.029, 0.021, 0.015, 0.011, 0.034])
# Multiplications and additions of one ALBERT-base layer a token, and of section 0's image tower a box of a training
# step: forward, backward to the weights, and for the recurrent part (not at a product's first box) to the state.
ALBERT_LAYER_FLOP = 2 * (4 * 768 * 768 + 2 * 768 * 3072)
BOX_STEP_FLOP, LATER_BOX_STEP_FLOP = 2 * 2 * 2086 * 4096, 2 * 3 * 512 * 4096


@dataclass
class Timed:
    """What one side did; ``work`` is what the machine's ``limit`` bounds, in units of 1e9 (bytes or FLOP)."""

    rows: int
    work: float = 0.0
    seconds: float = field(default=0.0, init=False)
    cpu_seconds: float = field(default=0.0, init=False)  # of this process's threads together

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Time the block; what stands outside is preparation."""
        start, cpu_start = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - start
        self.cpu_seconds += time.process_time() - cpu_start


def peak_memory() -> float:
    """Most memory (GB) that this process has held; ``ru_maxrss`` would count what its parent held when it forked."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9


def save_chunk(tsv: Path, target: Path, number: int, count: int) -> int:
    """Ingest one chunk and write its tables; the number of pairs."""
    tables = ingest_chunk(OfficialTsv(tsv), LABELS, IngestOptions(), chunk=Chunk("train", number, count))
    for name, table in tables.items():
        ChunkParquet(str(target / f"{name}_{number}.parquet")).save(table)
    return tables["pairs"].num_rows


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def ingest(side: str) -> Timed:
    """TSV to chunk parquet, in one process, or in two (side ``two_workers``)."""
    tsv = made_up_tsv(INGESTED_ROWS)
    with tsv.open("rb") as file:  # into the disk cache, for both sides
        while file.read(1 << 24):
            pass
    timed = Timed(INGESTED_ROWS, tsv.stat().st_size / 1e9)
    others = {
        "straightforward": straightforward.ingest,
        "datasets": peers.ingest_datasets,
        "polars": peers.ingest_polars,
    }
    with _scratch() as folder:
        if side in others:
            with timed.clock():
                others[side](tsv, folder)
        elif side == "ours":
            with timed.clock():
                for number in range(CHUNKS):
                    save_chunk(tsv, folder, number, CHUNKS)
        else:
            with ProcessPoolExecutor(2, get_context("spawn")) as workers:
                list(workers.map(_import_torch, range(2)))
                with timed.clock():
                    list(workers.map(save_chunk, [tsv] * CHUNKS, [folder] * CHUNKS, range(CHUNKS), [CHUNKS] * CHUNKS))
    return timed


def _import_torch(_: int) -> int:
    time.sleep(1)  # so that each worker gets one of these
    return torch.get_num_threads()


def albert_folder(queries: list[str]) -> Path:
    """ALBERT-base with random weights, which do not change its speed, and a tokenizer of these queries."""
    folder = FOLDER / "albert"
    if not folder.exists():
        tokenizer = train_tokenizer(queries, 8_000)
        ids = {name: getattr(tokenizer, f"{kind}_token_id") for name, kind in _SPECIAL.items()}
        sizes = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
        torch.manual_seed(0)
        for part in (tokenizer, AlbertModel(AlbertConfig(vocab_size=30_000, **sizes, **ids))):
            part.save_pretrained(folder)
    return folder


def albert(side: str) -> Timed:
    """ALBERT-base on distinct queries of 3 to 14 tokens."""
    queries = made_up_queries(20_000, np.random.default_rng(0))
    folder, hardware = albert_folder(queries), hardware_of(side)
    queries = queries[: 1024 if side in ("ours", "float32") else 256]
    if side == "straightforward":
        tokenizer, model = straightforward.load_text_model(folder)
        encode = partial(straightforward.query_vectors, tokenizer=tokenizer, model=model)
    elif side == "sentence_transformers":
        encode = SentenceEncoder(folder, hardware)
    else:
        encode = QueryVectors(folder, max_tokens=64, tokens_per_batch=4096, hardware=hardware)
    encode(queries[:128])  # the first call allocates
    tokens = sum(map(len, load(AutoTokenizer, folder)(queries)["input_ids"]))
    timed = Timed(len(queries), tokens * 11 * ALBERT_LAYER_FLOP / 1e9)
    with timed.clock():
        encode(queries)
    return timed


def hardware_of(side: str) -> Hardware:
    """Choose the hardware of a side: that of ours, or with the side ``float32`` that precision."""
    return choose_hardware(HardwareOptions(precision="float32" if side == "float32" else "auto"))


_SPECIAL = {"pad_token_id": "pad", "bos_token_id": "cls", "eos_token_id": "sep"}


def made_up_arrays(products: int, queries: int, random: np.random.Generator) -> ChunkArrays:
    """A chunk in memory, boxes and words a row as in the official data."""
    boxes = 1 + random.choice(12, products, p=BOX_SHARES)
    words = np.clip(1 + random.poisson(2.9, queries), 1, 14)
    features = np.maximum(random.standard_normal((boxes.sum(), 2048), np.float32) - 0.674, 0).astype(np.float16)
    return ChunkArrays(
        features,
        random.random((boxes.sum(), 6), np.float32),
        random.integers(0, 33, boxes.sum()),
        boxes,
        random.standard_normal((queries, 768)).astype(np.float16),
        random.integers(0, 5000, words.sum()),
        words,
        random.integers(0, 1000, queries),
    )


def made_up_pairs(arrays: ChunkArrays, size: int, random: np.random.Generator) -> Pairs:
    """Make up a batch of right pairs, each followed by a wrong pair."""
    queries = random.integers(0, len(arrays.word_counts), size // 2)
    return Pairs.grouped(queries, random.integers(0, len(arrays.box_counts), (size // 2, 2)))


def padded(batch: Batch) -> tuple[torch.Tensor, ...]:
    """A batch as the straightforward model reads it: a copy of query and product for each pair, all padded."""
    queries, products = batch.pair_queries, batch.pair_products
    words = batch.word_ids.masked_fill(batch.word_mask, 0)
    features = batch.box_features.float().masked_fill(batch.box_mask.unsqueeze(-1), 0)
    return (
        batch.query_vectors.float()[queries],
        words[queries],
        features[products],
        batch.box_labels[products],
        batch.box_positions[products, :, :5],
    )


def train(side: str) -> Timed:
    """Section 0's model as published (image tower 1024 wide), batches of 1000 pairs; reading the batch included."""
    random, size = np.random.default_rng(0), 1000
    arrays = made_up_arrays(20_000, 9_000, random)
    steps = [made_up_pairs(arrays, size, random) for _ in range(3 if side == "straightforward" else 6)]
    products = [np.unique(pairs.product_rows) for pairs in steps[2:]]
    boxes = sum(int(arrays.box_counts[rows].sum()) for rows in products)
    later = boxes - sum(map(len, products))
    timed = Timed(size * len(products), (boxes * BOX_STEP_FLOP + later * LATER_BOX_STEP_FLOP) / 1e9)
    make = {"straightforward": straightforward_steps, "data_loader": model_peers.training_steps}.get(side, our_steps)
    torch.manual_seed(0)
    todo = make(arrays, steps, hardware_of(side))
    for step in todo[:2]:  # the first steps allocate
        step()
    with timed.clock():
        for step in todo[2:]:
            step()
    return timed


def our_steps(arrays: ChunkArrays, steps: list[Pairs], hardware: Hardware) -> list[Callable[[], None]]:
    """Section 0's training steps as the training loop runs them."""
    keep_freed_memory()
    model = build_ranker(RankerOptions(TwoTowerOptions()), InputSizes(768, 2048, 5000, 300, 33))
    optimiser = torch.optim.AdamW(model.parameters(), 2e-4, fused=True)

    def step(pairs: Pairs) -> None:
        batch = arrays.batch(pairs)
        optimiser.zero_grad()
        with hardware.autocast():
            loss = cross_entropy(model(batch), batch.relevance).mean()
        loss.backward()
        optimiser.step()

    return [partial(step, pairs) for pairs in steps]


def straightforward_steps(arrays: ChunkArrays, steps: list[Pairs], _: Hardware) -> list[Callable[[], None]]:
    """The same steps with every pair's own copy of query and product, in float32."""
    model = straightforward.TwoTower(5000)
    optimiser = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], 2e-4)

    def step(pairs: Pairs) -> None:
        batch = arrays.batch(pairs)
        straightforward.training_step(model, optimiser, padded(batch), batch.relevance)

    return [partial(step, pairs) for pairs in steps]


def label_sharing(side: str) -> Timed:
    """Wrong products that share a label, for each pair of a chunk of 100,000."""
    random, rows = np.random.default_rng(0), 100_000
    query_rows, product_rows = np.unique(random.integers(0, 45_000, rows), return_inverse=True)[1], np.arange(rows)
    counts = 1 + random.choice(12, rows, p=BOX_SHARES)
    shares = np.full(33, 0.33 / 32)
    shares[OTHERS] = 0.67
    labels = random.choice(33, counts.sum(), p=shares).astype(np.int16)
    lists = pa.ListArray.from_arrays(np.append(0, np.cumsum(counts)).astype(np.int32), labels)
    if side == "ours":
        timed = Timed(rows)
        with timed.clock():
            right = RightAnswers(query_rows, product_rows, rows)
            LabelSharing(lists, 33, [OTHERS]).draw(query_rows, product_rows, right, random)
        return timed
    sets, timed = [set(found) - {OTHERS} for found in lists.to_pylist()], Timed(100)
    with timed.clock():
        straightforward.label_sharing_negatives(query_rows[:100].tolist(), product_rows[:100].tolist(), sets, seed=0)
    return timed


def similar_query(side: str) -> Timed:
    """Products of one of the 60 most similar queries, for each pair of a chunk of 150,000."""
    random, rows = np.random.default_rng(0), 150_000
    query_rows = np.unique(random.integers(0, 68_000, rows), return_inverse=True)[1]
    queries, product_rows = made_up_queries(query_rows.max() + 1, random), np.arange(rows)
    timed = Timed(rows)
    with timed.clock():
        if side == "ours":
            right = RightAnswers(query_rows, product_rows, rows)
            drawer = SimilarQueries(queries, query_rows, product_rows, similar=60)
            drawer.draw(query_rows, product_rows, right, random)
        else:
            straightforward.similar_query_negatives(queries, query_rows.tolist(), product_rows.tolist(), 60, seed=0)
    return timed


def _million_scores() -> tuple[pd.DataFrame, dict[int, list[int]]]:
    """Scores of 30 candidates of each query, and its six right ones."""
    random, queries = np.random.default_rng(0), 33_334
    scores = pd.DataFrame(
        {
            "query_id": np.repeat(np.arange(queries), 30),
            "product_id": random.permutation(queries * 30),
            "score": random.random(queries * 30, np.float32),
        }
    )
    answers = dict(enumerate(scores["product_id"].to_numpy().reshape(queries, 30)[:, :6].tolist()))
    return scores, answers


def ndcg(side: str) -> Timed:
    """A million scores to nDCG@5 of each query."""
    scores, answers = _million_scores()
    timed = Timed(len(scores))
    with timed.clock():
        ndcg_at_5(scores, answers) if side == "ours" else straightforward.ndcg_at_5(scores, answers)
    return timed


def measures(side: str) -> Timed:
    """A million scores to all six measures of each query, and 1,000 bootstrap draws of their means, but for peers."""
    scores, answers = _million_scores()
    timed, draws = Timed(len(scores)), 1000
    if side in peers.MEASURES:
        measure = getattr(peers, f"measure_{side}")
        measure(scores[:30], {0: answers[0]})  # ranx compiles its functions here
        with timed.clock():
            measure(scores, answers)
        return timed
    with timed.clock():
        if side == "ours":
            values = measure_queries(scores, answers)[list(MEASURES)].to_numpy()
            bootstrap_means(values, draws, np.random.default_rng(0))
        else:
            straightforward.measures(scores, answers, draws)
    return timed


STAGES: dict[str, Callable[[str], Timed]] = {
    "ingest": ingest,
    "albert": albert,
    "train": train,
    "label_sharing": label_sharing,
    "similar_query": similar_query,
    "ndcg": ndcg,
    "measures": measures,
}


def main() -> None:
    """Run one side of one stage and print what it took."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("stage", choices=STAGES)
    sides = ("ours", "straightforward", "two_workers", "float32", *itertools.chain(*peers.PEERS.values()))
    arguments.add_argument("side", choices=sides)
    options = arguments.parse_args()
    FOLDER.mkdir(exist_ok=True)
    use_hardware(HardwareOptions())
    timed = STAGES[options.stage](options.side)
    print(json.dumps({**asdict(timed), "peak_gb": peak_memory()}))


if __name__ == "__main__":
    main()
