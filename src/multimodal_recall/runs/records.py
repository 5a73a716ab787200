"""The record beside each output: which node made it, with which options and code, from which inputs."""

from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from typing import Any

from kedro.io import CatalogProtocol
from kedro.io.core import is_parameter
from kedro.pipeline import Node
from pydantic_core import to_jsonable_python

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.datasets.atomic import atomic_datasets
from multimodal_recall.runs.code import code_of


def make_record(node: Node, catalog: CatalogProtocol) -> dict[str, Any]:
    """Describe how a node makes its outputs, as JSON can hold it.

    Returns:
        ``node``, its name; ``options``, its ``params:`` inputs by name; ``bound``, the fixed arguments of its function,
        such as the chunk; ``code``, digests of the definitions that its function reaches (see ``code_of``); ``inputs``,
        the state of each other input by name.
    """
    inputs = {name: dataset.state() for name, dataset in atomic_datasets(node.inputs, catalog).items()}
    return {**describe_options(node, catalog), "code": code_of(node.func, _systems(node, catalog)), "inputs": inputs}


def describe_options(node: Node, catalog: CatalogProtocol) -> dict[str, Any]:
    """Describe a node as ``make_record`` does, without its code and its inputs, which a run may still have to make."""
    bound = node.func.keywords if isinstance(node.func, partial) else {}
    return {"node": node.name, "options": _as_json(_options(node, catalog)), "bound": _as_json(bound)}


def default_options(node: Node, catalog: CatalogProtocol) -> dict[str, Any]:
    """Give the defaults of a node's options: the value of an option before the option existed."""
    groups = {name: fields(value) for name, value in _options(node, catalog).items() if is_dataclass(value)}
    return _as_json(
        {
            name: {option.name: option.default for option in group if option.default is not MISSING}
            for name, group in groups.items()
        }
    )


def by_field(values: dict[str, Any]) -> dict[str, Any]:
    """``{"params:ingest": {"max_boxes": 12}, "params:seed": 0}`` to ``{"ingest.max_boxes": 12, "seed": 0}``."""
    flat = {}
    for name, value in values.items():
        short = name.removeprefix("params:")
        if isinstance(value, dict):
            flat |= {f"{short}.{field}": inner for field, inner in by_field(value).items()}
        else:
            flat[short] = value
    return flat


def _options(node: Node, catalog: CatalogProtocol) -> dict[str, Any]:
    """The node's ``params:`` inputs as the node gets them: Kedro has built the dataclasses."""
    return {name: catalog.get(name).load() for name in node.inputs if is_parameter(name)}


def _systems(node: Node, catalog: CatalogProtocol) -> set[str]:
    """Kinds of the rankers that a node trains or reads."""
    read = [f"params:{name.removesuffix('.model')}" for name in node.inputs if name.endswith(".model")]
    values = [*_options(node, catalog).values(), *(catalog.get(name).load() for name in read)]
    kinds = {value.model.kind for value in values if isinstance(value, RankerOptions)}
    return kinds | {value["model"]["kind"] for value in values if isinstance(value, dict) and "model" in value}


def _as_json(value: Any) -> Any:
    """Dataclasses as dictionaries, tuples as lists."""
    return to_jsonable_python(value)
