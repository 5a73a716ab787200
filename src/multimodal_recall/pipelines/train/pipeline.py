"""Wiring of ``train``: one node a ranker, under the ranker's name."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.layout import Layout
from multimodal_recall.pipelines.train.nodes import train_ranker

SHARED = ("train_examples", "valid_examples", "valid_answers", "word_vectors", "label_vectors", "language_model")


def create_pipeline(layout: Layout) -> Pipeline:
    """Train each ranker of the options on the same examples."""
    return Pipeline([_train_one(ranker) for ranker in layout.rankers])


def _train_one(ranker: str) -> Pipeline:
    node = Node(
        train_ranker,
        inputs={
            **{name: name for name in SHARED},
            "checkpoint": "checkpoint",
            "options": "params:options",
            "seed": "params:seed",
        },
        outputs={"model": "model", "training_log": "training_log"},
        name="train",
    )
    parameters = {"params:options": f"params:{ranker}", "params:seed": "params:seed"}
    return Pipeline([node], namespace=ranker, inputs=set(SHARED), parameters=parameters)
