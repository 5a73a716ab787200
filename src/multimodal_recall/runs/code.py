"""Which code of this package makes an output: every function, class and constant that a node's function reaches.

The source is parsed, not imported: nothing is run, and torch is not loaded. Comments and docstrings do not count.
``config`` is left out because options are compared by value, ``runtime`` because it decides speed, not figures.
"""

import ast
import hashlib
import inspect
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = __name__.partition(".")[0]
SOURCE = Path(__file__).parents[1]
ROOMS = ("data", "negatives", "models", "training", "evaluation", "pipelines")
"""Folders whose code decides what an output holds."""
SKIPPED = ("ctx", "kind", "type_comment")
"""Fields of a syntax tree that add nothing to the code's meaning."""
SYSTEMS = "models.systems."
"""Modules that ``models.ranker.build_ranker`` imports by name: a node depends on the modules of its own rankers."""


def code_of(function: Callable[..., Any], systems: Collection[str] = ()) -> dict[str, str]:
    """Digest the definition of a function, and each definition that it reaches.

    Args:
        function: A function of this package, with or without arguments bound by ``pipelines.wiring.bind``.
        systems: Kinds of the rankers that the function builds; see ``models.systems``.

    Returns:
        Digests by name, such as ``data.decoding.decode_rows`` or ``data.schemas.TABLES[pairs]``; empty for a function
        of another package.
    """
    function = inspect.unwrap(function)
    reached: dict[str, str] = {}
    waiting = [(function.__module__.removeprefix(f"{PACKAGE}."), function.__qualname__)]
    waiting += [(SYSTEMS + kind, "build") for kind in systems]
    while waiting:
        module, name = waiting.pop()
        definition = _definition(module, name)
        if definition is not None and f"{module}.{name}" not in reached:
            reached[f"{module}.{name}"] = definition.digest
            waiting += definition.uses
    return dict(sorted(reached.items()))


def digest_code(function: Callable[..., Any], systems: Collection[str] = ()) -> str:
    """Digest all code that a function reaches; see ``code_of``."""
    return _digest(str(code_of(function, systems)))


@dataclass(frozen=True)
class Definition:
    """A function, class or constant at the top of a module."""

    digest: str
    uses: list[tuple[str, str]]
    """Module and name of each definition of this package that the source names."""


@dataclass(frozen=True)
class Module:
    """The parsed source of a module."""

    definitions: dict[str, list[ast.AST]] = field(default_factory=dict)
    """Nodes by name; a name may be defined more than once, as in ``if ... else``."""
    imports: dict[str, str] = field(default_factory=dict)
    """For each imported name, the module or definition of this package."""


@cache
def _definition(module: str, name: str) -> Definition | None:
    parsed = _parse(module)
    if parsed is None:
        return None
    plain, _, key = name.removesuffix("]").partition("[")
    nodes = parsed.definitions.get(plain, [])
    if key:
        nodes = [value for node in nodes for label, value in _items(node) if label == key] or nodes
    if not nodes:
        return None
    uses = sorted({use for node in nodes for use in _uses(node, module, parsed)} - {(module, name)})
    return Definition(_digest("".join(_normal_form(node) for node in nodes)), uses)


@cache
def _parse(module: str) -> Module | None:
    """Parse a module of ``ROOMS``; ``None`` for any other name."""
    path = SOURCE.joinpath(*module.split(".")).with_suffix(".py")
    if module.partition(".")[0] not in ROOMS or not path.exists():
        return None
    parsed = Module()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            parsed.definitions.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in (part.id for part in ast.walk(target) if isinstance(part, ast.Name)):
                    parsed.definitions.setdefault(name, []).append(node)
        else:
            parsed.imports.update(_imports(node))
    return parsed


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            room = node.module.removeprefix(PACKAGE).lstrip(".")
            yield from ((alias.asname or alias.name, f"{room}.{alias.name}".lstrip(".")) for alias in node.names)


def _uses(tree: ast.AST, module: str, parsed: Module) -> Iterator[tuple[str, str]]:
    """Module and name of each name that a definition uses, whether it is defined there or not."""
    imports, keys = {**parsed.imports, **dict(_imports(tree))}, {}
    for node in ast.walk(tree):  # breadth first: a subscript comes before its parts
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            keys[node.value] = f"[{node.slice.value}]"
        key = keys.get(node, "")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            node = ast.Name(node.value)  # a type hint in quotes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imports:
            yield imports[node.value.id], node.attr + key
        elif isinstance(node, ast.Name) and node.id in imports:
            yield imports[node.id].rpartition(".")[0], node.id + key
        elif isinstance(node, ast.Name) and node.id in parsed.definitions:
            yield module, node.id + key


def _items(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The keys and values of a dictionary that is assigned to a name."""
    value = getattr(node, "value", None)
    if isinstance(value, ast.Dict):
        for key, item in zip(value.keys, value.values, strict=True):
            if isinstance(key, ast.Constant):
                yield str(key.value), item


def _normal_form(node: Any) -> str:
    """A syntax tree as text, alike in every version of Python, without comments, docstrings and line numbers."""
    if isinstance(node, list):
        statements = [
            part for part in node if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        ]
        return f"[{','.join(map(_normal_form, statements))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []) and name not in SKIPPED)
    return f"{type(node).__name__}({','.join(f'{name}={_normal_form(value)}' for name, value in fields)})"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
