"""The record beside each output: which node made it, with which options and code, from which inputs."""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from kedro.io import CatalogProtocol
from kedro.io.core import is_parameter
from kedro.pipeline import Node
from pydantic_core import to_jsonable_python

from multimodal_recall.config.layout import options_of_models
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.datasets.atomic import State, atomic_datasets
from multimodal_recall.runs.code import code_of


def make_record(node: Node, catalog: CatalogProtocol) -> dict[str, Any]:
    """Describe how a node makes its outputs, in values that JSON can hold.

    Returns:
        ``node``, its name; ``options``, its ``params:`` inputs by name; ``bound``, the fixed arguments of its function,
        such as the chunk; ``code``, digests of the definitions that its function reaches (see ``code_of``); ``inputs``,
        the state of each other input by name; ``pipeline`` if the node is tagged with one that a plain run leaves out.
    """
    code = code_of(node.func, _systems(node, catalog))
    record = {**describe_options(node, catalog), "code": code, "inputs": states_of(node.inputs, catalog)}
    return record | ({"pipeline": min(node.tags)} if node.tags else {})


def describe_options(node: Node, catalog: CatalogProtocol) -> dict[str, Any]:
    """Give ``node``, ``options`` and ``bound`` of ``make_record``: the inputs need not exist yet."""
    bound = getattr(node.func, "fixed", {})
    return to_jsonable_python({"node": node.name, "options": _options(node, catalog), "bound": bound})


def states_of(names: Iterable[str], catalog: CatalogProtocol) -> dict[str, State | None]:
    """Give the present state of each of the named datasets that has records; ``None`` where it does not exist."""
    return {name: dataset.state() for name, dataset in atomic_datasets(names, catalog).items()}


def default_options(node: Node, catalog: CatalogProtocol) -> dict[str, Any]:
    """Give the defaults of a node's options: a record that is older than an option stands for the default."""
    groups = {name: fields(group) for name, group in _options(node, catalog).items() if is_dataclass(group)}
    return {
        name: {option.name: to_jsonable_python(option.default) for option in group if option.default is not MISSING}
        for name, group in groups.items()
    }


def by_field(values: dict[str, Any]) -> dict[str, Any]:
    """Flatten ``{"params:ingest": {"max_boxes": 12}, "params:seed": 0}`` to ``{"ingest.max_boxes": 12, "seed": 0}``."""
    flat = {}
    for name, value in values.items():
        short = name.removeprefix("params:")
        if isinstance(value, dict):
            flat |= {f"{short}.{field}": inner for field, inner in by_field(value).items()}
        else:
            flat[short] = value
    return flat


def name_first(names: Sequence[str], count: int = 1) -> str:
    """Name the first few and count the rest, for a message: ``ingest of train.chunk_000 and 29 more``."""
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")


def _options(node: Node, catalog: CatalogProtocol) -> dict[str, Any]:
    """The node's ``params:`` inputs as the node gets them: Kedro has built the dataclasses."""
    return {name: catalog.get(name).load() for name in node.inputs if is_parameter(name)}


def _systems(node: Node, catalog: CatalogProtocol) -> set[str]:
    """Kinds of the rankers that a node trains or reads."""
    read = [catalog.get(name).load() for name in options_of_models(node.inputs)]
    groups = [*_options(node, catalog).values(), *read]
    kinds = {group.model.kind for group in groups if isinstance(group, RankerOptions)}
    return kinds | {group["model"]["kind"] for group in groups if isinstance(group, dict) and "model" in group}
