"""What ``kedro check`` finds of a file, and its checks of the checkpoints and vector files that options name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol

from multimodal_recall.config.loader import in_project
from multimodal_recall.config.options import WordVectorOptions
from multimodal_recall.data.faults import FaultCounts
from multimodal_recall.data.glove import WordVectorError, read_glove
from multimodal_recall.runs.checkpoints import NamedCheckpoint, named_checkpoints
from multimodal_recall.runtime.device import choose_hardware

FAULTS_SHOWN = 20
KINDS_SHOWN = 10


@dataclass
class FileCheck:
    """Facts and faults of a file."""

    name: str
    facts: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """The first ``FAULTS_SHOWN``, each with its place."""
    counts: FaultCounts = field(default_factory=FaultCounts)

    def add(self, reason: str, place: str = "") -> None:
        """Note a fault."""
        self.counts.add(reason, place)
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(f"{place}: {reason}" if place else reason)

    def unshown(self) -> list[str]:
        """Count the faults that are not among ``faults``, and give the most frequent kinds of all faults."""
        more = self.counts.total() - len(self.faults)
        return [f"and {more:,} more; by kind:", *self.counts.most_common(KINDS_SHOWN)] if more else []


def check_checkpoints(catalog: CatalogProtocol) -> Iterator[FileCheck]:
    """Load each checkpoint that the options name, as the run does, but never from the network."""
    nodes = {node.name for node in pipelines["__default__"].nodes}
    for named in named_checkpoints(catalog, nodes):
        yield _check_checkpoint(named.option, named.name, partial(_load_text_model, named))
    if catalog.get("params:import_shop").load() is not None:
        yield from _check_vision_models(catalog)


def _check_vision_models(catalog: CatalogProtocol) -> Iterator[FileCheck]:
    """Load embedder and detector as the import of a shop does."""
    from multimodal_recall.models.vision import describe  # torch and transformers take seconds to import

    options, hardware = (catalog.get(f"params:{name}").load() for name in ("describe", "hardware"))
    models = {"embedder": describe.load_descriptor, "detector": describe.load_detector}
    for option, load in models.items():
        name = getattr(options, option)
        if name is not None:
            load_here = partial(load, options, choose_hardware(hardware), local_files_only=True)
            yield _check_checkpoint(f"describe.{option}", name, lambda load=load_here: load().facts())
    if options.embedder is None:
        yield FileCheck("describe.embedder: null", [f"features of the {options.descriptor}"])


def _check_checkpoint(option: str, name: str, facts_of: Callable[[], str]) -> FileCheck:
    from multimodal_recall.models import pretrained

    check = FileCheck(f"{option}: {name}")
    if pretrained.asks_hub(name):
        check.facts.append(f"no folder {in_project(name)}, not in this machine's cache: the run asks the hub for it")
        return check
    try:
        check.facts.append(facts_of())
    except pretrained.CheckpointError as error:
        check.add(str(error))
    return check


def _load_text_model(named: NamedCheckpoint) -> str:
    model = named.load(local_files_only=True)
    return f"{type(model).__name__}: vectors of {model.config.hidden_size} numbers"


def check_glove(options: WordVectorOptions, words: set[str]) -> FileCheck:
    """Read the vector file as the run does, for the words of training queries and labels."""
    file = in_project(str(options.glove_file))
    check = FileCheck(file.name)
    try:
        found, _ = read_glove(file, words, options.size)
        check.facts.append(f"vectors for {len(found):,} of the {len(words):,} words of training queries and labels")
    except WordVectorError as error:
        check.add(str(error))
    return check
