"""Wiring of ``recall``: each ranker searches its index for the queries of each split, then all are measured."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Layout
from multimodal_recall.pipelines.recall.nodes import compare_recall, measure_recall, rescore, retrieve
from multimodal_recall.pipelines.wiring import bind

OPTIONS, HARDWARE, SEED = "params:evaluate", "params:hardware", "params:seed"


def create_pipeline(layout: Layout) -> Pipeline:
    """Search the catalogue for the queries of every split with answers, and compare what the rankers find."""
    if not layout.indexed:
        return Pipeline([])
    nodes = [_retrieve(layout, ranker, split) for ranker in layout.indexed for split in layout.answered]
    if layout.two_stages:
        nodes += [_rescore(layout, split) for split in layout.answered]
    index = f"{layout.indexed[0]}.index"  # of any ranker: the products are the same
    nodes += [_measure(layout, split, index) for split in layout.answered]
    metrics = [f"evaluation.{split}_recall_metrics" for split in layout.answered]
    compare = bind(compare_recall, splits=layout.answered)
    nodes.append(
        Node(compare, [OPTIONS, SEED, index, *metrics], "recall", name="compare_recall", namespace="evaluation")
    )
    return Pipeline(nodes, tags="recall")


def _retrieve(layout: Layout, ranker: str, split: str) -> Node:
    queries = [f"{split}_examples", layout.answers_of(split)]
    inputs = [f"{ranker}.model", f"{ranker}.index", *queries, OPTIONS, HARDWARE]
    return Node(retrieve, inputs, f"{ranker}.{split}_retrieved", name=f"retrieve_{split}", namespace=ranker)


def _rescore(layout: Layout, split: str) -> Node:
    first, second = layout.two_stages
    queries = [f"{split}_examples", layout.answers_of(split)]
    inputs = [f"{second}.model", f"{first}.{split}_retrieved", *queries]
    products = [f"{chunk.namespace}.products" for chunk in layout.catalogue_chunks]
    made = f"{second}.{split}_rescored"
    return Node(rescore, [*inputs, OPTIONS, HARDWARE, *products], made, name=f"rescore_{split}", namespace=second)


def found_by(layout: Layout, split: str) -> dict[str, str]:
    """Name the dataset of each ranking of the whole catalogue."""
    found = {ranker: f"{ranker}.{split}_retrieved" for ranker in layout.indexed}
    if layout.two_stages:
        first, second = layout.two_stages
        found[f"{first}, then {second}"] = f"{second}.{split}_rescored"
    return found


def _measure(layout: Layout, split: str, index: str) -> Node:
    found = found_by(layout, split)
    judged = f"{split}.judged" if split in layout.judged else f"{split}_examples"
    inputs = [OPTIONS, SEED, index, judged, layout.answers_of(split), *found.values()]
    measure, made = bind(measure_recall, rankings=tuple(found)), f"evaluation.{split}_recall_metrics"
    return Node(measure, inputs, made, name=f"measure_{split}_recall", namespace="evaluation")
