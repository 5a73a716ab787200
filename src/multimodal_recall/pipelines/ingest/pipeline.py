"""Wiring of ``ingest``: one node a chunk, one list of rejected rows a split."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Chunk, Layout
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk, merge_rejected
from multimodal_recall.pipelines.wiring import bind, for_each_chunk


def create_pipeline(layout: Layout) -> Pipeline:
    """Decode every chunk of every split."""
    return Pipeline([_ingest_split(split, layout.chunks_of(split)) for split in layout.chunks])


def _ingest_split(split: str, chunks: list[Chunk]) -> Pipeline:
    tsv = f"{split}_tsv"

    def template(chunk: Chunk) -> list[Node]:
        return [
            Node(
                bind(ingest_chunk, chunk=chunk),
                inputs={"tsv": tsv, "labels": "labels", "options": "params:ingest"},
                outputs={"products": "products", "pairs": "pairs", "rejected": "rejected"},
                name="ingest",
            )
        ]

    merge = Node(
        merge_rejected,
        inputs=[f"{chunk.namespace}.{kind}" for chunk in chunks for kind in ("rejected", "pairs")],
        outputs=f"{split}.rejected",
        name="merge_rejected",
        namespace=split,
    )
    return for_each_chunk(chunks, template, shared=[tsv, "labels", "params:ingest"]) + Pipeline([merge])
