"""Data small enough to check by eye, and a project small enough to run whole."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from benchmarks import small_project
from benchmarks.small_project import PROJECT, copy_project
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol

from multimodal_recall.config.loader import RememberingConfigLoader
from multimodal_recall.data.official_format import OfficialRow
from multimodal_recall.runtime import cores, device
from multimodal_recall.runtime.device import Hardware
from tests.tiny_rankers import arrays, options, pairs, ranker  # noqa: F401  (fixtures of several folders)

SHARED = PROJECT.parent / "shared"
LEADERBOARD = SHARED / "leaderboard"

SMALL_DISK = 1 << 20  # bytes

SMALL: dict[str, Any] = {**small_project.SMALL}
"""Options of a shop of seconds, on the hardware that the tests force: whole runs check the wiring, not the score."""

PRECISION = "TESTED_PRECISION"
"""Environment variable with the precision that the tests force; processes that tests start inherit it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="what the tests compute in",
    )


def pytest_configure(config: pytest.Config) -> None:
    os.environ[PRECISION] = config.getoption("--precision")
    SMALL["hardware"] = forced_options()
    if importlib.util.find_spec("ibis") is None:  # Kedro looks for it once an option and catalog, 330 times a command
        sys.modules["ibis"] = None  # type: ignore[assignment]


REFUSE_SKIPS = "REFUSE_SKIPS"
"""Environment variable of CI: a test that is skipped for want of a tool or of shared data fails."""


def refuse_skip(report: Any, keywords: Collection[str]) -> Any:
    """The report of a skipped test or file as a failure, unless it waits for a GPU."""
    if os.environ.get(REFUSE_SKIPS) and report.skipped and not hasattr(report, "wasxfail") and "gpu" not in keywords:
        report.outcome, report.longrepr = "failed", f"{REFUSE_SKIPS} is set. {report.longrepr[2]}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    return refuse_skip((yield), item.keywords)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    return refuse_skip((yield), collector.keywords)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that mounts a small disk needs Linux and root: tier ``external``."""
    for item in items:
        if "disk" in item.fixturenames:
            item.add_marker("external")


TIERS = ("slow", "external", "docs")
"""Tests that a plain ``pytest`` leaves out."""
LEFT_OUT: Counter[str] = Counter()


def pytest_deselected(items: list[pytest.Item]) -> None:
    LEFT_OUT.update(tier for tier in TIERS for item in items if item.get_closest_marker(tier))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist
        session.config.workeroutput["left_out"] = dict(LEFT_OUT)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for tier, count in getattr(node, "workeroutput", {}).get("left_out", {}).items():
        LEFT_OUT[tier] = count  # each worker leaves out the same tests


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LEFT_OUT:
        counts = ", ".join(f"{count} {tier}" for tier, count in LEFT_OUT.items())
        terminalreporter.write_line(f"left out: {counts}. Run them with: pytest -m '{' or '.join(LEFT_OUT)}'")


def forced_options(**changes: object) -> dict[str, object]:
    """The options that tests run with on any machine: ``hardware`` of the parameters."""
    return {"device": "cpu", "precision": os.environ[PRECISION], "threads": 1, **changes}


def forced_hardware() -> Hardware:
    """What tests compute with on any machine, and in the processes that they start."""
    return Hardware("cpu", os.environ[PRECISION], threads=1)


def by_precision(float32: float, bfloat16: float) -> float:
    """A tolerance for what is computed in the forced precision."""
    return {"float32": float32, "bfloat16": bfloat16}[os.environ[PRECISION]]


