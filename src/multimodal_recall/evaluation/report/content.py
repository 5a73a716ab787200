"""What the report shows: the tables it is given, and the figures it computes from them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from multimodal_recall.evaluation.metrics import K
from multimodal_recall.evaluation.rankings import FITTED, LEAK, LEAK_FREE, OWN_LIST

KIND_MEANINGS: Mapping[str, str] = {
    LEAK_FREE: "From photos and words alone, as a shop's search engine would have them: the figures to quote.",
    OWN_LIST: (
        "A candidate's score also depends on the other candidates of its query: on boxes that look like its own, or on "
        "neighbours that it shares with the query. No other query's list is read, so that the leak below plays no "
        "part. But a list of the contest is made of some right products among drawn wrong ones, and a search engine's "
        "own first results are not."
    ),
    FITTED: (
        "Weights or a second model were fitted on answers of this very split. Each query is scored by a fit that did "
        "not see it, so the figures are honest, but a ranking of the first group had no such help."
    ),
    LEAK: (
        "A product that stands in the candidate lists of several queries is rarely the answer of any, because wrong "
        "candidates come from a shared pool and answers mostly do not. Counting over candidate lists therefore tells "
        "answers without a look at a photo or a query. A shop's search engine would have no such lists: these figures "
        "say how strong the leak is, not how good the search. A classifier of a ranker's vectors learns the same "
        "without counting, since it meets the pool's products as wrong ones in other queries' lists."
    ),
}
"""What each kind of ranking means, in the order of the page."""
CHOSEN_ON_VALID = (
    " But the rankers' best epochs were chosen on this very split, which flatters them: bring a testA with answers for "
    "a figure to quote."
)
CONTENT_COLUMNS = {
    "headline": ("ranking", "kind", "ndcg_at_5", "low", "high", "queries"),
    "candidates": ("query_id", "query", "product_id", "score", "rank", "right"),
    "queries": ("query_id", "ndcg_at_5"),
    "breakdown": ("by", "group", "queries", "ndcg_at_5", "low", "high"),
    "calibration": ("predicted", "observed", "candidates"),
    "products": ("product_id", "image_h", "image_w", "top", "left", "bottom", "right", "labels"),
}
LOG_COLUMNS = ("epoch", "loss", "valid_ndcg_at_5")
EXTREMES = 20
"""Queries drawn at each end of the order."""


class ReportError(ValueError):
    """The tables given cannot be shown."""


@dataclass(frozen=True)
class ReportContent:
    """Everything on the page; the columns of the tables are in ``CONTENT_COLUMNS``.

    Raises:
        ReportError: If a table lacks a column, a kind is unknown, headline, queries or candidates are empty, a
            candidate's query is not among the queries, or a candidate is not among the products.
    """

    title: str
    split: str
    confidence: float
    """Share of the resampled means within every interval, 0 to 1."""
    headline: pd.DataFrame
    """One row a ranking; ``kind`` is a key of ``KIND_MEANINGS``."""
    ranking: str
    """The ranking that candidates, queries and breakdown are of."""
    calibration: pd.DataFrame | None
    """See ``reliability``; ``None`` where the scores are no log-odds."""
    candidates: pd.DataFrame
    """One row a candidate, ``rank`` 1 the best of its query, ``right`` a bool, ``query`` a text or missing."""
    queries: pd.DataFrame
    """One row a query."""
    breakdown: pd.DataFrame
    """One row a group of queries, in the order to be shown; ``by`` says what groups them."""
    training_logs: Mapping[str, pd.DataFrame]
    """Of each trained ranker, one row an epoch; empty where none was trained."""
    products: pd.DataFrame | None
    """One row a product; box sides in pixels and label names are lists. ``None`` where boxes are not known."""
    rejected_rows: int | None
    """Rows of the split's file that were left out when it was read; ``None`` where no file was read."""
    photos: Path | None
    """Folder of ``<product_id>.jpg``; a product without one is drawn as its boxes alone."""

    def __post_init__(self) -> None:
        for name, wanted in CONTENT_COLUMNS.items():
            _check_columns(name, getattr(self, name), wanted)
        for ranker, log in self.training_logs.items():
            _check_columns(f"the training log of {ranker}", log, LOG_COLUMNS)
        _check_known("kinds of ranking", self.headline["kind"], KIND_MEANINGS, "a kind of KIND_MEANINGS")
        for name in ("headline", "queries", "candidates"):
            if getattr(self, name).empty:
                raise ReportError(f"{name} of {self.ranking} on {self.split}: no rows, nothing to report")
        _check_known("candidates' queries", self.candidates["query_id"], self.queries["query_id"], "a row of queries")
        if self.products is not None:
            known = self.products["product_id"]
            _check_known("candidates' products", self.candidates["product_id"], known, "a row of products")


def _check_columns(name: str, table: pd.DataFrame | None, wanted: tuple[str, ...]) -> None:
    missing = [] if table is None else [column for column in wanted if column not in table]
    if missing:
        raise ReportError(f"{name} has no column {missing}; found {list(table.columns)}, wanted {list(wanted)}")


def _check_known(what: str, found: pd.Series, known: Iterable, wanted: str) -> None:
    unknown = found[~found.isin(list(known))].unique()
    if len(unknown):
        raise ReportError(f"{len(unknown)} {what} are unknown, first {unknown[0]}; wanted {wanted}")


def order_queries(content: ReportContent) -> pd.DataFrame:
    """Order the queries, worst first: by nDCG@5, then by the mean rank of the right candidates, then by id.

    Returns:
        One row a query: ``query_id``, ``query`` (None if unknown), ``ndcg_at_5``, ``candidates`` (how many), and
        ``right_ranks``, the ranks of its right candidates, ascending.
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
    """The worst queries, worst first, and the best, best first; no query is among both.

    Args:
        ordered: Queries, worst first.
    """
    worst = ordered.head(min(EXTREMES, (len(ordered) + 1) // 2))
    return worst, ordered.iloc[len(worst) :].tail(EXTREMES).iloc[::-1]


def shown_candidates(content: ReportContent, query_ids: pd.Series) -> pd.DataFrame:
    """The first five candidates of some queries and the right ones after them, in order of query and rank."""
    candidates = content.candidates[content.candidates["query_id"].isin(query_ids)]
    shown = candidates[(candidates["rank"] <= K) | candidates["right"]]
    return shown.sort_values(["query_id", "rank"], ignore_index=True)
