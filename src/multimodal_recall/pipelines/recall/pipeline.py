"""Wiring of ``recall``: each ranker searches its index for the queries of each split, then all are measured."""

from collections.abc import Iterator

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Layout
from multimodal_recall.pipelines.recall.nodes import (
    blend_rescored,
    compare_recall,
    measure_recall,
    report_recall,
    rescore,
    retrieve,
)
from multimodal_recall.pipelines.recall.speed_nodes import list_search_speed, time_search
from multimodal_recall.pipelines.wiring import bind

OPTIONS, HARDWARE, SEED = "params:evaluate", "params:hardware", "params:seed"


def create_pipeline(layout: Layout) -> Pipeline:
    """Search the catalogue for the queries of every split with answers, and compare what the rankers find."""
    if not layout.indexed:
        return Pipeline([])
    nodes = [_retrieve(layout, ranker, split) for ranker in layout.indexed for split in layout.answered]
    if layout.two_stages:
        nodes += [node for split in layout.answered for node in _rescore(layout, split)]
    index = f"{layout.indexed[0]}.index"  # of any ranker: the products are the same
    nodes += [_measure(layout, split, index) for split in layout.answered]
    metrics = [f"evaluation.{split}_recall_metrics" for split in layout.answered]
    compare = bind(compare_recall, splits=layout.answered)
    nodes.append(
        Node(compare, [OPTIONS, SEED, index, *metrics], "recall", name="compare_recall", namespace="evaluation")
    )
    nodes += [_time(layout, ranker) for ranker in layout.indexed]
    timed = [f"{ranker}.search_speed" for ranker in layout.indexed]
    nodes.append(Node(list_search_speed, timed, "search_speed", name="list_search_speed", namespace="evaluation"))
    report = Node(
        report_recall,
        [OPTIONS, "recall", "search_speed"],
        "recall_report",
        name="report_recall",
        namespace="evaluation",
    )
    nodes.append(report)
    return Pipeline(nodes, tags="recall")


def _time(layout: Layout, ranker: str) -> Node:
    products = f"{layout.catalogue_chunks[0].namespace}.products"
    inputs = [f"{ranker}.model", f"{ranker}.index", products, f"{layout.answered[-1]}_examples", HARDWARE]
    inputs += [f"{ranker}.cells"] if ranker in layout.approximate else []
    return Node(time_search, inputs, f"{ranker}.search_speed", name="time_search", namespace=ranker)


def _retrieve(layout: Layout, ranker: str, split: str) -> Node:
    queries = [f"{split}_examples", layout.answers_of(split)]
    inputs = [f"{ranker}.model", f"{ranker}.index", *queries, OPTIONS, HARDWARE]
    return Node(retrieve, inputs, f"{ranker}.{split}_retrieved", name=f"retrieve_{split}", namespace=ranker)


def _rescore(layout: Layout, split: str) -> Iterator[Node]:
    first, seconds = layout.two_stages
    queries = [f"{split}_examples", layout.answers_of(split)]
    products = [f"{chunk.namespace}.products" for chunk in layout.catalogue_chunks]
    for second in seconds:
        inputs = [f"{second}.model", f"{first}.{split}_retrieved", *queries, OPTIONS, HARDWARE, *products]
        yield Node(rescore, inputs, f"{second}.{split}_rescored", name=f"rescore_{split}", namespace=second)
    if len(seconds) > 1:
        inputs, made = [f"{second}.{split}_rescored" for second in seconds], f"evaluation.{split}_blended"
        blend = bind(blend_rescored, rankers=seconds)
        yield Node(blend, inputs, made, name=f"blend_{split}_rescored", namespace="evaluation")


def found_by(layout: Layout, split: str) -> dict[str, str]:
    """Name the dataset of each ranking of the whole catalogue."""
    found = {ranker: f"{ranker}.{split}_retrieved" for ranker in layout.indexed}
    if layout.two_stages:
        first, seconds = layout.two_stages
        last = f"{seconds[0]}.{split}_rescored" if len(seconds) == 1 else f"evaluation.{split}_blended"
        found[f"{first}, then {' + '.join(seconds)}"] = last
    return found


def _measure(layout: Layout, split: str, index: str) -> Node:
    found = found_by(layout, split)
    judged = f"{split}.judged" if split in layout.judged else f"{split}_examples"
    inputs = [OPTIONS, SEED, index, judged, layout.answers_of(split), *found.values()]
    measure, made = bind(measure_recall, rankings=tuple(found)), f"evaluation.{split}_recall_metrics"
    return Node(measure, inputs, made, name=f"measure_{split}_recall", namespace="evaluation")
