"""The checkpoints that options name, tried before the first node of a run."""

from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from multimodal_recall.config.layout import read_layout
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.runtime.device import choose_hardware

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class NamedCheckpoint(NamedTuple):
    """A checkpoint that an option names."""

    option: str
    name: str  # folder, or name on the hub
    trained: bool = False  # whether it is trained on
    ranker: RankerOptions | None = None  # the ranker that takes its weights

    def load(self, local_files_only: bool = False) -> "PreTrainedModel":
        """Load the checkpoint as the run does, and let its ranker take the weights.

        Raises:
            CheckpointError: With the option and what to put there.
        """
        from multimodal_recall.models.pretrained import load_checkpoint
        from multimodal_recall.models.text_model import try_text_model

        model, tokenizer = load_checkpoint(self.option, self.name, self.trained, local_files_only)
        if self.ranker is not None:
            try_text_model(self.option, self.ranker, model, tokenizer)
        return model


LANGUAGE_NODE = "language.prepare_language_model"
DESCRIBE_NODE = ".describe"  # of each chunk of photos
ZERO_SHOT_NODE = "_zero_shot"  # of each split


def named_checkpoints(catalog: CatalogProtocol, nodes: Container[str]) -> Iterator[NamedCheckpoint]:
    """List the checkpoints that these nodes load because an option names them.

    Kedro builds the options of the nodes of a run alone: other options are not looked at.
    """
    if LANGUAGE_NODE in nodes:
        language = catalog.load("params:language_model")
        if language.start_from is not None:
            yield NamedCheckpoint("language_model.start_from", language.start_from, language.epochs > 0)
    for ranker in read_layout().trained:
        if f"{ranker}.train" in nodes:
            options = catalog.load(f"params:{ranker}")
            name = getattr(options.model, "text_model", None)
            if name is not None:
                yield NamedCheckpoint(f"{ranker}.model.text_model", name, ranker=options)


def check_vision_models(catalog: CatalogProtocol, nodes: Iterable[str]) -> None:
    """Load embedder and detector as the nodes do that describe photos or rank by the embedder.

    Raises:
        CheckpointError: With the option and what to put there.
    """
    if any(node.endswith((DESCRIBE_NODE, ZERO_SHOT_NODE)) for node in nodes):
        from multimodal_recall.models.vision.describe import load_descriptor, load_detector

        options, hardware = catalog.load("params:describe"), choose_hardware(catalog.load("params:hardware"))
        load_descriptor(options, hardware)
        load_detector(options, hardware)


class CheckCheckpoints:
    """Refuses a run whose options name a checkpoint that it cannot use, before hours are spent on the first stages."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Load each checkpoint that a node of the run loads, as that node does.

        With ``--only-missing-outputs`` Kedro leaves nodes out after this hook: those that have all their outputs.

        Raises:
            CheckpointError: With the option and what to put there.
        """
        missing_only = run_params["only_missing_outputs"]
        nodes = [node for node in pipeline.nodes if not (missing_only and all(map(catalog.exists, node.outputs)))]
        names = {node.name for node in nodes}
        check_vision_models(catalog, names)
        for named in named_checkpoints(catalog, names):
            named.load()
