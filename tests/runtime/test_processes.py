import os
import tempfile
from pathlib import Path

import pytest

from multimodal_recall.runtime.processes import rank, run_in_processes
from tests.training.test_loop import trainer


def number() -> tuple[int | None, str | None]:
    return rank(), os.environ.get("WORLD_SIZE")


@pytest.mark.slow
def test_each_process_knows_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert rank() is None
    assert run_in_processes(2, number) == (0, "2")
    assert not list(tmp_path.iterdir())  # nothing is left behind
    assert run_in_processes(1, number) == (None, None)


def trained_processes() -> int:
    return trainer().accelerator.num_processes


@pytest.mark.parametrize(
    "left", [{"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, {"RANK": "3", "WORLD_SIZE": "8"}]
)
def test_variables_of_a_cluster_start_no_group_and_stay(left: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert run_in_processes(1, trained_processes) == 1
    assert run_in_processes(1, rank) is None
    assert {name: os.environ[name] for name in left} == left
