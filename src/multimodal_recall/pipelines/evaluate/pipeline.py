"""Wiring of ``evaluate``: scores, metrics and submission of each ranker, and their comparison."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.layout import Layout
from multimodal_recall.pipelines.evaluate.nodes import (
    compare_rankings_of,
    make_submission,
    measure_references_of,
    measure_scores,
    score_candidates,
    summarise_metrics,
)

OPTIONS = {"options": "params:evaluate", "seed": "params:seed"}


def create_pipeline(layout: Layout) -> Pipeline:
    """Rank the candidates of every split but train; measure and compare where there are answers."""
    rankers = Pipeline([_evaluate_one(ranker, layout) for ranker in layout.rankers])
    return rankers + _compare(layout)


def _evaluate_one(ranker: str, layout: Layout) -> Pipeline:
    splits, answered = layout.candidate_splits, layout.answered
    nodes = [node for split in splits for node in _rank_split(split)]
    nodes += [node for split in answered for node in _measure_split(split)]
    inputs = {f"{split}_examples" for split in splits} | {f"{split}_answers" for split in answered}
    return Pipeline(nodes, namespace=ranker, inputs=inputs, parameters=set(OPTIONS.values()))


def _rank_split(split: str) -> list[Node]:
    score = Node(
        score_candidates,
        inputs={"model": "model", "examples": f"{split}_examples"},
        outputs=f"{split}_scores",
        name=f"score_{split}",
    )
    if split == "valid":  # its answers are known: there is nothing to submit
        return [score]
    submission = f"{split}_submission"
    return [score, Node(make_submission, inputs=f"{split}_scores", outputs=submission, name=f"make_{submission}")]


def _measure_split(split: str) -> list[Node]:
    return [
        Node(
            measure_scores,
            inputs={"scores": f"{split}_scores", "examples": f"{split}_examples", "answers": f"{split}_answers"},
            outputs=f"{split}_query_metrics",
            name=f"measure_{split}",
        ),
        Node(
            summarise_metrics,
            inputs={"query_metrics": f"{split}_query_metrics", **OPTIONS},
            outputs=f"{split}_metrics",
            name=f"summarise_{split}",
        ),
    ]


def _compare(layout: Layout) -> Pipeline:
    """The table of all rankings; the shop's own references are in it where a shop is made."""
    rankings = [(split, ranker) for split in layout.answered for ranker in layout.rankers]
    metrics = [f"{ranker}.{split}_metrics" for split, ranker in rankings]
    compare, nodes = compare_rankings_of(rankings), []
    if layout.makes_shop:
        metrics.append("reference_metrics")
        nodes.append(_measure_references(layout.answered))
    return Pipeline([*nodes, Node(compare, inputs=metrics, outputs="comparison", name="compare_rankings")])


def _measure_references(splits: tuple[str, ...]) -> Node:
    """A node of the shop's namespace: no ranker is part of it."""
    kinds = ("reference_scores", "answers")
    return Node(
        measure_references_of(splits),
        inputs=[*OPTIONS.values(), *(f"{split}_{kind}" for split in splits for kind in kinds)],
        outputs="reference_metrics",
        name="measure_references",
        namespace="shop",
    )
