"""The README's file map and commands are about this tree."""

import re
import shlex

import pytest
import yaml
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from tests.conftest import PROJECT

README = (PROJECT / "README.md").read_text()
FILE_MAP = README.split("\n## Where things are\n")[1].split("\n## ")[0]
RANKERS = README.split("\n## Rankers\n")[1].split("\n## ")[0]
COMMANDS = re.findall(r"\| `(kedro run[^`]*)` \|", README)


@pytest.mark.parametrize("path", re.findall(r"^\| `([\w./]+)` \|", FILE_MAP, re.MULTILINE))
def test_every_file_of_the_map_exists(path: str) -> None:
    assert (PROJECT / path).exists()


def test_every_module_stands_in_the_map() -> None:
    source = PROJECT / "src" / "multimodal_recall"
    unnamed = {"__init__.py", "__main__.py", "settings.py", "progress.py"}
    for path in source.iterdir():
        if path.name not in unnamed | {"__pycache__"}:
            assert f"`src/multimodal_recall/{path.name}`" in FILE_MAP, path.name


def test_every_ranker_stands_in_its_table() -> None:
    recipes = yaml.safe_load((PROJECT / "conf" / "base" / "parameters_rankers.yml").read_text())
    assert {name for name in recipes if f"`{name}`" in RANKERS} == set(recipes)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_nodes_that_exist(command: str) -> None:
    assert len(COMMANDS) >= 10
    bootstrap_project(PROJECT)
    pipelines.configure("multimodal_recall.pipeline_registry")
    options = dict(word[2:].partition("=")[::2] for word in shlex.split(command)[2:])
    with KedroSession.create(PROJECT) as session:
        session.load_context()
        chosen = pipelines[options.get("pipelines", "__default__")]
        chosen = chosen.filter(
            node_names=options["nodes"].split(",") if "nodes" in options else None,
            from_nodes=options["from-nodes"].split(",") if "from-nodes" in options else None,
            node_namespaces=options["namespaces"].split(",") if "namespaces" in options else None,
        )
        assert chosen.nodes
        for pin in options.get("load-versions", "").split(","):
            assert not pin or pin.split(":")[0] in pipelines["__default__"].datasets()
