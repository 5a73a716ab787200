"""Wiring of ``ingest``: a node for each chunk, and a table of rejected rows for each split."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Chunk, Layout
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk, merge_rejected
from multimodal_recall.pipelines.wiring import for_each_chunk


def create_pipeline(layout: Layout) -> Pipeline:
    """Decode every chunk of every split."""
    return Pipeline([_ingest_split(split, layout.chunks_of(split), layout.titled) for split in layout.ingested])


def _ingest_split(split: str, chunks: list[Chunk], titled: bool) -> Pipeline:
    tables = {name: name for name in ("products", "pairs", "rejected")}
    shared = [f"{split}_tsv", "labels", "params:ingest", *(["titles"] if titled else [])]
    ingest = for_each_chunk(chunks, ingest_chunk, [], shared, tables, "ingest")
    counted = [f"{chunk.namespace}.{kind}" for chunk in chunks for kind in ("rejected", "pairs")]
    merge = Node(merge_rejected, counted, f"{split}.rejected", name="merge_rejected", namespace=split)
    return Pipeline([ingest, merge])
