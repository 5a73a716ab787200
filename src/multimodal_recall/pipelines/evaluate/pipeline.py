"""Wiring of ``evaluate``: scores, metrics and submission of each ranker, and a comparison a split."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.layout import Layout
from multimodal_recall.pipelines.evaluate.nodes import (
    compare_rankings_of,
    make_submission,
    measure_references,
    measure_scores,
    score_candidates,
)

OPTIONS = {"options": "params:evaluate", "seed": "params:seed"}


def create_pipeline(layout: Layout) -> Pipeline:
    """Rank the candidates of every split but train; measure where there are answers."""
    rankers = sum((_evaluate_one(ranker, layout) for ranker in layout.rankers), Pipeline([]))
    return rankers + sum((_compare(split, layout) for split in layout.answered), Pipeline([]))


def _evaluate_one(ranker: str, layout: Layout) -> Pipeline:
    splits, answered = layout.candidate_splits, layout.answered
    nodes = [node for split in splits for node in _rank_split(split)]
    nodes += [_measure_split(split) for split in answered]
    inputs = {f"{split}_examples" for split in splits} | {f"{split}_answers" for split in answered}
    return Pipeline(nodes, namespace=ranker, inputs=inputs, parameters=set(OPTIONS.values()))


def _rank_split(split: str) -> list[Node]:
    return [
        Node(
            score_candidates,
            inputs={"model": "model", "examples": f"{split}_examples"},
            outputs=f"{split}_scores",
            name=f"score_{split}",
        ),
        Node(
            make_submission,
            inputs=f"{split}_scores",
            outputs=f"{split}_submission",
            name=f"make_{split}_submission",
        ),
    ]


def _measure_split(split: str) -> Node:
    return Node(
        measure_scores,
        inputs={
            "scores": f"{split}_scores",
            "examples": f"{split}_examples",
            "answers": f"{split}_answers",
            **OPTIONS,
        },
        outputs={"metrics": f"{split}_metrics", "query_metrics": f"{split}_query_metrics"},
        name=f"measure_{split}",
    )


def _compare(split: str, layout: Layout) -> Pipeline:
    """The table of all rankings of a split; the shop's references are in it where a shop is made."""
    inputs = {ranker: f"{ranker}.{split}_metrics" for ranker in layout.rankers}
    nodes = []
    if layout.makes_shop:
        inputs["references"] = f"{split}_reference_metrics"
        nodes.append(
            Node(
                measure_references,
                inputs={"scores": f"{split}_reference_scores", "answers": f"{split}_answers", **OPTIONS},
                outputs=inputs["references"],
                name=f"measure_{split}_references",
            )
        )
    compare = compare_rankings_of(split)
    nodes.append(Node(compare, inputs=inputs, outputs=f"{split}_comparison", name=f"compare_{split}"))
    return Pipeline(nodes)
