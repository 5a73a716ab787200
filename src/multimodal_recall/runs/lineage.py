"""What a version was made from, back to the raw files: read from the records beside the data and from model cards."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kedro.io import CatalogProtocol, Version

from multimodal_recall.datasets.atomic import AtomicDataset, State
from multimodal_recall.datasets.model_folders import RankerFolder
from multimodal_recall.runs.records import by_field

LISTS = ("train_examples",)
"""Datasets whose version is a fact worth comparing, beside those of the models."""


@dataclass
class Lineage:
    """What some versions were made from."""

    facts: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By name of an option, a model, a package or a raw file: each value as text, with the nodes that had it."""
    models: dict[str, str] = field(default_factory=dict)
    """For each ranker, the newest version of its model among those that were read."""
    lost: set[str] = field(default_factory=set)
    """Versions without a record: dropped by ``kedro prune``, say. What they were made from is not known."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a node's options, as ``staleness.describe_options`` gives them."""
        for name, value in by_field(record["options"]).items():
            self.add_fact(name, value, record["node"])
        chunk = record["bound"].get("chunk")
        if isinstance(chunk, dict):
            self.add_fact(f"chunks.{chunk['split']}", chunk["count"], record["node"])

    def add_fact(self, name: str, value: Any, node: str) -> None:
        """Add what a node had under a name."""
        text = value if isinstance(value, str) else json.dumps(value)
        nodes = self.facts.setdefault(name, {}).setdefault(text, [])
        if node not in nodes:
            nodes.append(node)

    def texts(self) -> dict[str, str]:
        """One text a fact; where nodes had different values, each with its nodes."""
        return {name: format_values(values) for name, values in sorted(self.facts.items())}


def format_values(values: dict[str, list[str]]) -> str:
    """Give the values of a fact as one text, each with its nodes where there are several."""
    if len(values) == 1:
        return next(iter(values))
    more = {value: f" and {len(nodes) - 1} more" if len(nodes) > 1 else "" for value, nodes in values.items()}
    return "; ".join(f"{value} in {min(nodes)}{more[value]}" for value, nodes in sorted(values.items()))


def trace(made: Iterable[tuple[str, State | None]], catalog: CatalogProtocol) -> Lineage:
    """Follow the records from some datasets' states back to the raw files.

    A raw file has no versions, and may have been replaced since: of it there is only the size that was read.

    Args:
        made: Names and states to start from.
        catalog: The environment's data.
    """
    lineage, seen = Lineage(), set()
    waiting = [(name, state, "the run") for name, state in made]
    while waiting:
        name, state, reader = waiting.pop()
        if isinstance(state, dict):
            lineage.add_fact(f"{name}, bytes", state["size"], reader)
            continue
        if state is None:
            continue
        if name.endswith(".model") or name in LISTS:
            lineage.add_fact(name, state, reader)
        if (name, state) not in seen:
            seen.add((name, state))
            waiting += _follow(name, state, catalog, lineage)
    return lineage


def _follow(name: str, version: str, catalog: CatalogProtocol, lineage: Lineage) -> list[tuple[str, State | None, str]]:
    """Add how a version was made, and give what it was made from with the name of the node that read it."""
    dataset = pinned(name, version, catalog)
    record = dataset.record()
    if record is None:
        lineage.lost.add(f"{name} {version}")
        return []
    lineage.add(record)
    if isinstance(dataset, RankerFolder):
        _add_card(name.removesuffix(".model"), version, dataset.card(), record["node"], lineage)
    return [(read, state, record["node"]) for read, state in record["inputs"].items()]


def _add_card(ranker: str, version: str, card: dict[str, Any], node: str, lineage: Lineage) -> None:
    lineage.models[ranker] = max(version, lineage.models.get(ranker, ""))
    lineage.add_fact(f"{ranker}.parameters", card["parameters"], node)
    lineage.add_fact("git_commit", card["git_commit"], node)
    for package, number in card["packages"].items():
        lineage.add_fact(f"packages.{package}", number, node)


def pinned(name: str, version: str, catalog: CatalogProtocol) -> AtomicDataset:
    """A dataset that loads this version."""
    return catalog.get(name, version=Version(version, None))