@pytest.fixture(autouse=True)
def clean_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts with one thread, and with no configuration, accelerate state or variables of another."""
    import torch
    from accelerate.state import AcceleratorState

    for name in [name for name in os.environ if name.startswith(("RANK", "WORLD_SIZE", "LOCAL_RANK", "OMP_NUM"))]:
        monkeypatch.delenv(name)
    # The allocator's setting cannot be taken back; a test of its own starts a process for it.
    monkeypatch.setattr("multimodal_recall.training.ranker.keep_freed_memory", lambda: False)
    torch.set_num_threads(1)
    yield
    RememberingConfigLoader.current = None
    AcceleratorState._reset_state(reset_partial_state=True)
    cores.share_cores(1)
    device._log_once.cache_clear()


def make_row(product_id: int = 1, boxes: int = 2, query: str = "red shirt", **changes: object) -> OfficialRow:
    """A sound row of a 100 x 200 image, features 8 wide."""
    random = np.random.default_rng(product_id)
    corner = random.integers(0, 50, (boxes, 2))
    fields = {
        "product_id": product_id,
        "image_h": 100,
        "image_w": 200,
        "boxes": np.column_stack([corner, corner + random.integers(1, 50, (boxes, 2))]).astype(np.float32),
        "features": random.random((boxes, 8), np.float32),
        "labels": random.integers(0, 33, boxes),
        "query": query,
        "query_id": 7,
    }
    return OfficialRow(**{**fields, **changes})


def run_project(project: Path, env: str | None = None, parameters: dict | None = None, **how: object) -> None:
    """What ``kedro run`` does, in this process."""
    bootstrap_project(project)
    pipelines.configure("multimodal_recall.pipeline_registry")
    parameters = {"hardware": forced_options(), **(SMALL if parameters is None else parameters)}
    with KedroSession.create(project, env=env, runtime_params=parameters) as session:
        session.run(**how)


def open_catalog(project: Path, env: str | None = None) -> CatalogProtocol:
    """The catalog of a notebook that is opened now, on the hardware that the tests force."""
    bootstrap_project(project)
    with KedroSession.create(project, env=env, runtime_params={"hardware": forced_options()}) as session:
        return session.load_context().catalog


_opened = lru_cache(maxsize=8)(open_catalog)  # 0.6 s of CPU each


def load(project: Path, name: str, env: str | None = None) -> Any:
    """What ``catalog.load`` gives in a notebook: the newest version."""
    catalog = _opened(project, env)
    catalog.release(name)  # else the catalog takes the version that it found before
    return catalog.load(name)


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose whole default run is done, on the small shop; tests that change it copy it first."""
    project = copy_project(tmp_path_factory.mktemp("finished"))
    run_project(project)
    return project


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project whose default run is done as shipped, and what it printed; takes minutes. Tests only read it."""
    project = copy_project(tmp_path_factory.mktemp("default"))
    finished = subprocess.run(
        [sys.executable, "-m", "kedro", "run"], cwd=project, capture_output=True, text=True, check=False, timeout=1200
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return project, finished.stdout


@pytest.fixture(scope="session")
def leaderboard_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has evaluated the real scores of published models."""
    if not LEADERBOARD.exists():
        pytest.skip(f"{LEADERBOARD} with the real scores is not here")
    folder = tmp_path_factory.mktemp("leaderboard")
    (folder / "shared").symlink_to(LEADERBOARD.parent)
    (folder / "project").mkdir()
    project = copy_project(folder / "project")
    run_project(project, env="leaderboard", parameters={"evaluate": {"bootstrap_draws": 100}})
    return project


@pytest.fixture
def run_copy(finished_project: Path, tmp_path: Path) -> tuple[Path, Callable[..., None]]:
    """A copy of the finished project, and a function that runs it."""
    project = shutil.copytree(finished_project, tmp_path / "project")
    return project, lambda **how: run_project(project, **how)


def set_options(project: Path, values: dict[str, Any]) -> None:
    """Make these the options of whoever works in the project."""
    (project / "conf/local").mkdir(exist_ok=True)
    (project / "conf/local/parameters.yml").write_text(json.dumps(values))


@pytest.fixture(scope="session")
def indexed_project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished project with its index and its options; tests that change it take ``indexed``."""
    project = shutil.copytree(finished_project, tmp_path_factory.mktemp("indexed") / "project")
    set_options(project, SMALL)
    run_project(project, pipeline_names=["index"])
    return project


@pytest.fixture
def indexed(indexed_project: Path, tmp_path: Path) -> tuple[Path, Callable[..., None]]:
    """A copy of the indexed project, and a function that runs it."""
    project = shutil.copytree(indexed_project, tmp_path / "project")
    return project, lambda **how: run_project(project, **how)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    pictures = pytest.importorskip("benchmarks.pictures", reason="kedro-viz or playwright is not installed")
    if not shutil.which("chromium"):
        pytest.skip("chromium is not installed: apt-get install chromium")
    with pictures.browser() as chromium:
        yield chromium


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of ``SMALL_DISK`` bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "none", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs Linux and root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def read_leaderboard() -> tuple[pd.DataFrame, dict[int, list[int]], np.ndarray]:
    """Real scores (a column a published model), answers, and in how many lists of all splits each product stands."""
    scores = pd.read_parquet(LEADERBOARD / "valid_scores.parquet")
    raw = json.loads((LEADERBOARD / "valid_answer.json").read_text())
    counts = pd.read_parquet(LEADERBOARD / "product_counts.parquet")
    lists = scores.merge(counts, how="left", on=["query_id", "product_id"])["lists_with_product"]
    return scores, {int(query): right for query, right in raw.items()}, lists.to_numpy()
