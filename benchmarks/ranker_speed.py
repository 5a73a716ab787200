"""Training and scoring speed of each ranker of ``conf/base``, beside the same ranker run once a pair.

A batch of ours holds each query and product once, however many pairs they stand in; the straightforward way hands a
pair its own copy of both. Same weights, same padding, same loss of pairs (to an in-batch loss, a copy is one more
product): what differs is how often the towers run.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
import yaml

from benchmarks.rankers import PROJECT
from benchmarks.stages import made_up_arrays
from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.config.rankers import IN_BATCH_LOSSES, SUMMED, RankerOptions
from multimodal_recall.data.batch import Batch, ChunkArrays
from multimodal_recall.data.pairs import Pairs, RightAnswers
from multimodal_recall.models.ranker import SCORED_PAIRS, InputSizes, build_ranker
from multimodal_recall.runtime.allocator import keep_freed_memory
from multimodal_recall.runtime.device import choose_hardware
from multimodal_recall.training.objective import RankerObjective

SIZES = InputSizes(768, 2048, 5000, 300, 33, tokens=8000)
CANDIDATES, A_QUERY = 10_000, 30
QUERY_FIELDS = ("query_vectors", "word_ids", "word_mask", "token_ids", "token_mask")
PRODUCT_FIELDS = ("box_features", "box_positions", "box_labels", "box_mask")


class Speed(NamedTuple):
    """Of one side."""

    pairs_per_second: float
    """Of training."""
    score_seconds: float
    """For ``CANDIDATES`` candidates."""


def base_rankers() -> dict[str, RankerOptions]:
    """The rankers of ``conf/base`` that are trained in epochs."""
    files = sorted((PROJECT / "conf/base/rankers").glob("*.yml"))
    rankers = {path.stem: RankerOptions(**yaml.safe_load(path.read_text())[path.stem]) for path in files}
    return {name: options for name, options in rankers.items() if options.model.kind not in SUMMED}


def made_up_chunk(random: np.random.Generator, products: int = 6000) -> ChunkArrays:
    """Made-up arrays with tokens, two more a query than words; 10,000 candidates are of 4,900 of the products."""
    arrays = made_up_arrays(products, products // 2, random)
    counts = arrays.word_counts + 2
    return replace(arrays, token_ids=random.integers(5, SIZES.tokens, counts.sum()), token_counts=counts)


def once_a_pair(batch: Batch) -> Batch:
    """The batch with a copy of its query and of its product for each pair."""
    queries, products = batch.pair_queries, batch.pair_products
    own = {name: getattr(batch, name) for name in QUERY_FIELDS if getattr(batch, name) is not None}
    own = {name: tensor[queries] for name, tensor in own.items()}
    own |= {name: getattr(batch, name)[products] for name in PRODUCT_FIELDS}
    right = None if batch.right is None else batch.right[queries][:, products]
    each = torch.arange(len(queries))
    return replace(batch, **own, right=right, pair_queries=each, pair_products=each)


def training_pairs(arrays: ChunkArrays, options: RankerOptions, random: np.random.Generator) -> Pairs:
    """Make up a batch of right pairs, each followed by its wrong pairs."""
    group = 1 + options.negatives_per_positive
    queries = random.integers(0, len(arrays.word_counts), max(1, options.batch_size // group))
    return Pairs.grouped(queries, random.integers(0, len(arrays.box_counts), (len(queries), group)))


def speed(options: RankerOptions, arrays: ChunkArrays, repeats: int, steps: int = 5) -> dict[str, Speed]:
    """Medians of alternated runs of both sides, ``steps`` steps and one scoring each, in this process."""
    random, prepare = np.random.default_rng(0), {"ours": lambda batch: batch, "straightforward": once_a_pair}
    arrays = replace(arrays, max_boxes=options.max_boxes)
    batches = [training_pairs(arrays, options, random) for _ in range(steps)]
    queries = np.repeat(random.integers(0, len(arrays.word_counts), -(-CANDIDATES // A_QUERY)), A_QUERY)
    products = random.integers(0, len(arrays.box_counts), CANDIDATES)
    candidates = Pairs(queries[:CANDIDATES], products, np.zeros(CANDIDATES, np.int8))
    keep_freed_memory()  # as the training does
    hardware = choose_hardware(HardwareOptions())
    hardware.set_threads()
    torch.manual_seed(0)
    objective = RankerObjective(build_ranker(options, SIZES), options)
    optimiser = torch.optim.AdamW(objective.parameters(), options.learning_rate, fused=True)

    def step(pairs: Pairs, side: str) -> None:
        in_batch = options.loss in IN_BATCH_LOSSES
        right = RightAnswers.among(pairs, len(arrays.box_counts)) if in_batch else None
        optimiser.zero_grad()
        with hardware.autocast():
            losses = objective(prepare[side](arrays.batch(pairs, right)))
        losses.mean().backward()
        optimiser.step()

    @torch.inference_mode()
    def score_once_a_pair() -> None:
        for rows in np.split(np.arange(CANDIDATES), range(SCORED_PAIRS, CANDIDATES, SCORED_PAIRS)):
            objective.model(once_a_pair(arrays.batch(candidates.take(rows))))

    score = {"ours": lambda: objective.model.score(arrays, candidates), "straightforward": score_once_a_pair}
    found: dict[str, list[Speed]] = {side: [] for side in prepare}
    for side in prepare:
        step(batches[0], side)  # the first step allocates
    for _ in range(repeats):
        for side, runs in found.items():
            objective.train()
            trained = _seconds(lambda side=side: [step(pairs, side) for pairs in batches])
            objective.eval()
            pairs = sum(len(pairs.relevance) for pairs in batches)
            runs.append(Speed(pairs / trained, _seconds(score[side])))
    return {side: Speed(*map(median, zip(*runs, strict=True))) for side, runs in found.items()}


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
