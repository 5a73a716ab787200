"""README.md and docs/*.md are about this tree: their links, maps and commands name what exists."""

import re
import shlex

import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Pipeline

from tests.conftest import PROJECT
from tests.pages import COMMANDS, PAGES, README

LARGEST_README = 9_000  # bytes: a page that is read to its end
LONGEST_TABLE_LINE = 120  # characters
FOLDER_MAP = README.split("\n## Where things are\n")[1].split("\n## ")[0]
FILE_MAP = PAGES["docs/architecture.md"].split("\n## Every file\n")[1].split("\n## ")[0]
RANKERS = PAGES["docs/rankers.md"]
OF_BASE = [command for command in COMMANDS if command.startswith("kedro run") and "--env" not in command]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
LINKED = {**PAGES, "notebooks/README.md": (PROJECT / "notebooks" / "README.md").read_text(encoding="utf-8")}


def outside_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors_of(text: str) -> set[str]:
    """What a Git host makes of the headings: lower case, signs left out, spaces as hyphens."""
    headings = re.findall(r"^#+ (.+)$", outside_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: str, text: str) -> list[str]:
    """The relative links and pictures of a page whose file, or whose heading, does not exist."""
    broken = []
    for link in LINK.findall(outside_blocks(text)):
        target, _, anchor = link.partition("#")
        if re.match(r"\w+:", target):
            continue
        path = (PROJECT / page).parent / target if target else PROJECT / page
        if not path.exists() or (anchor and anchor not in anchors_of(path.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def test_the_readme_is_short() -> None:
    size = (PROJECT / "README.md").stat().st_size
    assert size <= LARGEST_README, f"README.md has {size} bytes: move something to docs/"


@pytest.mark.parametrize("page", LINKED)
def test_every_link_and_picture_exists(page: str) -> None:
    assert broken_links(page, LINKED[page]) == []


def test_a_broken_link_is_found() -> None:
    text = "# A page\n[a](docs/none.md) ![b](none.svg) [c](#a-page) [d](#none) [e](https://none.example/)\n"
    assert broken_links("README.md", text) == ["docs/none.md", "none.svg", "#a-page", "#none"]


def test_a_heading_is_linked_as_a_git_host_does() -> None:
    assert anchors_of("# `a_b`: what, *how*\n```\n# no heading\n```\n") == {"a_b-what-how"}


@pytest.mark.parametrize("page", LINKED)
def test_no_line_of_a_table_is_too_long(page: str) -> None:
    lines = [line for line in outside_blocks(LINKED[page]).splitlines() if line.lstrip().startswith("|")]
    assert [line for line in lines if len(line) > LONGEST_TABLE_LINE] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_a_page_opens_with_what_it_answers_and_the_readme_links_it(page: str) -> None:
    title, blank, opening = PAGES[page].split("\n")[:3]
    assert (title[:2], blank) == ("# ", "")
    assert opening.startswith("This page answers: ")
    assert f"]({page})" in README


@pytest.mark.parametrize("path", re.findall(r"^\| `([\w./]+)` \|", FOLDER_MAP + FILE_MAP, re.MULTILINE))
def test_every_file_of_the_maps_exists(path: str) -> None:
    assert (PROJECT / path).exists()


def test_every_module_stands_in_the_map() -> None:
    source = PROJECT / "src" / "multimodal_recall"
    unnamed = {"__init__.py", "__main__.py", "settings.py", "progress.py"}
    for path in source.iterdir():
        if path.name not in unnamed | {"__pycache__"}:
            assert f"`src/multimodal_recall/{path.name}`" in FILE_MAP, path.name


def test_every_ranker_stands_in_its_table() -> None:
    rankers = {path.stem for path in (PROJECT / "conf/base/rankers").glob("*.yml")}
    assert {name for name in rankers if f"\n| `{name}` |" in RANKERS} == rankers


@pytest.mark.parametrize("command", OF_BASE)
def test_every_command_names_nodes_that_exist(command: str) -> None:
    assert len(OF_BASE) >= 10
    bootstrap_project(PROJECT)
    pipelines.configure("multimodal_recall.pipeline_registry")
    options = dict(word[2:].partition("=")[::2] for word in shlex.split(command)[2:])
    params = dict(pair.partition("=")[::2] for pair in options.get("params", "").split(","))
    with KedroSession.create(
        PROJECT, runtime_params={key: params[key] for key in params if key == "rankers"}
    ) as session:
        session.load_context()
        named = options.get("pipelines", "__default__").split(",")
        chosen = Pipeline([pipelines[name] for name in named]).filter(
            node_names=options["nodes"].split(",") if "nodes" in options else None,
            from_nodes=options["from-nodes"].split(",") if "from-nodes" in options else None,
            node_namespaces=options["namespaces"].split(",") if "namespaces" in options else None,
        )
        assert chosen.nodes
        for pin in options.get("load-versions", "").split(","):
            assert not pin or pin.split(":")[0] in pipelines["__default__"].datasets()
