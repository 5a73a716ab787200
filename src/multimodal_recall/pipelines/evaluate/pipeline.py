"""Wiring of ``evaluate``: scores and submissions of each ranker, then the comparison of all rankings."""

from collections.abc import Iterator

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.describing import WEAK
from multimodal_recall.config.layout import Layout
from multimodal_recall.pipelines.evaluate.compare_nodes import (
    blend_rankings,
    break_down_queries,
    calibrate,
    compare_rankings,
    count_lists,
    describe_queries,
    fit_rankings,
    gather_judged,
    gather_scores,
    measure_rankings,
    rank_titles,
)
from multimodal_recall.pipelines.evaluate.nodes import (
    encode_candidates,
    judge_negatives,
    list_best,
    make_submission,
    rank_zero_shot,
    score_candidates,
)
from multimodal_recall.pipelines.evaluate.report_nodes import make_report
from multimodal_recall.pipelines.wiring import bind

OPTIONS, RERANK, HARDWARE, SEED = "params:evaluate", "params:rerank", "params:hardware", "params:seed"


def create_pipeline(layout: Layout) -> Pipeline:
    """Rank the candidates of every split but train; measure and compare the splits with answers."""
    return Pipeline([*(_rank(ranker, layout) for ranker in layout.rankers), _compare(layout)])


def _rank(ranker: str, layout: Layout) -> Pipeline:
    nodes = [Node(judge_negatives, ["model", "train_examples", HARDWARE, SEED], "negatives", name="judge_negatives")]
    for split in layout.candidate_splits:
        examples, scores, submission = (f"{split}_{kind}" for kind in ("examples", "scores", "submission"))
        nodes.append(Node(score_candidates, ["model", examples, RERANK, HARDWARE], scores, name=f"score_{split}"))
        if layout.import_chunks:
            nodes.append(Node(list_best, [scores, examples], f"{split}_best", name=f"list_{split}_best"))
        elif split != "valid":  # valid has public answers, so that nobody submits its ranking
            nodes.append(Node(make_submission, scores, submission, name=f"make_{submission}"))
        if split == "valid" and layout.reclassifies:
            nodes.append(Node(encode_candidates, ["model", examples, HARDWARE], "valid_vectors", name="encode_valid"))
    inputs = {f"{split}_examples" for split in layout.chunks}
    return Pipeline(nodes, namespace=ranker, inputs=inputs, parameters={RERANK, HARDWARE, SEED})


def _compare(layout: Layout) -> Pipeline:
    """Wire the nodes that read several rankings, in a namespace; datasets from outside keep their names."""
    nodes = [node for split in layout.answered for node in _compare_split(split, layout)]
    if not layout.given_counts:
        tables = [f"{ranker}.{split}_scores" for ranker in layout.rankers[:1] for split in layout.candidate_splits]
        tables = tables or [f"{split}_model_scores" for split in layout.answered]
        nodes.append(Node(count_lists, tables, "list_counts", name="count_lists"))
    tables = [f"{split}_{kind}" for split in layout.answered for kind in ("query_metrics", "model_scores")]
    compare = bind(compare_rankings, splits=layout.answered)
    nodes.append(Node(compare, [OPTIONS, SEED, "fits", *tables], "comparison", name="compare_rankings"))
    kinds = ("query_metrics", "model_scores", *(["query_facts"] if layout.rankers else []))
    tables = [f"{split}_{kind}" for split in layout.answered for kind in kinds]
    break_down = bind(break_down_queries, splits=layout.answered)
    nodes.append(Node(break_down, [OPTIONS, SEED, *tables], "breakdown", name="break_down_queries"))
    nodes += _report(layout.answered[-1], layout)  # testA if it has answers: valid has chosen the epoch
    made = {name for node in nodes for name in node.outputs}
    inputs = {name for node in nodes for name in node.inputs} - made
    parameters = {name for name in inputs if name.startswith("params:")}
    read = inputs - parameters
    return Pipeline(nodes, namespace="evaluation", inputs=read, outputs={"comparison"}, parameters=parameters)


def _compare_split(split: str, layout: Layout) -> Iterator[Node]:
    scores, blends, metrics, facts = (
        f"{split}_{kind}" for kind in ("model_scores", "rankings", "query_metrics", "query_facts")
    )
    answers = layout.answers_of(split)
    counts = "given_list_counts" if layout.given_counts else "list_counts"
    own = [f"{ranker}.{split}_scores" for ranker in layout.rankers]
    given = [*own, *layout.given_of(split)]
    blend = bind(blend_rankings, rankers=layout.rankers)
    gather, judging = (gather_judged, [answers]) if split in layout.judged else (gather_scores, [])
    gather = bind(gather, rankers=layout.rankers)
    yield Node(gather, [OPTIONS, *judging, *given], scores, name=f"gather_{split}_scores")
    yield Node(blend, [OPTIONS, scores, counts, *own], blends, name=f"blend_{split}_rankings")
    measured = {"model_scores": scores, "list_counts": counts, "answers": answers, "blends": blends}
    if split == "valid":  # a fit on the answers of a test split would be no test
        encoded = layout.rankers if layout.reclassifies else ()
        vectors = [f"{ranker}.valid_vectors" for ranker in encoded]
        fit = bind(fit_rankings, rankers=encoded)
        inputs = [OPTIONS, SEED, scores, counts, answers, *vectors]
        yield Node(fit, inputs, ["fitted_rankings", "fits"], name="fit_rankings")
        measured["fitted"] = "fitted_rankings"
    if layout.makes_shop:
        measured["references"] = "reference_scores"
    if layout.ranks_titles:
        yield Node(rank_titles, f"{split}_examples", f"{split}_title_scores", name=f"rank_{split}_titles")
        measured["title_scores"] = f"{split}_title_scores"
    if layout.ranks_zero_shot:
        zero_shot, inputs = f"{split}_zero_shot_scores", [f"{split}_examples", "params:describe", HARDWARE]
        yield Node(rank_zero_shot, inputs, zero_shot, name=f"rank_{split}_zero_shot")
        measured["zero_shot_scores"] = zero_shot
    yield Node(bind(measure_rankings, split=split), measured, metrics, name=f"measure_{split}_rankings")
    if layout.rankers:
        yield Node(describe_queries, [f"{split}_examples", answers, "labels"], facts, name=f"describe_{split}_queries")


def _report(split: str, layout: Layout) -> Iterator[Node]:
    scores, calibration, answers = f"{split}_model_scores", f"{split}_calibration", layout.answers_of(split)
    yield Node(calibrate, [scores, answers, OPTIONS], calibration, name=f"calibrate_{split}_scores")
    inputs = [OPTIONS, "comparison", scores, f"{split}_query_metrics", "breakdown", calibration, answers]
    if layout.rankers:
        logs = [f"{ranker}.training_log" for ranker in layout.rankers]
        inputs += [f"{split}_examples", "labels", f"{split}.rejected", *logs]
    inputs += ["photos"] if layout.makes_shop and layout.rankers else []
    weak = {"features": WEAK} if layout.import_chunks and not layout.embeds else {}
    yield Node(bind(make_report, split=split, rankers=layout.rankers, **weak), inputs, "report", name="make_report")
