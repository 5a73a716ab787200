"""Which outputs no longer follow from the present data and options, and which nodes to run so that they do."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Node, Pipeline

from multimodal_recall.datasets.atomic import State, atomic_datasets
from multimodal_recall.runs.records import by_field, default_options, make_record

SHOWN_CHARACTERS = 60
SHOWN_NAMES = 3


@dataclass(frozen=True)
class Staleness:
    """What is stale in a pipeline."""

    reasons: dict[str, list[str]]
    """Why, with the outputs or nodes that each reason concerns."""
    first: list[str]
    """Stale nodes that follow from no other stale node: running from these makes all that is stale anew."""
    following: list[str]
    """Nodes that are stale only because they follow from a stale one."""
    everything: bool
    """Whether running from ``first`` runs every node."""
    notes: list[str]
    """What cannot be judged, or was decided by hand."""


def find_stale(pipeline: Pipeline, catalog: CatalogProtocol, with_code: bool = True) -> Staleness:
    """Compare each output of a pipeline with its record and with its node's inputs and options.

    An output is stale if it is missing or has no record, if an input has a newer version than the output, or if a raw
    file, an option or the code differs from the record. An input that was pinned to an old version makes nothing stale,
    nor does a raw file that replaced a node's: both are the user's decision.

    Args:
        pipeline: The nodes to judge.
        catalog: Their data and options.
        with_code: Whether changed code makes an output stale.
    """
    reasons: dict[str, dict[str, None]] = {}  # the inner ones are ordered sets
    stale, first, remade = set(), [], Pipeline([])
    for node in pipeline.nodes:  # what a node follows from comes before it
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
        [*_absent_inputs(pipeline, catalog), *_replaced_files(pipeline, catalog)],
    )


def name_briefly(names: list[str]) -> str:
    """Name nodes or datasets by kind: ``ingest of train.chunk_000 and 29 more, list_examples of train``."""
    places: dict[str, list[str]] = {}
    for name in names:
        place, _, kind = name.rpartition(".")
        places.setdefault(kind, []).append(f" of {place}" if place else "")
    return ", ".join(
        f"{kind}{place}" + (f" and {len(others)} more" if others else "") for kind, (place, *others) in places.items()
    )


def _reasons(node: Node, catalog: CatalogProtocol, with_code: bool) -> Iterator[tuple[str, str]]:
    """Why outputs of the node are stale, each reason with the output or the node that it concerns."""
    present, defaults = make_record(node, catalog), default_options(node, catalog)
    for name, dataset in atomic_datasets(node.outputs, catalog).items():
        state = dataset.state()
        if state is None:
            yield "missing", name
        elif (record := dataset.record()) is None:
            yield "no record of how it was made", name
        elif not _is_replaced(state, record):
            reasons = [*_other_inputs(record, present, state), *_other_options(record, present, defaults)]
            reasons += _changed_code(record, present) if with_code else ()
            yield from ((reason, node.name) for reason in reasons)


def _other_inputs(record: dict[str, Any], present: dict[str, Any], output: State) -> Iterator[str]:
    for name, state in present["inputs"].items():
        if isinstance(state, str):  # raw files, which have no versions, are made from none that have
            if isinstance(output, str) and state > output:
                yield f"newer version of {name.rpartition('.')[2]}"
        elif state is not None and state != record["inputs"].get(name):
            yield f"{name} is not the file that was read"


def _other_options(record: dict[str, Any], present: dict[str, Any], defaults: dict[str, Any]) -> Iterator[str]:
    was = by_field(defaults) | by_field(record["options"]) | by_field(record["bound"])
    now = by_field(present["options"]) | by_field(present["bound"])
    for name in sorted(was.keys() | now.keys()):
        if _shown(was, name) != _shown(now, name):
            before, after = (shorten(_shown(values, name), SHOWN_CHARACTERS) for values in (was, now))
            yield f"{name} was {before}, is now {after}"


def _changed_code(record: dict[str, Any], present: dict[str, Any]) -> Iterator[str]:
    """Name the definitions that are not as they were; a definition that is no longer reached has a changed caller."""
    was, now = record.get("code", {}), present["code"]
    if changed := [name for name, digest in now.items() if was.get(name, digest) != digest]:
        yield f"the code of {_first_names(changed)} has changed"
    elif others := sorted(was.keys() ^ now.keys()):
        yield f"other code is called: {_first_names(others)}"


def _first_names(names: list[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _shown(values: dict[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "absent"


def _absent_inputs(pipeline: Pipeline, catalog: CatalogProtocol) -> Iterator[str]:
    for name, dataset in atomic_datasets(sorted(pipeline.inputs()), catalog).items():
        if dataset.state() is None:
            yield f"{name}: {dataset.absence()}"


def _replaced_files(pipeline: Pipeline, catalog: CatalogProtocol) -> Iterator[str]:
    for name, dataset in atomic_datasets(sorted(pipeline.all_outputs()), catalog).items():
        state = dataset.state()
        if state is not None and (record := dataset.record()) is not None and _is_replaced(state, record):
            yield f"{name} is not the file that {record['node']} wrote; it stays, and what reads it is judged by it"


def _is_replaced(state: State, record: dict[str, Any]) -> bool:
    """Whether a file without versions is another than the one that the record speaks of."""
    return isinstance(state, dict) and state != record["output"]
