"""Follow a version back to the raw files, by the records beside the data and the model cards."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kedro.io import CatalogProtocol, Version

from multimodal_recall.datasets.atomic import AtomicDataset, State
from multimodal_recall.datasets.model_folders import RankerFolder
from multimodal_recall.runs.records import by_field, name_first

LISTS = ("train_examples",)
"""Datasets, beside models, whose version is a fact."""
SHOWN_DIGEST = 12
"""Characters of a raw file's digest that tell its contents apart."""


@dataclass
class Lineage:
    """Options, models, packages and raw files that some versions were made from."""

    facts: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By name of an option, a model, a package or a raw file: each value as text, with the nodes that had it."""
    models: dict[str, str] = field(default_factory=dict)
    """For each ranker, the newest version of its model among the versions that were read."""
    lost: set[str] = field(default_factory=set)
    """Versions without a record, dropped by ``kedro prune`` for example: nothing before them is known."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a node's options, as ``records.describe_options`` gives them."""
        for name, value in by_field(record["options"]).items():
            self.add_fact(name, value, record["node"])
        chunk = record["bound"].get("chunk")
        if isinstance(chunk, dict):
            self.add_fact(f"chunks.{chunk['split']}", chunk["count"], record["node"])

    def add_fact(self, name: str, value: Any, node: str) -> None:
        """Add the value that a node had under a name."""
        text = value if isinstance(value, str) else json.dumps(value)
        nodes = self.facts.setdefault(name, {}).setdefault(text, [])
        if node not in nodes:
            nodes.append(node)

    def texts(self) -> dict[str, str]:
        """Give each fact as one text; where nodes had different values, each value with its nodes."""
        return {name: format_values(values) for name, values in sorted(self.facts.items())}


def format_values(values: dict[str, list[str]]) -> str:
    """Give the values of a fact as one text, each with its nodes where there are several."""
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} in {name_first(sorted(nodes))}" for value, nodes in sorted(values.items()))


def trace(states: Mapping[str, State | None], catalog: CatalogProtocol) -> Lineage:
    """Follow the records from some datasets' states back to the raw files.

    A raw file has no versions and may have been replaced since: all that is known of it are the size and the digest
    that were read.
    """
    lineage, seen = Lineage(), set()
    waiting = [(name, state, "the run") for name, state in states.items()]
    while waiting:
        name, state, reader = waiting.pop()
        if isinstance(state, dict):
            lineage.add_fact(f"{name}, bytes", f"{state['size']}, {state['digest'][:SHOWN_DIGEST]}...", reader)
            continue
        if state is None:
            continue
        if name.endswith(".model") or name in LISTS:
            lineage.add_fact(name, state, reader)
        if (name, state) not in seen:
            seen.add((name, state))
            waiting += _follow(name, state, catalog, lineage)
    return lineage


def pinned(name: str, version: str, catalog: CatalogProtocol) -> AtomicDataset:
    """Give a dataset that loads this version."""
    return catalog.get(name, version=Version(version, None))


def _follow(name: str, version: str, catalog: CatalogProtocol, lineage: Lineage) -> list[tuple[str, State | None, str]]:
    """Add how a version was made; return the name and state of each of its inputs, with the node that read it."""
    dataset = pinned(name, version, catalog)
    record = dataset.record()
    if record is None:
        lineage.lost.add(f"{name} {version}")
        return []
    lineage.add(record)
    if isinstance(dataset, RankerFolder):
        ranker, card = name.removesuffix(".model"), dataset.card()
        lineage.models[ranker] = max(version, lineage.models.get(ranker, ""))
        facts = {f"{ranker}.parameters": card["parameters"], "git_commit": card["git_commit"]}
        facts |= {f"packages.{package}": number for package, number in card["packages"].items()}
        for fact, value in facts.items():
            lineage.add_fact(fact, value, record["node"])
    return [(source, state, record["node"]) for source, state in record["inputs"].items()]
