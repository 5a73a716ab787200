"""Wiring of ``evaluate``: scores and submission of each ranker; then all rankings measured and compared."""

from collections.abc import Iterator

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Layout
from multimodal_recall.pipelines.evaluate.compare_nodes import (
    blend_rankings,
    break_down_queries,
    calibrate,
    compare_rankings,
    count_lists,
    describe_queries,
    fit_rankings,
    gather_scores,
    measure_rankings,
)
from multimodal_recall.pipelines.evaluate.nodes import (
    encode_candidates,
    judge_negatives,
    make_submission,
    score_candidates,
)
from multimodal_recall.pipelines.evaluate.report_nodes import make_report
from multimodal_recall.pipelines.wiring import bind

OPTIONS = {"options": "params:evaluate", "seed": "params:seed"}
RERANK, HARDWARE = "params:rerank", "params:hardware"


def create_pipeline(layout: Layout) -> Pipeline:
    """Rank the candidates of every split but train; measure and compare where there are answers."""
    return Pipeline([*(_rank(ranker, layout) for ranker in layout.rankers), _compare(layout)])


def _rank(ranker: str, layout: Layout) -> Pipeline:
    nodes = [node for split in layout.candidate_splits for node in _rank_split(split, layout)]
    judged = ["model", "train_examples", HARDWARE, OPTIONS["seed"]]
    nodes.append(Node(judge_negatives, judged, "negatives", name="judge_negatives"))
    inputs = {f"{split}_examples" for split in layout.chunks}
    return Pipeline(nodes, namespace=ranker, inputs=inputs, parameters={RERANK, HARDWARE, OPTIONS["seed"]})


def _rank_split(split: str, layout: Layout) -> list[Node]:
    score = Node(
        score_candidates,
        inputs={"model": "model", "examples": f"{split}_examples", "options": RERANK, "hardware": HARDWARE},
        outputs=f"{split}_scores",
        name=f"score_{split}",
    )
    if split == "valid":  # its answers are known: there is nothing to submit
        encode = Node(encode_candidates, ["model", "valid_examples", HARDWARE], "valid_vectors", name="encode_valid")
        return [score, *[encode] * layout.reclassifies]
    submission = f"{split}_submission"
    return [score, Node(make_submission, inputs=f"{split}_scores", outputs=submission, name=f"make_{submission}")]


def _compare(layout: Layout) -> Pipeline:
    """All nodes that see several rankings, under one namespace; what they read from elsewhere keeps its name."""
    nodes = [node for split in layout.answered for node in _compare_split(split, layout)]
    if not layout.given_counts:
        tables = [f"{ranker}.{split}_scores" for ranker in layout.rankers[:1] for split in layout.candidate_splits]
        tables = tables or [f"{split}_model_scores" for split in layout.answered]
        nodes.append(Node(count_lists, inputs=tables, outputs="list_counts", name="count_lists"))
    tables = [f"{split}_{kind}" for split in layout.answered for kind in ("query_metrics", "model_scores")]
    compare = bind(compare_rankings, splits=layout.answered)
    nodes.append(Node(compare, [*OPTIONS.values(), "fits", *tables], "comparison", name="compare_rankings"))
    nodes += _report(layout.answered[-1], layout)  # testA's where it has answers: valid has chosen the epoch
    made = {name for node in nodes for name in node.outputs}
    read = {name for node in nodes for name in node.inputs if not name.startswith("params:")} - made
    parameters = set(OPTIONS.values())
    return Pipeline(nodes, namespace="evaluation", inputs=read, outputs={"comparison"}, parameters=parameters)


def _report(split: str, layout: Layout) -> Iterator[Node]:
    scored = [f"{split}_model_scores", f"{split}_answers", OPTIONS["options"]]
    yield Node(calibrate, scored, f"{split}_calibration", name=f"calibrate_{split}_scores")
    kinds = ("model_scores", "query_metrics", "breakdown", "calibration", "answers")
    inputs = [OPTIONS["options"], "comparison", *(f"{split}_{kind}" for kind in kinds)]
    if layout.rankers:
        inputs += [
            f"{split}_examples",
            "labels",
            f"{split}.rejected",
            *(f"{ranker}.training_log" for ranker in layout.rankers),
        ]
    yield Node(bind(make_report, split=split, rankers=layout.rankers), inputs, "report", name="make_report")


def _compare_split(split: str, layout: Layout) -> Iterator[Node]:
    scores, metrics, answers = f"{split}_model_scores", f"{split}_query_metrics", f"{split}_answers"
    counts = "given_list_counts" if layout.given_counts else "list_counts"
    own = [f"{ranker}.{split}_scores" for ranker in layout.rankers]
    sources = [OPTIONS["options"], *own, *[f"{split}_given_scores"] * (split in layout.given_scores)]
    gather = bind(gather_scores, rankers=layout.rankers)
    yield Node(gather, sources, scores, name=f"gather_{split}_scores")
    known = {"model_scores": scores, "list_counts": counts}
    made = {"blends": f"{split}_rankings"}
    blend = bind(blend_rankings, rankers=layout.rankers)
    blended = [OPTIONS["options"], *known.values(), *own]
    yield Node(blend, blended, made["blends"], name=f"blend_{split}_rankings")
    known["answers"] = answers
    if split == "valid":  # fitting on test answers would not be a test
        made["fitted"] = "fitted_rankings"
        encoded = layout.rankers if layout.reclassifies else ()
        inputs = [*OPTIONS.values(), *known.values(), *(f"{ranker}.valid_vectors" for ranker in encoded)]
        fit = bind(fit_rankings, rankers=tuple(encoded))
        yield Node(fit, inputs, ["fitted_rankings", "fits"], name="fit_rankings")
    if layout.makes_shop:
        made["references"] = "reference_scores"
    measure = bind(measure_rankings, split=split)
    yield Node(measure, {**known, **made}, metrics, name=f"measure_{split}_rankings")
    inputs = {"query_metrics": metrics, "model_scores": scores, **OPTIONS}
    if layout.rankers:
        facts = f"{split}_query_facts"
        described = {"examples": f"{split}_examples", "answers": answers, "labels": "labels"}
        yield Node(describe_queries, described, facts, name=f"describe_{split}_queries")
        inputs = {**inputs, "query_facts": facts}
    yield Node(break_down_queries, inputs, f"{split}_breakdown", name=f"break_down_{split}_queries")
