"""Wiring that several pipelines share: bound arguments, and a node for each chunk."""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Chunk


def bind(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    """Fix keyword arguments of a node's function, such as its chunk.

    The bound function keeps its name, its type hints, from which Kedro builds the options, and its source, which
    kedro-viz shows of functions alone, not of ``functools.partial``. Its ``fixed`` stands in records: ``runs.records``.
    """

    @wraps(function)
    def bound(*inputs: Any, **named: Any) -> Any:
        return function(*inputs, **named, **fixed)

    bound.fixed = fixed
    return bound


def for_each_chunk(
    chunks: Iterable[Chunk],
    function: Callable[..., Any],
    own: Sequence[str],
    shared: Sequence[str],
    outputs: str | dict[str, str],
    name: str,
) -> Pipeline:
    """Make a node for each chunk, in the chunk's namespace.

    The function gets the inputs ``own`` (datasets of each chunk), then ``shared`` (datasets and ``params:`` of all
    chunks), then the keyword argument ``chunk``. ``own``, ``outputs`` and ``name`` are without the namespace.
    """
    parameters = {parameter for parameter in shared if parameter.startswith("params:")}
    # A pipeline of pipelines and not their sum, which checks all names anew for each chunk: 5 s at 300 chunks.
    return Pipeline(
        [
            Pipeline(
                [Node(bind(function, chunk=chunk), [*own, *shared], outputs, name=name)],
                namespace=chunk.namespace,
                inputs=set(shared) - parameters,
                parameters=parameters,
            )
            for chunk in chunks
        ]
    )
