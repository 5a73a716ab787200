"""The rooms of the package: which folder may import which. The floors stand in one list, top floor first."""

import ast
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import PROJECT

PACKAGE = "multimodal_recall"
SOURCE = PROJECT / "src" / PACKAGE
FLOORS = [
    {"pipeline_registry", "__main__"},
    {"pipelines", "settings", "cli"},
    {"runs", "datasets", "evaluation", "training", "commands"},
    {"models", "negatives"},
    {"data"},
    {"config", "runtime"},
]
"""A room imports from its own floor and from lower ones."""
ROOT = {"__init__", "__main__", "settings", "pipeline_registry", "cli"}
"""Modules that Kedro or Python finds by name; everything else has a room."""
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}


def name_of(path: Path) -> str:
    """``evaluation.metrics`` of ``src/multimodal_recall/evaluation/metrics.py``."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py")) if path.parent != SOURCE or path.stem in ROOT}


def imports_of(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports, inside functions and for type hints too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            found = name.removeprefix(f"{PACKAGE}.")
            while found and found not in MODULES:
                found = found.rpartition(".")[0]
            if name.startswith(f"{PACKAGE}.") and found:
                yield found


IMPORTS = {name: {found for found in imports_of(path) if found != name} for name, path in MODULES.items()}


def imports_kedro(path: Path) -> bool:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return any(name.partition(".")[0].startswith("kedro") for name in names)


def room_of(module: str) -> str:
    return module.partition(".")[0]


def test_no_module_lies_at_the_root_but_those_found_by_name() -> None:
    assert {path.stem for path in SOURCE.glob("*.py")} == ROOT
    assert {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"} <= set(FLOOR_OF)


def test_no_import_runs_upward() -> None:
    arrows = [(one, other) for one, found in IMPORTS.items() for other in found if one not in ("", "__init__")]
    upward = [f"{one} -> {other}" for one, other in arrows if FLOOR_OF[room_of(other)] < FLOOR_OF[room_of(one)]]
    assert upward == []


@pytest.mark.parametrize("level", ["modules", "rooms"])
def test_there_is_no_circle(level: str) -> None:
    graph: dict[str, set[str]] = {}
    for one, found in IMPORTS.items():
        ends = (one, found) if level == "modules" else (room_of(one), {room_of(other) for other in found})
        graph.setdefault(ends[0], set()).update(ends[1] - {ends[0]})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("room", ["data", "models", "negatives"])
def test_a_room_of_plain_python_never_imports_kedro(room: str) -> None:
    assert [name for name, path in MODULES.items() if room_of(name) == room and imports_kedro(path)] == []


def test_benchmarks_import_no_tests() -> None:
    sources = sorted((PROJECT / "benchmarks").glob("*.py"))
    nodes = [(path.name, node) for path in sources for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    imported = [(name, node.module) for name, node in nodes if isinstance(node, ast.ImportFrom)]
    imported += [(name, alias.name) for name, node in nodes if isinstance(node, ast.Import) for alias in node.names]
    assert ("kill.py", "benchmarks.small_project") in imported
    assert [found for found in imported if found[1].partition(".")[0] == "tests"] == []


PRIVATE_PLACES = {"runtime.kedro_private", "datasets.atomic"}
"""Modules that may use private names of Kedro."""
NOT_KEDRO = {"_replace", "_reset_state"}
"""A method of named tuples, and one of accelerate."""


def private_names(tree: ast.AST) -> Iterator[str]:
    """Private names that a module imports from Kedro, or reads from an object and does not define itself."""
    nodes = list(ast.walk(tree))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kedro"):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
        else:
            names = [node.attr] if isinstance(node, ast.Attribute) and node.attr not in own | NOT_KEDRO else []
        yield from (name for name in names if name.startswith("_") and not name.startswith("__"))


def test_private_names_of_kedro_stand_in_two_modules() -> None:
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
    users = {name for name, tree in trees.items() if any(private_names(tree)) or "PARAMS_ARG_HELP" in ast.unparse(tree)}
    assert users == PRIVATE_PLACES


def test_the_lock_file_has_a_fitting_version_of_every_requirement() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if not line.startswith("#"))
    locked = {canonicalize_name(name): version for name, version in locked.items()}
    wanted = map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["dev"]])
    assert [str(need) for need in wanted if locked.get(canonicalize_name(need.name), "") not in need.specifier] == []
