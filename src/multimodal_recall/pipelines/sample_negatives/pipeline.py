"""Wiring of ``sample_negatives``: a draw for each training chunk, and a list of chunk versions for each split."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Layout
from multimodal_recall.pipelines.sample_negatives.nodes import list_examples, sample_chunk
from multimodal_recall.pipelines.wiring import bind, for_each_chunk

TRAINING_KINDS = ("products", "query_features", "samples")
CANDIDATE_KINDS = ("products", "query_features", "pairs")


def create_pipeline(layout: Layout) -> Pipeline:
    """Draw wrong products for the training chunks, and list the examples of every split."""
    own, shared = ["products", "pairs", "query_features"], ["labels", "params:sample_negatives", "params:seed"]
    draws = for_each_chunk(layout.chunks_of("train"), sample_chunk, own, shared, "samples", "sample_negatives")
    return Pipeline([draws, *(_list_split(split, layout) for split in layout.chunks)])


def _list_split(split: str, layout: Layout) -> Node:
    chunks, kinds = tuple(layout.chunks_of(split)), TRAINING_KINDS if split == "train" else CANDIDATE_KINDS
    tables = [f"{chunk.namespace}.{kind}" for chunk in chunks for kind in kinds]
    function = bind(list_examples, chunks=chunks, kinds=kinds)
    return Node(function, [f"{split}.rejected", *tables], f"{split}_examples", name="list_examples", namespace=split)
