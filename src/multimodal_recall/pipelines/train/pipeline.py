"""Wiring of ``train``: a node for each ranker in the ranker's namespace, or a node a chunk and the solution of all."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Chunk, Layout
from multimodal_recall.pipelines.train.nodes import train_ranker
from multimodal_recall.pipelines.train.sum_nodes import draw_joined_landmarks, draw_landmarks, solve_ranker, sum_words
from multimodal_recall.pipelines.wiring import bind

EXAMPLES = ("train_examples", "valid_examples")
FEATURES = ("word_vectors", "label_vectors", "language_model")
OPTIONS, HARDWARE, CHECKPOINTS, INGEST = "params:options", "params:hardware", "params:checkpoints", "params:ingest"


def create_pipeline(layout: Layout) -> Pipeline:
    """Train each ranker of the options, and the rankers that they start from, on the same examples."""
    examples = [*EXAMPLES, layout.answers_of("valid"), *FEATURES]
    return Pipeline(
        [
            _sum_one(name, layout, examples[:-1]) if name in layout.summed else _train_one(name, start, examples)
            for name, start in layout.trained.items()
        ]
    )


def _train_one(ranker: str, start: str | None, examples: list[str]) -> Pipeline:
    started = [] if start is None else [f"{start}.model"]
    node = Node(
        bind(train_ranker, ranker=ranker),
        [*examples, OPTIONS, HARDWARE, CHECKPOINTS, *started],
        {"model": "model", "training_log": "training_log"},
        name="train",
    )
    parameters = {OPTIONS: f"params:{ranker}", HARDWARE: HARDWARE, CHECKPOINTS: CHECKPOINTS}
    return Pipeline([node], namespace=ranker, inputs={*examples, *started}, parameters=parameters)


def _sum_one(ranker: str, layout: Layout, read: list[str]) -> Pipeline:
    """Draw landmarks, sum each chunk over them, and solve the sum of all chunks."""
    options = {OPTIONS: f"params:{ranker}", HARDWARE: HARDWARE, INGEST: INGEST}
    files, chunks = [*layout.sources_of("train"), "labels"], layout.chunks_of("train")
    function = draw_landmarks if len(files) == 2 else draw_joined_landmarks
    draw = Node(function, [*files, INGEST, OPTIONS], "landmarks", name="draw_landmarks")
    sums = [f"sums.{chunk.name}.word_sums" for chunk in chunks]
    made = {"model": "model", "training_log": "training_log"}
    solve = Node(bind(solve_ranker, ranker=ranker), [*read, "landmarks", OPTIONS, HARDWARE, *sums], made, name="train")
    whole = Pipeline([draw, solve], namespace=ranker, inputs={*files, *read}, parameters=options)
    return Pipeline([whole, *(_sum_chunk(ranker, chunk) for chunk in chunks)])


def _sum_chunk(ranker: str, chunk: Chunk) -> Pipeline:
    tables = ("products", "pairs", "query_features")
    return Pipeline(
        [Node(bind(sum_words, chunk=chunk), [*tables, "landmarks", OPTIONS, HARDWARE], "word_sums", name="sum_words")],
        namespace=f"{ranker}.sums.{chunk.name}",  # in `train.chunk_000` of the ranker, `index` runs after the model
        inputs={**{table: f"{chunk.namespace}.{table}" for table in tables}, "landmarks": f"{ranker}.landmarks"},
        parameters={OPTIONS: f"params:{ranker}", HARDWARE: HARDWARE},
    )
