"""The pipelines by name; their shape comes from the environment's configuration."""

from kedro.pipeline import Pipeline

from multimodal_recall.config.layout import read_layout
from multimodal_recall.pipelines.evaluate.pipeline import create_pipeline as evaluate
from multimodal_recall.pipelines.featurize.pipeline import create_pipeline as featurize
from multimodal_recall.pipelines.ingest.pipeline import create_pipeline as ingest
from multimodal_recall.pipelines.make_shop.pipeline import create_pipeline as make_shop
from multimodal_recall.pipelines.sample_negatives.pipeline import create_pipeline as sample_negatives
from multimodal_recall.pipelines.train.pipeline import create_pipeline as train


def register_pipelines() -> dict[str, Pipeline]:
    """Build every pipeline of the current environment; ``__default__`` is all of them."""
    layout = read_layout()
    if not layout.rankers:  # given scores alone are evaluated
        return {"evaluate": evaluate(layout), "__default__": evaluate(layout)}
    pipelines = {"make_shop": make_shop()} if layout.makes_shop else {}
    pipelines |= {
        "ingest": ingest(layout),
        "featurize": featurize(layout),
        "sample_negatives": sample_negatives(layout),
        "train": train(layout),
        "evaluate": evaluate(layout),
    }
    return {**pipelines, "__default__": Pipeline(pipelines.values())}
