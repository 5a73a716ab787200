"""A shop with three rankers, their index, and an older model: what a search is served from."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Lock

import pytest
from kedro.io import CatalogProtocol
from starlette.testclient import TestClient

from multimodal_recall.commands.serve.app import make_app
from multimodal_recall.commands.serve.server import allowed_hosts
from multimodal_recall.commands.serve.shop import Shop, open_shop
from multimodal_recall.commands.serve.wanted import Wanted, start_with
from tests.conftest import SMALL, open_catalog, run_project, set_options

RANKERS = ["two_tower", "bag_of_words", "query_likelihood"]


@pytest.fixture(scope="session")
def served_project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished project with two more rankers, two models of ``two_tower``, and an index of the newest models."""
    project = shutil.copytree(finished_project, tmp_path_factory.mktemp("served") / "project")
    quick = {ranker: {"epochs": 1, "batch_size": 50} for ranker in RANKERS[1:]}
    options = {**SMALL, **quick, "rankers": RANKERS, "seed": 3}
    set_options(project, options)
    run_project(project, parameters=options, node_names=[f"{ranker}.train" for ranker in RANKERS])
    run_project(project, parameters=options, pipeline_names=["index"])
    return project


@pytest.fixture
def served(served_project: Path) -> CatalogProtocol:
    return open_catalog(served_project)


@pytest.fixture(scope="session")
def opened(served_project: Path) -> Shop:
    return open_shop(open_catalog(served_project))


@pytest.fixture
def shop(opened: Shop) -> Shop:
    """A shop that has loaded its first ranker alone, and that a test may change."""
    return replace(opened, searchers={opened.first: opened.searchers[opened.first]}, used={}, opening=Lock())


@pytest.fixture
def start(shop: Shop) -> Wanted:
    return start_with(shop.first, 10, (), shop.products.labels)


@pytest.fixture
def client(shop: Shop, start: Wanted) -> Iterator[TestClient]:
    app = make_app(shop, start, allowed_hosts("127.0.0.1", "127.0.0.1"))
    with TestClient(app, "http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client
