"""Wiring of ``sample_negatives``: one draw a training chunk, one list of chunk versions a split."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Chunk, Layout
from multimodal_recall.pipelines.sample_negatives.nodes import list_examples, sample_chunk
from multimodal_recall.pipelines.wiring import bind, for_each_chunk

TRAINING_KINDS = ("products", "query_features", "samples")
CANDIDATE_KINDS = ("products", "query_features", "pairs")


def create_pipeline(layout: Layout) -> Pipeline:
    """Draw wrong products for the training chunks, and list the examples of every split."""
    shared = ["labels", "params:sample_negatives", "params:seed"]
    draws = for_each_chunk(layout.chunks_of("train"), _template, shared)
    lists = [
        _list_split(layout.chunks_of(split), TRAINING_KINDS if split == "train" else CANDIDATE_KINDS)
        for split in layout.chunks
    ]
    return draws + Pipeline(lists)


def _template(chunk: Chunk) -> list[Node]:
    return [
        Node(
            bind(sample_chunk, chunk=chunk),
            inputs={
                "products": "products",
                "pairs": "pairs",
                "query_features": "query_features",
                "labels": "labels",
                "options": "params:sample_negatives",
                "seed": "params:seed",
            },
            outputs="samples",
            name="sample_negatives",
        )
    ]


def _list_split(chunks: list[Chunk], kinds: tuple[str, ...]) -> Node:
    split = chunks[0].split
    return Node(
        bind(list_examples, chunks=tuple(chunks), kinds=kinds),
        inputs=[f"{split}.rejected", *(f"{chunk.namespace}.{kind}" for chunk in chunks for kind in kinds)],
        outputs=f"{split}_examples",
        name="list_examples",
        namespace=split,
    )
