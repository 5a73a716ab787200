"""Wiring of ``featurize``: the language model and the word vectors once, then one node a chunk."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Chunk, Layout
from multimodal_recall.pipelines.featurize.nodes import (
    average_label_words,
    collect_queries,
    featurize_chunk,
    make_word_vectors,
    prepare_language_model,
)
from multimodal_recall.pipelines.wiring import bind, for_each_chunk


def create_pipeline(layout: Layout) -> Pipeline:
    """Learn what words mean from the training queries, then turn every chunk's queries into vectors."""
    once = Pipeline(
        [
            Node(
                collect_queries,
                inputs={"tsv": "train_tsv", "options": "params:ingest"},
                outputs="queries",
                name="collect_queries",
                namespace="language",
            ),
            Node(
                prepare_language_model,
                inputs={
                    "queries": "queries",
                    "options": "params:language_model",
                    "hardware": "params:hardware",
                    "seed": "params:seed",
                },
                outputs="language_model",
                name="prepare_language_model",
                namespace="language",
            ),
            Node(
                make_word_vectors,
                inputs={
                    "queries": "queries",
                    "labels": "labels",
                    "options": "params:word_vectors",
                    "seed": "params:seed",
                },
                outputs="word_vectors",
                name="make_word_vectors",
                namespace="language",
            ),
            Node(
                average_label_words,
                inputs={"labels": "labels", "word_vectors": "word_vectors"},
                outputs="label_vectors",
                name="average_label_words",
                namespace="language",
            ),
        ]
    )
    chunks = [chunk for split in layout.chunks for chunk in layout.chunks_of(split)]
    shared = ["language_model", "word_vectors", "params:featurize", "params:hardware"]
    return once + for_each_chunk(chunks, _template, shared)


def _template(chunk: Chunk) -> list[Node]:
    return [
        Node(
            bind(featurize_chunk, chunk=chunk),
            inputs={
                "pairs": "pairs",
                "language_model": "language_model",
                "word_vectors": "word_vectors",
                "options": "params:featurize",
                "hardware": "params:hardware",
            },
            outputs="query_features",
            name="featurize",
        )
    ]
