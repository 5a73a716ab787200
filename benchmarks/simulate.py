"""How long the official data take with more workers: a simulation from measured speeds and the graph of conf/kddcup.

python -m benchmarks.simulate --workers 1 8 32 128 --rankers 1 --epochs 10

A worker runs a node at a time, at the speeds given (rows, distinct queries and pairs a second; by default those of
docs/speed.md). Free workers take the node with the longest way to the end. Nodes that no speed is given for take a
second. Starting workers, the scheduler and the network cost nothing here, so the figures are lower bounds.
"""

import argparse
import heapq
from collections.abc import Mapping

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Layout
from multimodal_recall.pipelines.evaluate.pipeline import create_pipeline as evaluate
from multimodal_recall.pipelines.featurize.pipeline import create_pipeline as featurize
from multimodal_recall.pipelines.ingest.pipeline import create_pipeline as ingest
from multimodal_recall.pipelines.sample_negatives.pipeline import create_pipeline as sample_negatives
from multimodal_recall.pipelines.train.pipeline import create_pipeline as train

ROWS, ROWS_PER_QUERY, PAIRS_A_ROW = 3_000_000, 2.2, 2
OTHER_SECONDS = 1.0


def official_pipeline(chunks: int, rankers: int) -> Pipeline:
    """All nodes of the official data, with some rankers of equal speed."""
    names = tuple(f"ranker_{number}" for number in range(rankers))
    splits = {"train": chunks, "valid": 1, "testA": 1, "testB": 1}
    layout = Layout(splits, ("valid", "testA"), False, names, trained=dict.fromkeys(names))
    return Pipeline([stage(layout) for stage in (ingest, featurize, sample_negatives, train, evaluate)])


def seconds_of(node: Node, chunks: int, speeds: Mapping[str, float], epochs: int) -> float:
    """Seconds of a node, by its kind."""
    split, kind = node.name.partition(".")[0], node.name.rpartition(".")[2]
    rows = ROWS / chunks
    if kind == "train":
        return ROWS * PAIRS_A_ROW * epochs / speeds["train"]
    if split != "train":
        return OTHER_SECONDS
    work = {"ingest": rows, "featurize": rows / ROWS_PER_QUERY, "sample_negatives": rows * epochs}
    return work[kind] / speeds[kind] if kind in work else OTHER_SECONDS


def ways_to_the_end(pipeline: Pipeline, seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of the longest chain of nodes that begins with each node, itself included."""
    ways: dict[str, float] = {}
    readers: dict[str, list[str]] = {}
    for node in reversed(pipeline.nodes):
        following = [ways[reader] for output in node.outputs for reader in readers.get(output, ())]
        ways[node.name] = seconds[node.name] + max(following, default=0.0)
        for name in node.inputs:
            readers.setdefault(name, []).append(node.name)
    return ways


def simulate(pipeline: Pipeline, seconds: Mapping[str, float], workers: int) -> float:
    """Seconds until the last node ends."""
    ways, clock = ways_to_the_end(pipeline, seconds), 0.0
    waiting = {node.name: len(before) for node, before in pipeline.node_dependencies.items()}
    following: dict[str, list[str]] = {}
    for node, before in pipeline.node_dependencies.items():
        for other in before:
            following.setdefault(other.name, []).append(node.name)
    ready = [(-ways[name], name) for name, count in waiting.items() if not count]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    while ready or running:
        while ready and len(running) < workers:
            name = heapq.heappop(ready)[1]
            heapq.heappush(running, (clock + seconds[name], name))
        clock, ended = heapq.heappop(running)
        for name in following.get(ended, ()):
            waiting[name] -= 1
            if not waiting[name]:
                heapq.heappush(ready, (-ways[name], name))
    return clock


def main(words: list[str] | None = None) -> None:
    """Print a line for each number of workers, then the critical path."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--workers", nargs="+", type=int, default=[1, 8, 32, 128])
    arguments.add_argument("--chunks", type=int, default=30)
    arguments.add_argument("--rankers", type=int, default=1)
    arguments.add_argument("--epochs", type=int, default=10)
    speeds = {"ingest": 12_800, "featurize": 105, "sample_negatives": 380_000, "train": 735}
    for kind, speed in speeds.items():
        arguments.add_argument(f"--{kind.replace('_', '-')}", dest=kind, type=float, default=speed, help="a second")
    options = arguments.parse_args(words)
    pipeline = official_pipeline(options.chunks, options.rankers)
    speeds = {kind: getattr(options, kind) for kind in speeds}
    seconds = {node.name: seconds_of(node, options.chunks, speeds, options.epochs) for node in pipeline.nodes}
    for workers in options.workers:
        print(f"{workers:>4} workers {simulate(pipeline, seconds, workers) / 3600:>8.1f} hours")
    print(f"longest chain {max(ways_to_the_end(pipeline, seconds).values()) / 3600:>6.1f} hours")
    prepared = {kind: sum(s for name, s in seconds.items() if name.endswith(f".{kind}")) for kind in speeds}
    print("work in hours: " + ", ".join(f"{kind} {total / 3600:.1f}" for kind, total in prepared.items()))


if __name__ == "__main__":
    main()
