"""What backs the choices of precision, of recurrent step and not to compile: both sides of each, in one process.

python -m benchmarks.choices precision --env=kddcup --rankers two_tower siamese
python -m benchmarks.choices recurrent
python -m benchmarks.choices compile --rankers two_tower siamese

CPU seconds of one thread, alternated, the best of several, so that other work on the machine does little harm.
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from benchmarks.ranker_speed import SIZES, base_rankers, made_up_chunk, training_pairs
from benchmarks.rankers import PROJECT
from benchmarks.stages import BOX_SHARES
from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.config.rankers import IN_BATCH_LOSSES, RankerOptions
from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs, RightAnswers
from multimodal_recall.models.layers.padding import Packing
from multimodal_recall.models.layers.recurrent import BiLstm
from multimodal_recall.models.ranker import build_ranker
from multimodal_recall.runtime.allocator import keep_freed_memory
from multimodal_recall.runtime.device import Hardware, choose_hardware
from multimodal_recall.training.objective import RankerObjective

PRECISIONS = ("float32", "bfloat16")
MOST_LAYERS, MOST_PAIRS = 2, 256  # of the published sizes, which otherwise take minutes a step
FIRST_BATCHES = 10
"""New batches, in which most of the compiling is done."""
IN_THIS_PROCESS = {"compile_threads": 1}  # whose seconds are counted
RECURRENT = {"boxes, published": (1000, 2086, 1024), "boxes, default": (200, 2086, 128), "words": (200, 300, 128)}


def alternate(sides: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Run all sides in turn until the time is over, twice at least; the least CPU seconds of each."""
    for run in sides.values():
        run()  # the first run allocates
    taken: dict[str, list[float]] = {name: [] for name in sides}
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(taken[next(iter(sides))]) < 2:
        for name, run in sides.items():
            start = time.process_time()
            run()
            taken[name].append(time.process_time() - start)
    return {name: min(runs) for name, runs in taken.items()}


def rankers_of(env: str) -> dict[str, RankerOptions]:
    """The rankers of an environment, with few layers and pairs, and without another's weights."""
    found = {}
    for name, options in base_rankers().items():
        path = PROJECT / "conf" / env / "rankers" / f"{name}.yml"
        changes = yaml.safe_load(path.read_text())[name] if env != "base" and path.exists() else {}
        model = {**vars(options.model), **changes.pop("model", {})}
        if "text_model" in model:
            model["text_model"] = None
        if model["kind"] in ("mcan", "visual_bert"):
            model["layers"] = min(model["layers"], MOST_LAYERS)
        found[name] = replace(options, **changes, model=model)
    return {name: replace(options, batch_size=min(options.batch_size, MOST_PAIRS)) for name, options in found.items()}


def training_step(
    options: RankerOptions, arrays: ChunkArrays, batches: Iterator[Pairs], compiled: bool = False
) -> Callable[[Hardware], None]:
    """A training step on the next batch, in the precision of a hardware."""
    objective = RankerObjective(build_ranker(options, SIZES), options).train()
    optimiser = torch.optim.AdamW(objective.parameters(), options.learning_rate, fused=True)
    losses_of = torch.compile(objective, dynamic=True, options=IN_THIS_PROCESS) if compiled else objective

    def step(hardware: Hardware) -> None:
        pairs = next(batches)
        right = RightAnswers.among(pairs, len(arrays.box_counts)) if options.loss in IN_BATCH_LOSSES else None
        optimiser.zero_grad()
        with hardware.autocast():
            losses = losses_of(arrays.batch(pairs, right))
        losses.mean().backward()
        optimiser.step()

    return step


def print_precisions(env: str, names: list[str] | None, seconds: float) -> None:
    """A line a ranker: how many times the speed of float32 bfloat16 has."""
    arrays = made_up_chunk(np.random.default_rng(0), products=3000)
    for name, options in rankers_of(env).items():
        if names and name not in names:
            continue
        same = itertools.repeat(training_pairs(arrays, options, np.random.default_rng(0)))
        step = training_step(options, replace(arrays, max_boxes=options.max_boxes), same)
        taken = alternate({kind: partial(step, Hardware("cpu", kind)) for kind in PRECISIONS}, seconds)
        print(f"{env} {name:24} bfloat16 {taken['float32'] / taken['bfloat16']:.2f} x float32", flush=True)


def print_compiled(env: str, names: list[str] | None, seconds: float) -> None:
    """A line a ranker: what compiling takes, and how many times the plain speed a compiled step then has."""
    arrays, hardware = made_up_chunk(np.random.default_rng(0), products=3000), choose_hardware(HardwareOptions())
    for name, options in rankers_of(env).items():
        if names and name not in names:
            continue
        sides, first = {}, {}
        for side in ("plain", "compiled"):
            random = np.random.default_rng(0)
            batches = (training_pairs(arrays, options, random) for _ in itertools.count())
            step = training_step(options, replace(arrays, max_boxes=options.max_boxes), batches, side == "compiled")
            start = sum(os.times()[:4])  # with the compiler's own processes
            for _ in range(FIRST_BATCHES):
                step(hardware)
            sides[side], first[side] = partial(step, hardware), sum(os.times()[:4]) - start
        taken = alternate(sides, seconds)
        print(
            f"{env} {name:24} {hardware.precision}: the first {FIRST_BATCHES} batches take {first['compiled']:.0f} s "
            f"compiled, {first['plain']:.1f} s plain; then compiled {taken['plain'] / taken['compiled']:.2f} x plain",
            flush=True,
        )


def own_step(net: BiLstm, data: Tensor, packed: Packing) -> Tensor:
    """``BiLstm`` by its own loop."""
    return net(data, packed, *net.input_layer())


def packed_lstm(net: BiLstm, data: Tensor, packed: Packing) -> Tensor:
    """``BiLstm`` by torch's loop."""
    sequences = PackedSequence(data, torch.tensor(packed.sizes))
    return torch.cat([*net.lstm(sequences)[1][0]], dim=1).index_select(0, packed.ranks)


def read_and_learn(way: Callable[..., Tensor], kind: str, *given: object) -> None:
    """Run a net forwards and backwards."""
    with Hardware("cpu", kind).autocast():
        states = way(*given)
    states.float().square().sum().backward()


def print_recurrent(seconds: float) -> None:
    """A line a size and precision: how many times the speed of torch's packed ``nn.LSTM`` our step has."""
    for name, (sequences, inputs, state) in RECURRENT.items():
        counts = torch.from_numpy(1 + np.random.default_rng(0).choice(12, sequences, p=BOX_SHARES))
        packed, net = Packing(torch.arange(12) >= counts.unsqueeze(1)), BiLstm(inputs, state)
        given = net, torch.randn(len(packed.places), inputs), packed
        for kind in PRECISIONS:
            sides = {way.__name__: partial(read_and_learn, way, kind, *given) for way in (own_step, packed_lstm)}
            taken = alternate(sides, seconds)
            print(f"{name:18} {kind:9} ours {taken['packed_lstm'] / taken['own_step']:.2f} x nn.LSTM", flush=True)


def main() -> None:
    """Print one of the comparisons."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=["precision", "recurrent", "compile"])
    arguments.add_argument("--env", default="base", choices=["base", "kddcup"])
    arguments.add_argument("--rankers", nargs="+")
    arguments.add_argument("--seconds", type=float, default=5.0)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if options.what == "recurrent":
        print_recurrent(options.seconds)
    else:
        shown = print_precisions if options.what == "precision" else print_compiled
        shown(options.env, options.rankers, options.seconds)


if __name__ == "__main__":
    main()
