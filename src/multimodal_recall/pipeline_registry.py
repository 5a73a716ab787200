"""The pipelines by name; their shape comes from the environment's configuration."""

from kedro.pipeline import Pipeline

from multimodal_recall.config.layout import Layout, read_layout
from multimodal_recall.pipelines.evaluate.pipeline import create_pipeline as evaluate
from multimodal_recall.pipelines.exchange.pipeline import create_pipeline as exchange
from multimodal_recall.pipelines.exchange.pipeline import create_recall_pipeline as exchange_recall
from multimodal_recall.pipelines.exchange.pipeline import read_qrels
from multimodal_recall.pipelines.featurize.pipeline import create_pipeline as featurize
from multimodal_recall.pipelines.import_shop.pipeline import create_pipeline as import_shop
from multimodal_recall.pipelines.index.pipeline import create_pipeline as index
from multimodal_recall.pipelines.ingest.pipeline import create_pipeline as ingest
from multimodal_recall.pipelines.make_shop.pipeline import create_pipeline as make_shop
from multimodal_recall.pipelines.recall.pipeline import create_pipeline as recall
from multimodal_recall.pipelines.sample_negatives.pipeline import create_pipeline as sample_negatives
from multimodal_recall.pipelines.train.pipeline import create_pipeline as train


def register_pipelines() -> dict[str, Pipeline]:
    """Build every pipeline of the current environment; ``all`` adds to ``__default__`` what a plain run leaves out."""
    layout = read_layout()
    if layout.rankers:
        return _with_rankers(layout)
    pipelines = {"qrels": read_qrels(layout), "evaluate": evaluate(layout)}  # of given scores alone
    default, more = Pipeline(pipelines.values()), exchange(layout)
    return {**pipelines, "exchange": more, "__default__": default, "all": Pipeline([default, more])}


def _with_rankers(layout: Layout) -> dict[str, Pipeline]:
    pipelines = {"make_shop": make_shop()} if layout.makes_shop else {}
    pipelines |= {
        "ingest": ingest(layout),
        "qrels": read_qrels(layout),
        "featurize": featurize(layout),
        "sample_negatives": sample_negatives(layout),
        "train": train(layout),
        "evaluate": evaluate(layout),
    }
    imported = {"import_shop": import_shop(layout)} if layout.import_chunks else {}
    more = {**imported, "index": index(layout), "recall": recall(layout)}
    more |= {"exchange": exchange(layout), "exchange_recall": exchange_recall(layout)}
    default = Pipeline(pipelines.values())
    return {**pipelines, **more, "__default__": default, "all": Pipeline([default, *more.values()])}
