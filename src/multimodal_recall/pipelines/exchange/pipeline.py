"""Wiring of ``qrels``, which reads judgements, and of ``exchange`` and ``exchange_recall``, which write files."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Layout
from multimodal_recall.pipelines.exchange.nodes import (
    copy_qrels,
    copy_qrels_by_sku,
    take_judgements,
    write_beir,
    write_qrels,
    write_qrels_by_sku,
    write_recall_runs,
    write_recall_runs_by_sku,
    write_runs,
    write_runs_by_sku,
)
from multimodal_recall.pipelines.recall.pipeline import found_by
from multimodal_recall.pipelines.wiring import bind


def read_qrels(layout: Layout) -> Pipeline:
    """Take the judgements about each split that has qrels."""
    return Pipeline([_take(layout, split) for split in layout.judged])


def create_pipeline(layout: Layout) -> Pipeline:
    """Write the rankings of evaluate and the judgements of each split with answers, and the collection."""
    nodes = [node for split in layout.answered for node in (_runs(layout, split), _qrels(layout, split))]
    return Pipeline([*nodes, *([_beir(layout)] if layout.rankers else [])], tags="exchange")


def create_recall_pipeline(layout: Layout) -> Pipeline:
    """Write the rankings of the whole catalogue."""
    splits = layout.answered if layout.indexed else ()
    return Pipeline([_recall_runs(layout, split) for split in splits], tags="exchange")


def _take(layout: Layout, split: str) -> Node:
    chunks = [f"{chunk.namespace}.pairs" for chunk in layout.chunks_of(split)]
    inputs = [f"{split}_qrels", *(chunks if layout.rankers else layout.given_of(split))]
    take = bind(take_judgements, split=split)
    return Node(take, inputs, [f"{split}.judged", f"{split}.answers"], name="take_judgements", namespace=split)


def _runs(layout: Layout, split: str) -> Node:
    inputs = {"model_scores": f"evaluation.{split}_model_scores", "blends": f"evaluation.{split}_rankings"}
    if split == "valid":
        inputs["fitted"] = "evaluation.fitted_rankings"
    if layout.ranks_titles:
        inputs["title_scores"] = f"evaluation.{split}_title_scores"
    if layout.ranks_zero_shot:
        inputs["zero_shot_scores"] = f"evaluation.{split}_zero_shot_scores"
    write, named = (write_runs_by_sku, {"products": "shop.products"}) if layout.import_chunks else (write_runs, {})
    return Node(write, named | inputs, f"exchange.{split}_runs", name=f"write_{split}_runs", namespace="exchange")


def _qrels(layout: Layout, split: str) -> Node:
    name, made = {"name": f"write_{split}_qrels", "namespace": "exchange"}, f"exchange.{split}_qrels"
    named = ["shop.products"] if layout.import_chunks else []
    if split in layout.judged:
        return Node(copy_qrels_by_sku if named else copy_qrels, [*named, f"{split}.judged"], made, **name)
    inputs = [*named, f"evaluation.{split}_model_scores", layout.answers_of(split)]
    return Node(write_qrels_by_sku if named else write_qrels, inputs, made, **name)


def _beir(layout: Layout) -> Node:
    of_splits = [name for split in layout.answered for name in (f"{split}_examples", layout.answers_of(split))]
    products = [f"{chunk.namespace}.products" for chunk in layout.catalogue_chunks]
    write = bind(write_beir, splits=layout.answered)
    return Node(write, ["labels", *of_splits, *products], "exchange.beir", name="write_beir", namespace="exchange")


def _recall_runs(layout: Layout, split: str) -> Node:
    found = found_by(layout, split)
    write, named = (write_recall_runs_by_sku, ["shop.products"]) if layout.import_chunks else (write_recall_runs, [])
    inputs, made = [*named, *found.values()], f"exchange.{split}_recall_runs"
    return Node(
        bind(write, rankings=tuple(found)), inputs, made, name=f"write_{split}_recall_runs", namespace="exchange"
    )
