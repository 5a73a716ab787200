"""Which outputs no longer follow from the present data, options and code, and which nodes to run so that they do."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from kedro.io import CatalogProtocol, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.validation import ParameterValidator

from multimodal_recall.config.loader import current_configuration
from multimodal_recall.datasets.atomic import State, atomic_datasets
from multimodal_recall.runs.records import by_field, default_options, make_record, name_first
from multimodal_recall.runtime.kedro_private import catalog_of

SHOWN_CHARACTERS = 60
SHOWN_NAMES = 3
MISSING, NO_RECORD, NEWER = "missing", "no record of how it was made", "newer version of "
"""Reasons that a run which ended before its end leaves behind."""


@dataclass(frozen=True)
class Staleness:
    """Stale outputs of a pipeline, and the nodes that make them anew."""

    reasons: dict[str, list[str]]
    """For each reason the outputs or nodes that it concerns."""
    first: list[str]
    """Stale nodes that follow from no other stale node: a run from these nodes makes every stale output anew."""
    following: list[str]
    """Nodes that are stale only because they follow from a stale node."""
    everything: bool
    """Whether running from ``first`` runs every node."""
    notes: list[str]
    """Missing inputs of the pipeline, and files that the user has replaced."""

    @property
    def is_unfinished(self) -> bool:
        """Whether the last run ended before its end: an output is missing, has no record, or is older than an input."""
        return any(reason.startswith((MISSING, NO_RECORD, NEWER)) for reason in self.reasons)


def find_stale(pipeline: Pipeline, catalog: CatalogProtocol, with_code: bool = True) -> Staleness:
    """Compare each output of a pipeline with its record and with its node's inputs and options.

    An output is stale if it is missing or has no record, if an input has a newer version than the output, or if a raw
    file, an option or the code differs from the record. An input that ``--load-versions`` pinned to an old version
    makes nothing stale, nor does a raw file that replaced a node's: both are the user's decision. What ``params:pins``
    pins is not judged itself; what was made with another version of it is stale.
    """
    reasons: dict[str, dict[str, None]] = {}  # the inner dictionaries are ordered sets
    stale, first, remade = set(), [], Pipeline([])
    for node in pipeline.nodes:  # in order: a node comes after those that make its inputs
        for reason, concerned in _reasons(node, catalog, with_code):
            reasons.setdefault(reason, {})[concerned] = None
            stale.add(node.name)
        if node.name in stale and node not in remade.nodes:
            first.append(node.name)
            remade += pipeline.from_nodes(node.name)
    return Staleness(
        {reason: list(concerned) for reason, concerned in reasons.items()},
        first,
        [node.name for node in remade.nodes if node.name not in stale],
        len(remade.nodes) == len(pipeline.nodes),
        [*missing_inputs(pipeline, catalog), *_replaced_files(pipeline, catalog)],
    )


def with_all_options(pipeline: Pipeline, catalog: CatalogProtocol) -> CatalogProtocol:
    """Copy the catalog of a pipeline with the options that its nodes would get, as ``find_stale`` compares them.

    Of the options in the catalog of a run, Kedro has built only the dataclasses that the run's own pipelines ask for;
    the others are as in the files, without defaults.

    Raises:
        ParameterValidationError: If an option does not fit.
    """
    options = ParameterValidator({"judged": pipeline}).validate_raw_params(current_configuration()[0]["parameters"])
    datasets = {name: catalog.get(name) for name in pipeline.datasets()}
    given = {f"params:{group}": MemoryDataset(value) for group, value in options.items()}
    return catalog_of(datasets | {name: given[name] for name in given.keys() & datasets.keys()}, catalog)


def missing_inputs(pipeline: Pipeline, catalog: CatalogProtocol) -> list[str]:
    """Name each dataset that the pipeline reads, does not make and does not find, with what to do about it."""
    inputs = atomic_datasets(sorted(pipeline.inputs()), catalog)
    return [f"{name}: {dataset.absence()}" for name, dataset in inputs.items() if not dataset.exists()]


def name_briefly(names: list[str]) -> str:
    """Name nodes or datasets by kind: ``ingest of train.chunk_000 and 29 more, list_examples of train``."""
    by_kind: dict[str, list[str]] = {}
    for name in names:
        namespace, _, kind = name.rpartition(".")
        by_kind.setdefault(kind, []).append(f"{kind} of {namespace}" if namespace else kind)
    return ", ".join(map(name_first, by_kind.values()))


def _reasons(node: Node, catalog: CatalogProtocol, with_code: bool) -> Iterator[tuple[str, str]]:
    """Why outputs of the node are stale, each reason with the output or the node that it concerns."""
    present, defaults = make_record(node, catalog), default_options(node, catalog)
    inputs = atomic_datasets(node.inputs, catalog)
    pins = {name: dataset.pinned_version for name, dataset in inputs.items() if dataset.pinned_version}
    for name, dataset in atomic_datasets(node.outputs, catalog).items():
        state = dataset.state()
        if dataset.pinned_version:
            continue
        if state is None:
            yield MISSING, name
        elif (record := dataset.record()) is None:
            yield NO_RECORD, name
        elif not _is_replaced(state, record):
            reasons = [*_other_pins(record, pins), *_changed_inputs(record, present, state)]
            reasons += _changed_options(record, present, defaults)
            reasons += _changed_code(record, present) if with_code else ()
            yield from ((reason, node.name) for reason in reasons)


def _other_pins(record: dict[str, Any], pins: dict[str, str]) -> Iterator[str]:
    """Name the inputs that ``params:pins`` pins to another version than the output was made with, older or newer."""
    for name, version in pins.items():
        if (made_with := record["inputs"].get(name)) != version:
            yield f"{name} is pinned to {version}, was {made_with}"


def _changed_inputs(record: dict[str, Any], present: dict[str, Any], output: State) -> Iterator[str]:
    for name, state in present["inputs"].items():
        if isinstance(state, str):
            # A raw file as output has no version: its record has the version that it was made from.
            made = output if isinstance(output, str) else record["inputs"].get(name) or ""
            if state > made:
                yield f"{NEWER}{name.rpartition('.')[2]}"
        elif state is not None and state != record["inputs"].get(name):
            yield f"{name} is not the file that was read"
    yield from (f"{name} was read and is gone" for name in sorted(record["inputs"].keys() - present["inputs"].keys()))


def _changed_options(record: dict[str, Any], present: dict[str, Any], defaults: dict[str, Any]) -> Iterator[str]:
    before = by_field(defaults) | by_field(record["options"]) | by_field(record["bound"])
    now = by_field(present["options"]) | by_field(present["bound"])
    for name in sorted(before.keys() | now.keys()):
        old, new = (json.dumps(values[name]) if name in values else "absent" for values in (before, now))
        if old != new:
            yield f"{name} was {shorten(old, SHOWN_CHARACTERS)}, is now {shorten(new, SHOWN_CHARACTERS)}"


def _changed_code(record: dict[str, Any], present: dict[str, Any]) -> Iterator[str]:
    """Name the changed definitions; where a definition is no longer reached, its caller has changed too."""
    before, now = record.get("code", {}), present["code"]
    if changed := [name for name, digest in now.items() if before.get(name, digest) != digest]:
        yield f"the code of {name_first(changed, SHOWN_NAMES)} has changed"
    elif moved := sorted(before.keys() ^ now.keys()):
        yield f"other code is called: {name_first(moved, SHOWN_NAMES)}"


def _replaced_files(pipeline: Pipeline, catalog: CatalogProtocol) -> Iterator[str]:
    for name, dataset in atomic_datasets(sorted(pipeline.all_outputs()), catalog).items():
        state = dataset.state()
        if state is not None and (record := dataset.record()) is not None and _is_replaced(state, record):
            yield (
                f"{name} is not the file that {record['node']} wrote: the replacement is kept, and the nodes that read "
                f"{name} are judged by it"
            )


def _is_replaced(state: State, record: dict[str, Any]) -> bool:
    """Whether a file without versions is another file than its record describes."""
    return isinstance(state, dict) and state != record["output"]
