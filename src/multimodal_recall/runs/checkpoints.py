"""The checkpoints that options name, tried before the first node of a run."""

from collections.abc import Iterator
from typing import NamedTuple

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from multimodal_recall.config.layout import read_layout


class NamedCheckpoint(NamedTuple):
    """A checkpoint that an option names."""

    option: str
    name: str  # folder, or name on the hub
    trained: bool  # whether it is trained on
    node: str  # that loads it


def named_checkpoints(catalog: CatalogProtocol) -> Iterator[NamedCheckpoint]:
    """List the checkpoints that the options of the language model and of the trained rankers name."""
    trained = read_layout().trained
    if not trained:  # given scores alone are evaluated: Kedro builds no options of the language model
        return
    language = catalog.load("params:language_model")
    if language.start_from is not None:
        option = "language_model.start_from"
        yield NamedCheckpoint(option, language.start_from, language.epochs > 0, "language.prepare_language_model")
    for ranker in trained:
        name = getattr(catalog.load(f"params:{ranker}").model, "text_model", None)
        if name is not None:
            yield NamedCheckpoint(f"{ranker}.model.text_model", name, False, f"{ranker}.train")


class CheckCheckpoints:
    """Refuses a run whose options name a checkpoint that it cannot use, before hours are spent on the first stages."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Load each checkpoint that a node of the run loads, as that node does.

        Raises:
            CheckpointError: With the option and what to put there.
        """
        nodes = {node.name for node in pipeline.nodes}
        for named in named_checkpoints(catalog):
            if named.node in nodes:
                from multimodal_recall.models.pretrained import load_checkpoint

                load_checkpoint(named.option, named.name, named.trained)
