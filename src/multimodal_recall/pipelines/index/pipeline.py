"""Wiring of ``index``: for each ranker a node a chunk of the catalogue, then the list of all its chunks."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Chunk, Layout
from multimodal_recall.pipelines.index.nodes import index_chunk, list_index, part_index
from multimodal_recall.pipelines.wiring import bind

HARDWARE = "params:hardware"


def create_pipeline(layout: Layout) -> Pipeline:
    """Encode all products with each ranker that encodes products apart from queries."""
    chunks = layout.catalogue_chunks
    encoded = [_index_chunk(ranker, chunk) for ranker in layout.indexed for chunk in chunks]
    lists = [_list_index(ranker, chunks) for ranker in layout.indexed]
    return Pipeline([*encoded, *lists, *map(_part_index, layout.approximate)], tags="index")


def _index_chunk(ranker: str, chunk: Chunk) -> Pipeline:
    encode = bind(index_chunk, ranker=ranker, chunk=chunk)
    return Pipeline(
        [Node(encode, ["model", "products", HARDWARE], "encoded", name="index")],
        namespace=f"{ranker}.{chunk.namespace}",
        inputs={"model": f"{ranker}.model", "products": f"{chunk.namespace}.products"},
        parameters={HARDWARE},
    )


def _part_index(ranker: str) -> Node:
    inputs = [f"{ranker}.model", f"{ranker}.index", "valid_examples", "params:index", HARDWARE]
    return Node(part_index, inputs, f"{ranker}.cells", name="part_index", namespace=ranker)


def _list_index(ranker: str, chunks: list[Chunk]) -> Node:
    names = tuple(chunk.namespace for chunk in chunks)
    encoded = [f"{ranker}.{name}.encoded" for name in names]
    return Node(bind(list_index, names=names), encoded, f"{ranker}.index", name="list_index", namespace=ranker)
