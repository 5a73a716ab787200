"""Everything that needs a GPU, in one script for a machine that is lent for minutes.

python -m benchmarks.gpu                        # tests, limits, rankers at published size, ALBERT, profile, compiling
python -m benchmarks.gpu --tiny --device=cpu    # the same steps at the sizes of a test

It prints as it goes: what a time limit cuts off is the last part, the compiled rankers.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.made_up import FOLDER, made_up_queries
from benchmarks.ranker_speed import SIZES, base_rankers, made_up_chunk, training_pairs
from benchmarks.rankers import PROJECT
from benchmarks.stages import albert_folder
from multimodal_recall.config.loader import RememberingConfigLoader
from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.config.rankers import IN_BATCH_LOSSES, RankerOptions
from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import RightAnswers
from multimodal_recall.models.language_model import QueryVectors
from multimodal_recall.models.ranker import build_ranker
from multimodal_recall.runtime.device import Hardware, choose_hardware
from multimodal_recall.settings import CONFIG_LOADER_ARGS
from multimodal_recall.training.objective import RankerObjective

TINY_BATCH, TINY_PRODUCTS, PROFILED_ROWS = 8, 60, 12


def published_rankers() -> dict[str, RankerOptions]:
    """The rankers of ``conf/kddcup`` that are trained in epochs, in their published sizes."""
    parameters = RememberingConfigLoader(str(PROJECT / "conf"), "kddcup", **CONFIG_LOADER_ARGS)["parameters"]
    return {name: RankerOptions(**parameters[name]) for name in base_rankers()}


def train_step(
    options: RankerOptions, arrays: ChunkArrays, hardware: Hardware, compiled: bool = False
) -> Callable[[], int]:
    """Give a function that trains one batch, gathered and copied, and returns its pairs."""
    arrays = replace(arrays, max_boxes=options.max_boxes)
    pairs = training_pairs(arrays, options, np.random.default_rng(0))
    right = RightAnswers.among(pairs, len(arrays.box_counts)) if options.loss in IN_BATCH_LOSSES else None
    torch.manual_seed(0)
    objective = RankerObjective(build_ranker(options, SIZES), options).to(hardware.device).train()
    optimiser = torch.optim.AdamW(objective.parameters(), options.learning_rate, fused=True)
    losses_of = torch.compile(objective, dynamic=True) if compiled else objective

    def step() -> int:
        batch = arrays.batch(pairs, right).to(torch.device(hardware.device))
        optimiser.zero_grad()
        with hardware.autocast():
            losses = losses_of(batch)
        losses.mean().backward()
        optimiser.step()
        return len(pairs.relevance)

    return step


def seconds(function: Callable[[], object], hardware: Hardware, repeats: int) -> float:
    """Best seconds of a call, once the device has ended all that it was given."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        if hardware.device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found)


def peak(hardware: Hardware, size: int) -> float:
    """TFLOP/s of a square matrix product in the precision of the hardware."""
    matrix = torch.randn(size, size, device=hardware.device)
    with hardware.autocast():
        return 2 * size**3 / 1e12 / seconds(lambda: matrix @ matrix, hardware, 5)


def print_ranker(name: str, step: Callable[[], int], hardware: Hardware, repeats: int, limit: float) -> None:
    """A line of the table: pairs a second, share of the peak, memory of the device."""
    if hardware.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with FlopCounterMode(display=False) as counter:  # the first step also allocates; a cuDNN LSTM is not counted
        pairs = step()
    best = seconds(step, hardware, repeats)
    memory = torch.cuda.max_memory_allocated() / 1e9 if hardware.device == "cuda" else 0.0
    share = counter.get_total_flops() / 1e12 / best / limit
    print(f"{name:32} {pairs / best:>10,.0f} pairs/s {share:>6.1%} of the peak {memory:>7.2f} GB", flush=True)


def print_profile(step: Callable[[], int], hardware: Hardware) -> None:
    """Where the time of a step goes."""
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if hardware.device == "cuda" else [])]
    with profile(activities=kinds) as found:
        step()
    order = f"self_{hardware.device}_time_total"
    print(found.key_averages().table(sort_by=order, row_limit=PROFILED_ROWS, max_name_column_width=40), flush=True)


def print_albert(hardware: Hardware, queries: int) -> None:
    """Queries a second of ALBERT-base."""
    texts = made_up_queries(20_000, np.random.default_rng(0))
    vectors = QueryVectors(albert_folder(texts), max_tokens=64, tokens_per_batch=4096, hardware=hardware)
    best = seconds(lambda: vectors(texts[:queries]), hardware, 2)
    print(f"ALBERT-base {queries / best:,.0f} queries/s", flush=True)


def main(words: list[str] | None = None) -> None:
    """Print each part."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    arguments.add_argument("--tiny", action="store_true", help="small rankers, no tests, nothing compiled")
    options = arguments.parse_args(words)
    FOLDER.mkdir(exist_ok=True)
    hardware = choose_hardware(HardwareOptions(device=options.device, precision=options.precision))
    hardware.set_threads()
    if not options.tiny:
        subprocess.run([sys.executable, "-m", "pytest", "-n", "0", "-m", "gpu"], cwd=PROJECT, check=True)
    limit = peak(hardware, 256 if options.tiny else 8192)
    print(f"{hardware}; matrix product {limit:.2f} TFLOP/s", flush=True)
    rankers = base_rankers() if options.tiny else published_rankers()
    if options.tiny:
        rankers = {name: replace(ranker, batch_size=TINY_BATCH) for name, ranker in rankers.items()}
    arrays = made_up_chunk(np.random.default_rng(0), TINY_PRODUCTS if options.tiny else 6000)
    for name, ranker in rankers.items():
        print_ranker(name, train_step(ranker, arrays, hardware), hardware, 1 if options.tiny else 5, limit)
    print_albert(hardware, 8 if options.tiny else 20_000)
    print_profile(train_step(rankers["two_tower"], arrays, hardware), hardware)
    for name, ranker in {} if options.tiny else rankers.items():
        print_ranker(f"{name}, compiled", train_step(ranker, arrays, hardware, compiled=True), hardware, 5, limit)


if __name__ == "__main__":
    main()
