"""Errors of commands: one message each, with what to do, in place of a traceback."""

import difflib
import functools
import re
import traceback
from collections.abc import Callable
from typing import Any

import click
from kedro.config import MissingConfigException
from kedro.framework.project import pipelines as registered
from kedro.io import DatasetError
from kedro.validation import ParameterValidationError

from multimodal_recall.config.loader import RememberingConfigLoader, project_folder

MOST_SUGGESTED = 3
NOT_FOR_USERS = re.compile(r"\n +For further information visit .*| \[type=value_error,[^\n]*\]|(?<= )Value error, ")
"""Of pydantic's messages: its pages, and what stands around a message of our own."""
TRACEBACK = "data/.runs/traceback.log"
SAID_BY_KEDRO = (DatasetError, MissingConfigException, ParameterValidationError)
"""Errors of Kedro whose text is meant for users, as is that of all errors that this package defines."""
ERROR_REMEDIES = {
    MissingConfigException: "Name a folder of conf/ as --env",
    ParameterValidationError: "All options and their meaning: docs/options.md",
}


def as_click_error(function: Callable[..., Any]) -> Callable[..., Any]:
    """Report an error as a message; its traceback goes into ``TRACEBACK``.

    An error that is neither this package's nor Kedro's own may be a fault of the program: the message then names its
    kind and the file of its traceback.
    """

    @functools.wraps(function)
    def run_and_report(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:
            raise click.ClickException(name_environment(_describe(error))) from error

    return run_and_report


def is_for_users(error: Exception) -> bool:
    """Whether an error's text says to a user what is wrong and what to do."""
    return isinstance(error, SAID_BY_KEDRO) or type(error).__module__.startswith("multimodal_recall.")


def name_environment(text: str) -> str:
    """Add the environment to each command that a message advises."""
    loader = RememberingConfigLoader.current
    if loader is None or loader.env in (None, loader.default_run_env):
        return text
    text = text.replace("conf/<env>", f"conf/{loader.env}")
    return re.sub(r"\bkedro (run|check|stale|prune|search|compare)\b(?! --env)", rf"kedro \1 --env={loader.env}", text)


def _describe(error: Exception) -> str:
    """Say what went wrong and what to do; keep the traceback of an error that is not meant for users."""
    text = NOT_FOR_USERS.sub("", str(error))
    remedies = [remedy for kind, remedy in ERROR_REMEDIES.items() if isinstance(error, kind)]
    if is_for_users(error):
        return "\n".join([text, *remedies])
    origin = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    if origin.startswith("kedro."):
        text, names = text.split(" Did you mean")[0].split(" It needs to be")[0], suggest_names(text)
        return "\n".join([text, *([f"Did you mean {' or '.join(names)}?"] if names else [])])
    file = project_folder() / TRACEBACK
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return f"{type(error).__name__}: {text}\nThe traceback is in {file}"


def suggest_names(text: str) -> list[str]:
    """Find names of pipelines, nodes, namespaces or datasets that are like the quoted names of Kedro's message.

    A node or namespace without its first parts, as ``chunk_002`` for ``train.chunk_002``, is like the whole name.
    """
    nodes = [node for pipeline in registered.values() for node in pipeline.nodes]
    kinds = {
        "pipeline named": set(registered),
        "nodes named": {node.name for node in nodes},
        "namespaces": {node.namespace for node in nodes if node.namespace},
        "datasets named": {name for node in nodes for name in (*node.inputs, *node.outputs)},
    }
    known = next((sorted(names) for words, names in kinds.items() if words in text), [])
    found = []
    for name in re.findall(r"'([^']+)'", text.split(" Did you mean")[0].split(" It needs to be")[0]):
        ends = [other for other in known if other.endswith(f".{name}")]
        found += ends[:MOST_SUGGESTED] or difflib.get_close_matches(name, known, MOST_SUGGESTED)
    return list(dict.fromkeys(found))
