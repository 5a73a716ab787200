"""What the wiring of several pipelines shares: nodes of one chunk, and a namespace for each chunk."""

from collections.abc import Callable, Iterable
from functools import partial, update_wrapper
from typing import Any

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import Chunk


def bind(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    """Fix keyword arguments of a node's function, such as its chunk.

    Name, docstring and type hints stay, which kedro-viz shows and from which Kedro builds the options. The record of an
    output holds the fixed arguments; see ``runs.records``.
    """
    return update_wrapper(partial(function, **fixed), function)


def for_each_chunk(
    chunks: Iterable[Chunk], template: Callable[[Chunk], list[Node]], shared: Iterable[str] = ()
) -> Pipeline:
    """Repeat a template for each chunk, under the chunk's namespace.

    Args:
        chunks: The chunks to cover.
        template: Gives the nodes of one chunk, with dataset names as they are inside the namespace.
        shared: Datasets and ``params:`` that all chunks share, so that they keep their names.
    """
    shared = set(shared)
    # One pipeline of pipelines, not their sum: that checks all names anew for each chunk, 5 s at 300 chunks.
    return Pipeline(
        [
            Pipeline(
                template(chunk),
                namespace=chunk.namespace,
                inputs={name for name in shared if not name.startswith("params:")},
                parameters={name for name in shared if name.startswith("params:")},
            )
            for chunk in chunks
        ]
    )
