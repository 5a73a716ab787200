"""What ``kedro check`` finds of a file, and its checks of the checkpoints and vector files that options name."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol

from multimodal_recall.config.loader import in_project
from multimodal_recall.config.options import WordVectorOptions
from multimodal_recall.data.faults import FaultCounts
from multimodal_recall.data.glove import WordVectorError, read_glove
from multimodal_recall.runs.checkpoints import named_checkpoints

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
    for option, name, trained in named_checkpoints(catalog, nodes):
        yield _check_checkpoint(option, name, trained)


def _check_checkpoint(option: str, name: str, trained: bool) -> FileCheck:
    from multimodal_recall.models import pretrained  # torch and transformers take seconds to import

    check = FileCheck(f"{option}: {name}")
    if pretrained.asks_hub(name):
        check.facts.append(f"no folder {in_project(name)}, not in this machine's cache: the run asks the hub for it")
        return check
    try:
        model, _ = pretrained.load_checkpoint(option, name, trained, local_files_only=True)
        check.facts.append(f"{type(model).__name__}: vectors of {model.config.hidden_size} numbers")
    except pretrained.CheckpointError as error:
        check.add(str(error))
    return check


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
