"""A report small enough to check by eye, and its like in any size."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from multimodal_recall.evaluation.calibration import reliability
from multimodal_recall.evaluation.report.content import ReportContent
from multimodal_recall.evaluation.report.page import render_page

HEADLINE = pd.DataFrame(
    {
        "ranking": ["counting", "two_tower", "blend"],
        "kind": ["uses the candidate-list leak", "leak-free", "fitted on valid, out of fold"],
        "ndcg_at_5": [0.84, 0.61, 0.63],
        "low": [0.82, 0.58, 0.6],
        "high": [0.86, 0.64, 0.66],
        "queries": [3, 3, 3],
    }
)
BREAKDOWN = pd.DataFrame(
    {"by": "words in the query", "group": ["2", "3"], "queries": [1, 2], "ndcg_at_5": 0.5, "low": 0.4, "high": 0.6}
)
LOG = pd.DataFrame({"epoch": [0, 1], "loss": [0.7, 0.4], "valid_ndcg_at_5": [0.3, 0.6]})


def make_candidates(queries: int, candidates: int, right: int) -> pd.DataFrame:
    """Queries 1, 2, ... of which query q has its right candidates from rank q on; product ids are distinct."""
    query, rank = np.divmod(np.arange(queries * candidates), candidates) + np.array([[1], [1]])
    first = (query - 1) % (candidates - right + 1) + 1
    return pd.DataFrame(
        {
            "query_id": query,
            "query": [f"red shirt number {number}" for number in query],
            "product_id": 1000 * query + rank,
            "score": 2.0 - rank,
            "rank": rank,
            "right": (first <= rank) & (rank < first + right),
        }
    )


def make_products(product_ids: pd.Series, boxes: int) -> pd.DataFrame:
    """Photos of 200 x 100 pixels (height x width), all with the same boxes, the first the smallest."""
    sides = {
        "top": np.arange(boxes)[::-1].tolist(),
        "left": [0.0] * boxes,
        "bottom": np.arange(100, 100 + boxes).tolist(),
        "right": [50.0] * boxes,
    }
    labels = ["shoes", "top clothes (coat, jacket, shirt, etc.)", *["others"] * boxes][:boxes]
    columns = {name: [value] * len(product_ids) for name, value in {**sides, "labels": labels}.items()}
    ids = product_ids.to_numpy()
    titles = [None if product % 2 else f"title of {product}" for product in ids]
    return pd.DataFrame({"product_id": ids, "title": titles, "image_h": 200, "image_w": 100, **columns})


def make_content(queries: int, candidates: int, right: int, boxes: int) -> ReportContent:
    table = make_candidates(queries, candidates, right)
    return ReportContent(
        title="Report",
        split="valid",
        confidence=0.95,
        headline=HEADLINE,
        ranking="two_tower",
        calibration=reliability(table),
        candidates=table,
        queries=pd.DataFrame({"query_id": np.arange(1, queries + 1), "ndcg_at_5": 1 / np.arange(1, queries + 1)}),
        breakdown=BREAKDOWN,
        training_logs={"two_tower": LOG},
        products=make_products(table["product_id"], boxes),
        rejected_rows=3,
        photos=None,
    )


@pytest.fixture(scope="session")
def content() -> ReportContent:
    """Three queries of eight candidates; query 1 is the best, and query 3 misses a right one."""
    return make_content(queries=3, candidates=8, right=4, boxes=2)


@pytest.fixture(scope="session")
def page(content: ReportContent) -> str:
    """The small report's page."""
    return render_page(content)


@pytest.fixture
def changed(content: ReportContent) -> Callable[..., ReportContent]:
    """The small report with some of its fields replaced."""
    return lambda **fields: dataclasses.replace(content, **fields)
