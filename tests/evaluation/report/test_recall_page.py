"""The report of a search in the whole catalogue."""

import re

import numpy as np
import pandas as pd
import pytest

from multimodal_recall.evaluation.recall import COVERAGE, TITLES
from multimodal_recall.evaluation.report.recall_page import render_recall

HOSTILE = "<script>throw Error('run')</script> a_b$c$"
RANKINGS = ("random order", "bag_of_words", HOSTILE)


def make_recall() -> pd.DataFrame:
    """Values 0.01, 0.02, ... in the order of rankings and measures; the last ranking has a second stage."""
    rows = [(name, measure) for name in RANKINGS for measure in (*TITLES.values(), COVERAGE)]
    table = pd.DataFrame(rows, columns=["ranking", "measure"])
    value = np.arange(1, len(table) + 1) / 100
    with_ceiling = (table["ranking"] == HOSTILE) & table["measure"].str.startswith("recall")
    ceiling = np.where(with_ceiling, 0.75, np.nan)
    facts = {"split": "testA", "queries": 120, "products": 10_498}
    return table.assign(value=value, low=value - 0.005, high=value + 0.005, ceiling=ceiling, **facts)


def make_speed() -> pd.DataFrame:
    row = {"ranker": "bag_of_words", "search": "exact", "products": 10_498, "queries": 120, "recall@10": 1.0}
    row |= {"ms to encode": 0.25, "bytes": 520.0}
    warm, cold = ({f"p{part} {name} ms": part / 10 for part in (50, 95, 99)} for name in ("warm", "cold"))
    return pd.DataFrame([{**row, **warm, **cold}, {**row, "search": "approximate", "recall@10": 0.987, **warm}])


@pytest.fixture(scope="module")
def page() -> str:
    return render_recall(make_recall(), make_speed(), 0.95)


def test_each_ranking_has_a_row_with_its_measures(page: str) -> None:
    rows = [re.sub(r"<[^>]+>|\s+", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", page, re.S)]
    numbers = rows[1 : 1 + len(RANKINGS)]
    assert numbers[0][:6] == ["random", "order", "0.010", "0.005", "–", "0.015"]
    assert numbers[0][-1] == "0.130"  # coverage; a single stage has no ceiling
    assert numbers[2][-1] == "0.750"
    assert "What 120 queries of testA find in 10,498 products" in page
    assert "95 % interval" in page


def test_the_times_of_each_search_are_shown_and_no_time_is_made_up(page: str) -> None:
    exact, approximate = re.findall(r"<td>(?:exact|approximate)</td>.*?</tr>", page, re.S)
    assert re.findall(r'number">([\d.]*)<', exact) == ["1.000", *["5.0", "9.5", "9.9"] * 2, "0.25", "520"]
    assert re.findall(r'number">([\d.]*)<', approximate) == ["0.987", "5.0", "9.5", "9.9", "", "", "", "0.25", "520"]


def test_names_are_text(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search("https?:", re.sub(r'xmlns(:\w+)?="[^"]*"', "", page))


def test_the_same_tables_give_the_same_page(page: str) -> None:
    assert render_recall(make_recall(), make_speed(), 0.95) == page
