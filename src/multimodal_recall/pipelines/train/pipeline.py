"""Wiring of ``train``: a node for each ranker, in the ranker's namespace."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Layout
from multimodal_recall.pipelines.train.nodes import train_ranker
from multimodal_recall.pipelines.wiring import bind

EXAMPLES = ("train_examples", "valid_examples")
FEATURES = ("word_vectors", "label_vectors", "language_model")
HARDWARE, CHECKPOINTS = "params:hardware", "params:checkpoints"


def create_pipeline(layout: Layout) -> Pipeline:
    """Train each ranker of the options, and the rankers that they start from, on the same examples."""
    examples = [*EXAMPLES, layout.answers_of("valid"), *FEATURES]
    return Pipeline([_train_one(examples, ranker, start) for ranker, start in layout.trained.items()])


def _train_one(examples: list[str], ranker: str, start: str | None) -> Pipeline:
    started = [] if start is None else [f"{start}.model"]
    node = Node(
        bind(train_ranker, ranker=ranker),
        [*examples, "params:options", HARDWARE, CHECKPOINTS, *started],
        {"model": "model", "training_log": "training_log"},
        name="train",
    )
    parameters = {"params:options": f"params:{ranker}", HARDWARE: HARDWARE, CHECKPOINTS: CHECKPOINTS}
    return Pipeline([node], namespace=ranker, inputs={*examples, *started}, parameters=parameters)
