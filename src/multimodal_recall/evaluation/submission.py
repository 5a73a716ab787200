"""The official submission: made from scores, and checked."""

import logging

import pandas as pd

from multimodal_recall.data.official_format import SUBMISSION_COLUMNS
from multimodal_recall.evaluation.metrics import IDS, K, rank_candidates

logger = logging.getLogger(__name__)


class SubmissionError(ValueError):
    """A submission breaks the official format; the message lists every fault."""


def make_submission(scores: pd.DataFrame) -> pd.DataFrame:
    """Give each query its five best products: ``query-id, product1, ..., product5`` as nullable integers, checked.

    Queries with fewer than five candidates, unknown in the contest, have missing values at the end of the row; their
    number is logged.
    """
    ranked = rank_candidates(scores).astype(dict.fromkeys(IDS, "Int64"))  # float would round long ids
    best = ranked[ranked["rank"] <= K].pivot(index="query_id", columns="rank", values="product_id")
    submission = (
        best.reindex(columns=range(1, K + 1)).astype("Int64").reset_index().set_axis(SUBMISSION_COLUMNS, axis=1)
    )
    check_submission(submission, scores)
    short = submission["query-id"][submission.isna().any(axis=1)]
    if len(short):
        logger.warning(
            "%d queries have fewer than %d candidates, first %d: their rows end with empty cells. The contest refuses "
            "empty cells.",
            *(len(short), K, short.iloc[0]),
        )
    return submission


def check_submission(submission: pd.DataFrame, candidates: pd.DataFrame) -> None:
    """Check that a submission can be scored.

    Each query has one row, with five different products of its candidates (``query_id``, ``product_id``), or all of
    fewer than five.

    Raises:
        SubmissionError: With every kind of fault, its number of queries and the first of them.
    """
    if list(submission.columns) != SUBMISSION_COLUMNS:
        raise SubmissionError(f"the header is {list(submission.columns)}, wanted {SUBMISSION_COLUMNS}")
    ids, products = submission["query-id"], submission[SUBMISSION_COLUMNS[1:]]
    known = pd.MultiIndex.from_frame(candidates[IDS])
    named, listed = products.count(axis=1), ids.map(candidates.groupby("query_id").size().clip(upper=K))
    long = submission.melt("query-id", value_name="product_id").dropna()
    strangers = long[~pd.MultiIndex.from_frame(long[["query-id", "product_id"]]).isin(known)]
    faults = {
        "queries have two rows": ids[ids.duplicated()],
        "queries are missing": pd.Series(sorted(set(candidates["query_id"]) - set(ids))),
        "queries are not of this split": pd.Series(sorted(set(ids) - set(candidates["query_id"]))),
        "queries name a product twice": ids[products.nunique(axis=1) < named],
        "queries leave cells empty though they have more candidates": ids[named < listed],
        "queries name a product that is not their candidate": strangers["query-id"].drop_duplicates(),
    }
    found = [f"{len(rows)} {fault}, first {rows.iloc[0]}" for fault, rows in faults.items() if len(rows)]
    if found:
        raise SubmissionError("; ".join(found))
