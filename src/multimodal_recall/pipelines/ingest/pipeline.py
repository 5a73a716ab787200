"""Wiring of ``ingest``: a node for each chunk, and a table of rejected rows for each split."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Layout
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk, ingest_joined_chunk, merge_rejected
from multimodal_recall.pipelines.wiring import for_each_chunk


def create_pipeline(layout: Layout) -> Pipeline:
    """Decode every chunk of every split."""
    return Pipeline([_ingest_split(split, layout) for split in layout.ingested])


def _ingest_split(split: str, layout: Layout) -> Pipeline:
    chunks, sources = layout.chunks_of(split), layout.sources_of(split)
    tables = {name: name for name in ("products", "pairs", "rejected")}
    shared = [*sources, "labels", "params:ingest", *(["titles"] if layout.titled else [])]
    decode = ingest_chunk if len(sources) == 1 else ingest_joined_chunk
    ingest = for_each_chunk(chunks, decode, [], shared, tables, "ingest")
    counted = [f"{chunk.namespace}.{kind}" for chunk in chunks for kind in ("rejected", "pairs")]
    merge = Node(merge_rejected, counted, f"{split}.rejected", name="merge_rejected", namespace=split)
    return Pipeline([ingest, merge])
