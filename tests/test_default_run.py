"""The README's first command, but for the installation: the default run as it is shipped."""

import subprocess
import sys
from pathlib import Path

import pandas as pd

from tests.conftest import copy_project


def test_the_default_run_learns_attributes_and_not_only_nouns(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    finished = subprocess.run(
        [sys.executable, "-m", "kedro", "run"], cwd=project, capture_output=True, text=True, check=False, timeout=1200
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    saved = next((project / "data/08_reporting/shop/comparison.csv").iterdir()) / "comparison.csv"
    comparison = pd.read_csv(saved).set_index(["split", "ranking"])
    for split in ("valid", "testA"):
        table = comparison.loc[split]
        assert 0.14 < table.loc["random order", "nDCG@5"] < 0.27
        assert table.loc["noun alone", "nDCG@5"] < 0.40
        assert table.loc["two_tower", "low"] > table.loc["noun alone", "high"] + 0.05
        assert table.loc["generator's truth", "nDCG@5"] == 1.0
    assert "two_tower" in finished.stdout  # the table is printed
