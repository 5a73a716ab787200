"""The README's first command, but for the installation: the default run as it is shipped."""

from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow


def test_the_default_run_learns_attributes_and_not_only_nouns(default_run: tuple[Path, str]) -> None:
    project, printed = default_run
    saved = next((project / "data/08_reporting/shop/comparison.csv").iterdir()) / "comparison.csv"
    comparison = pd.read_csv(saved).set_index(["split", "ranking"])
    for split in ("valid", "testA"):
        table = comparison.loc[split]
        assert 0.14 < table.loc["random order", "nDCG@5"] < 0.27
        assert table.loc["noun alone", "nDCG@5"] < 0.40
        assert table.loc["two_tower", "low"] > table.loc["noun alone", "high"] + 0.05
        assert table.loc["generator's truth", "nDCG@5"] == 1.0
    assert "two_tower" in printed  # the table is printed
