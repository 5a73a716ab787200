"""Nodes in Dask workers: the same results, also when a worker is killed; one clear error for what cannot run there."""

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client
from kedro.io import DataCatalog, Version
from kedro.pipeline import Node, Pipeline
from kedro.runner.task import Task
from kedro.validation.exceptions import DataValidationError
from psutil import Process

from multimodal_recall.config.loader import RememberingConfigLoader
from multimodal_recall.data.chunk_reader import IngestError
from multimodal_recall.datasets.small_files import JsonFile
from multimodal_recall.runtime import dask_runner
from multimodal_recall.runtime.dask_runner import ADDRESS, ClusterError, DaskRunner, NodeExecutor, cut_catalog
from tests.conftest import SMALL, copy_project, run_project, set_options
from tests.test_whole_run import scores_of

pytestmark = pytest.mark.external

# Appended to a project's settings: the first worker that saves these products names itself and goes no further, so
# that it is killed after the first of its node's three outputs.
PAUSE = """
import os, time
from kedro.framework.hooks import hook_impl

class Pause:
    @hook_impl
    def after_dataset_saved(self, dataset_name):
        if dataset_name == "train.chunk_001.products" and not os.path.exists("paused"):
            with open("pausing", "w") as file:
                file.write(str(os.getpid()))
            os.rename("pausing", "paused")
            time.sleep(600)

HOOKS = (*HOOKS, Pause())
"""


@contextmanager
def started(project: Path, *command: str, **variables: str) -> Iterator[subprocess.Popen]:
    """A Python module's process in the project's folder, on the project's own code; killed at the end."""
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1", **variables}
    with subprocess.Popen([sys.executable, "-m", *command], cwd=project, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def cluster(project: Path) -> Iterator[str]:
    """A scheduler's address, with two workers as on two machines; it must outlive what is done with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["distributed.cli.dask_scheduler", "--host=127.0.0.1", f"--port={port}", "--no-dashboard"]
    worker = ["distributed.cli.dask_worker", address, "--nthreads=1", "--no-dashboard", f"--local-directory={project}"]
    with started(project, *scheduler) as running, started(project, *worker), started(project, *worker):
        with Client(address, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
        yield address
        assert running.poll() is None


def tables(project: Path) -> dict[Path, pa.Table]:
    """What ingest and featurize made, by place without version."""
    files = [path for path in (project / "data").glob("0[234]_*/**/*.parquet") if path.is_file()]
    made = {path.parents[1].relative_to(project): pq.read_table(path) for path in files}
    assert len(made) == len(files) > 10
    return made


def test_a_run_with_a_killed_worker_ends_as_without(finished_project: Path, tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    set_options(project, SMALL)
    with (project / "src/multimodal_recall/settings.py").open("a") as settings:
        settings.write(PAUSE)
    run = ["kedro", "run", "--runner=multimodal_recall.runtime.dask_runner.DaskRunner"]
    with cluster(project) as address, started(project, *run, **{ADDRESS: address}) as running:
        while not (paused := project / "paused").exists():
            assert running.poll() is None
            time.sleep(0.05)
        chunk = project / "data/03_primary/shop/train/chunk_001"
        assert [path.name for path in chunk.iterdir()] == ["products.parquet"]
        worker = Process(int(paused.read_text()))
        for process in (worker.parent(), worker):  # the parent would start a new one
            process.kill()
        assert running.wait(240) == 0
    assert tables(project) == tables(finished_project)
    pd.testing.assert_frame_equal(scores_of(project), scores_of(finished_project))
    assert not list((project / "data").rglob("*unfinished*"))


def test_a_nodes_own_error_comes_back_from_workers_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    parameters = {**SMALL, "ingest": {"max_rows_per_chunk": 3}}
    with pytest.raises(IngestError, match=r"more than 3 rows .* Set chunks\.\w+ to at least"):
        run_project(
            copy_project(tmp_path), parameters=parameters, pipeline_names=["make_shop", "ingest"], runner=DaskRunner()
        )
    assert "Completed node: shop.make_" in caplog.text
    assert '--from-nodes "' in caplog.text
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("free", ["between", "last"])
def test_what_would_live_in_memory_is_refused(free: str, tmp_path: Path) -> None:
    catalog = DataCatalog(
        {name: JsonFile(str(tmp_path / name)) for name in ("first", "between", "last") if name != free}
    )
    catalog.save("first", 1)
    nodes = [Node(abs, "first", "between", name="one"), Node(abs, "between", "last", name="two")]
    with pytest.raises(ClusterError, match=rf"^{free}: not in the catalog.*entry in conf/base/<pipeline>/catalog"):
        DaskRunner().run(Pipeline(nodes), catalog)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense"])
def test_a_scheduler_that_does_not_answer(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, address)
    monkeypatch.setattr(dask_runner, "CONNECT_SECONDS", 1)
    catalog = DataCatalog({name: JsonFile(str(tmp_path / name)) for name in ("first", "last")})
    with pytest.raises(ClusterError, match=rf"No Dask scheduler answers at '{address}' .* {ADDRESS} names"):
        DaskRunner().run(Pipeline([Node(abs, "first", "last", name="one")]), catalog)


def test_a_worker_computes_in_the_projects_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a run that was started in a subfolder; paths of the options are relative to the project
    project = copy_project(tmp_path)
    RememberingConfigLoader(str(project / "conf"))
    monkeypatch.chdir(project / "conf/base")
    catalog, node = DataCatalog({name: JsonFile(str(tmp_path / name)) for name in "ab"}), Node(abs, "a", "b", name="n")
    executor = Mock()
    NodeExecutor(executor, {"b"}).submit(Task(node, catalog, is_async=False, hook_manager=Mock()))
    assert executor.submit.call_args.args[2] == str(project)


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "multimodal_recall.runtime.dask_runner")
    with pytest.raises(ModuleNotFoundError, match=r'needs distributed\. Install it with: pip install -e "\.\[scale\]"'):
        import_module("multimodal_recall.runtime.dask_runner")


def test_a_node_gets_its_datasets_with_their_validators_and_this_runs_version(tmp_path: Path) -> None:
    # Given a catalog that has looked up the versions of before the run
    entry = {"type": "multimodal_recall.datasets.small_files.JsonFile", "versioned": True}
    entry |= {"validator": {"class": "multimodal_recall.data.schemas.TableValidator", "options": {"table": "queries"}}}
    names = ("first", "between", "last", "other")
    JsonFile(str(tmp_path / "between"), Version(None, "2026-01-01T00.00.00.000Z")).save(1)
    config = {name: {**entry, "filepath": str(tmp_path / name)} for name in names}
    catalog = DataCatalog.from_config(config, save_version="2026-01-02T00.00.00.000Z")
    assert catalog.exists("between")
    # When a node behind the one that makes `between` gets its part
    node = Node(lambda *_: None, ["between", "first"], "last", name="two")
    cut = cut_catalog(catalog, node, outputs={"between", "last"})
    # Then it cannot take an old version for this run's, nor save what does not fit
    assert set(cut.keys()) == {"between", "first", "last"}
    assert cut.get("between").resolve_load_version() == "2026-01-02T00.00.00.000Z"
    assert catalog.get("between").resolve_load_version() == "2026-01-01T00.00.00.000Z"
    with pytest.raises(DataValidationError):
        cut.save("last", pa.table({"wrong": [1]}))
