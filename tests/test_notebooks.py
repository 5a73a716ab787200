"""The notebooks lie here without outputs, and run top to bottom on what a run has saved."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import PROJECT

pytestmark = pytest.mark.docs

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def execute(path: Path, project: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a notebook in a kernel that was started in a folder of a project."""
    # Kedro finds it where the kernel is started in the project's folder only; else an error's text stays in rich output
    monkeypatch.setenv("KEDRO_LOGGING_CONFIG", str(project / "conf" / "logging.yml"))
    notebook = nbformat.read(path, as_version=4)
    # Raises CellExecutionError with the cell and its traceback
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    *_, heading, answer = notebook.cells
    assert (heading.source, bool(answer.outputs)) == ("## Answer", True), "the last cell answers the question"


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 3


@each_notebook
def test_it_has_no_outputs_and_opens_with_kedro(path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "nbstripout", "--verify", path], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, f"run: nbstripout {path}"
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert code[0] == "%load_ext kedro.ipython"
    assert not any("data/" in source for source in code), "a path of one environment: ask the catalog"


@each_notebook
def test_it_runs_on_a_tiny_shop(path: Path, finished_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(path, finished_project, finished_project, monkeypatch)


@each_notebook
def test_it_runs_on_the_default_run(path: Path, default_run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    project, _ = default_run
    (project / "notebooks").mkdir(exist_ok=True)
    execute(path, project, project / "notebooks", monkeypatch)
