"""The content of the report: its tables, checked, and the queries and candidates that it picks from them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from multimodal_recall.evaluation.metrics import K
from multimodal_recall.evaluation.rankings import FITTED, LEAK, LEAK_FREE, OWN_LIST

KIND_MEANINGS: Mapping[str, str] = {
    LEAK_FREE: "Scores from photos and words alone, as a shop's search engine would have them: the figures to quote.",
    OWN_LIST: (
        "A candidate's score also depends on the other candidates of its query: on similar boxes, or on shared "
        "neighbours. The leak below plays no part, since no list of another query is read. But the contest made its "
        "lists of a few right products and many drawn wrong ones, unlike the first results of a search engine."
    ),
    FITTED: (
        "Weights or a second model were fitted on answers of this very split. Each query is scored by a fit that did "
        "not see it, so the figures are honest, but leak-free rankings had no such help."
    ),
    LEAK: (
        "In the contest's lists, a product that stands in several lists is rarely a right answer, because wrong "
        "candidates come from a shared pool and right answers mostly do not. Counting candidate lists therefore finds "
        "right answers without a look at photo or query. A shop's search engine would have no such lists: these "
        "figures measure the leak, not the search. A classifier of a ranker's vectors learns the leak without "
        "counting, since it meets the pool's products as wrong candidates of other queries. The lists that kedro "
        "import-shop draws are made so that counting finds nothing."
    ),
}
"""Meaning of each kind of ranking, in the order of the page."""
CHOSEN_ON_VALID = (
    " But the rankers' best epochs were chosen on this very split, which flatters the figures: add a testA with "
    "answers and quote its figures."
)
CONTENT_COLUMNS = {
    "headline": ("ranking", "kind", "ndcg_at_5", "low", "high", "queries"),
    "candidates": ("query_id", "query", "product_id", "score", "rank", "right"),
    "queries": ("query_id", "ndcg_at_5"),
    "breakdown": ("by", "group", "queries", "ndcg_at_5", "low", "high"),
    "calibration": ("predicted", "observed", "candidates"),
    "products": ("product_id", "title", "image_h", "image_w", "top", "left", "bottom", "right", "labels"),
}
LOG_COLUMNS = ("epoch", "loss", "valid_ndcg_at_5")
EXTREMES = 20
"""Most queries that are drawn as the worst, and as the best."""


class ReportError(ValueError):
    """The report cannot show its tables."""


@dataclass(frozen=True)
class ReportContent:
    """The content of the page; ``CONTENT_COLUMNS`` lists the columns of the tables.

    Raises:
        ReportError: If a table lacks a column or rows, a kind is unknown, a candidate's query is not among the queries,
            or a candidate is not among the products.
    """

    title: str
    split: str
    confidence: float
    """Confidence of the intervals, 0 to 1."""
    headline: pd.DataFrame
    """One row a ranking; ``kind`` is a key of ``KIND_MEANINGS``."""
    ranking: str
    """Name of the ranking behind ``calibration``, ``candidates``, ``queries`` and ``breakdown``."""
    calibration: pd.DataFrame
    """One row a bin; see ``reliability``."""
    candidates: pd.DataFrame
    """One row a candidate: ``score`` as log-odds, ``rank`` from 1, ``right`` a bool, ``query`` a text or missing."""
    queries: pd.DataFrame
    """One row a query."""
    breakdown: pd.DataFrame
    """One row a group of queries, in the order of the page; ``by`` names the property that groups them."""
    training_logs: Mapping[str, pd.DataFrame]
    """By trained ranker, one row an epoch; empty where no ranker was trained."""
    products: pd.DataFrame | None
    """One row a product; title a text or missing, box sides (pixels) and label names lists. ``None`` where boxes are
    not known."""
    rejected_rows: int | None
    """Rows of the split's file that could not be read; ``None`` where the split has no file."""
    photos: Path | None
    """Absolute path of the folder of photos; see ``drawings.find_photo``."""
    verdict: str = ""
    """Whether ``ranking`` beats random order and the like, in words; empty where that is not known."""
    features: str = ""
    """What the boxes' features come from, in words; empty where the page need not say it."""

    def __post_init__(self) -> None:
        for name, wanted in CONTENT_COLUMNS.items():
            _check_columns(name, getattr(self, name), wanted)
        for ranker, log in self.training_logs.items():
            _check_columns(f"the training log of {ranker}", log, LOG_COLUMNS)
        _check_known("kinds of ranking", self.headline["kind"], KIND_MEANINGS, "a kind of KIND_MEANINGS")
        for name in ("headline", "calibration", "candidates", "queries", "breakdown"):
            if getattr(self, name).empty:
                raise ReportError(f"{name} of {self.ranking} on {self.split} has no rows: run evaluate again")
        _check_known("candidates' queries", self.candidates["query_id"], self.queries["query_id"], "a row of queries")
        if self.products is not None:
            known = self.products["product_id"]
            _check_known("candidates' products", self.candidates["product_id"], known, "a row of products")


def _check_columns(name: str, table: pd.DataFrame | None, wanted: tuple[str, ...]) -> None:
    missing = [] if table is None else [column for column in wanted if column not in table]
    if missing:
        raise ReportError(f"{name} lacks the columns {missing}: it has {list(table.columns)}, wanted {list(wanted)}")


def _check_known(things: str, found: pd.Series, known: Iterable, wanted: str) -> None:
    unknown = found[~found.isin(list(known))].unique()
    if len(unknown):
        raise ReportError(f"{len(unknown)} {things} are unknown, first {unknown[0]}; wanted {wanted}")


def order_queries(content: ReportContent) -> pd.DataFrame:
    """Order the queries, worst first: by nDCG@5, then by the mean rank of the right candidates, then by id.

    Returns:
        One row a query: ``query_id``, ``query`` (None if unknown), ``ndcg_at_5``, ``candidates`` (their number), and
        ``right_ranks``, the list of the right candidates' ranks, ascending.
    """
    groups = content.candidates.groupby("query_id")
    right = content.candidates[content.candidates["right"]].sort_values("rank").groupby("query_id")["rank"]
    table = content.queries[["query_id", "ndcg_at_5"]].assign(
        query=lambda t: t["query_id"].map(groups["query"].first()).astype(object),
        candidates=lambda t: t["query_id"].map(groups.size()).fillna(0).astype(int),
        right_ranks=lambda t: [
            ranks if isinstance(ranks, list) else [] for ranks in t["query_id"].map(right.agg(list))
        ],
        mean_rank=lambda t: t["query_id"].map(right.mean()),
    )
    table["query"] = table["query"].where(table["query"].notna(), None)
    order = {"ndcg_at_5": True, "mean_rank": False, "query_id": True}
    table = table.sort_values(list(order), ascending=list(order.values()), na_position="first", ignore_index=True)
    return table.drop(columns="mean_rank")


def extremes(ordered: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pick the worst queries, worst first, and the best queries, best first; no query is in both.

    ``ordered`` stands worst first.
    """
    worst = ordered.head(min(EXTREMES, (len(ordered) + 1) // 2))
    return worst, ordered.iloc[len(worst) :].tail(EXTREMES).iloc[::-1]


def shown_candidates(content: ReportContent, query_ids: pd.Series) -> pd.DataFrame:
    """Pick the first five candidates and all right candidates of the queries, in order of query and rank."""
    candidates = content.candidates[content.candidates["query_id"].isin(query_ids)]
    shown = candidates[(candidates["rank"] <= K) | candidates["right"]]
    return shown.sort_values(["query_id", "rank"], ignore_index=True)
