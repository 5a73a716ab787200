"""Wiring of ``featurize``: language model and word vectors first, then a node for each chunk."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Layout
from multimodal_recall.pipelines.featurize import nodes
from multimodal_recall.pipelines.wiring import for_each_chunk

HARDWARE, SEED = "params:hardware", "params:seed"


def create_pipeline(layout: Layout) -> Pipeline:
    """Learn what words mean from the training queries, then turn the queries of every chunk into vectors."""
    model_inputs = ["queries", "params:language_model", HARDWARE, SEED, "params:checkpoints"]
    steps = (
        (nodes.collect_queries, [layout.sources_of("train")[0], "params:ingest"], "queries"),
        (nodes.prepare_language_model, model_inputs, "language_model"),
        (nodes.make_word_vectors, ["queries", "labels", "params:word_vectors", SEED], "word_vectors"),
        (nodes.average_label_words, ["labels", "word_vectors"], "label_vectors"),
    )
    language = [Node(step, read, made, name=step.__name__, namespace="language") for step, read, made in steps]
    chunks = [chunk for split in layout.chunks for chunk in layout.chunks_of(split)]
    shared = ["language_model", "word_vectors", "params:featurize", HARDWARE]
    return Pipeline(
        [*language, for_each_chunk(chunks, nodes.featurize_chunk, ["pairs"], shared, "query_features", "featurize")]
    )
