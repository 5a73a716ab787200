"""From scores to the official submission, and a check of one."""

import pandas as pd

from multimodal_recall.metrics import K, rank_candidates

COLUMNS = ["query-id", *(f"product{rank}" for rank in range(1, K + 1))]


class SubmissionError(ValueError):
    """A submission is not in the official form; the message lists every fault."""


def make_submission(scores: pd.DataFrame) -> pd.DataFrame:
    """Give each query its five best products.

    Args:
        scores: ``query_id``, ``product_id``, ``score``; at least five candidates a query.

    Returns:
        ``query-id, product1, ..., product5``, one row a query, checked.

    Raises:
        SubmissionError: If a query has fewer than five candidates.
    """
    ranked = rank_candidates(scores)
    best = ranked[ranked["rank"] <= K].pivot(index="query_id", columns="rank", values="product_id")
    short = best.index[best.isna().any(axis=1)]
    if len(short):
        raise SubmissionError(f"{len(short)} queries have fewer than {K} candidates, first {short[0]}")
    submission = best.astype("int64").reset_index().set_axis(COLUMNS, axis=1)
    check_submission(submission, scores)
    return submission


def check_submission(submission: pd.DataFrame, candidates: pd.DataFrame) -> None:
    """Check that a submission can be scored: five different candidates of each query, each query once.

    Args:
        submission: As read with ``pandas.read_csv`` or made by ``make_submission``.
        candidates: ``query_id``, ``product_id`` of the split.

    Raises:
        SubmissionError: With every kind of fault and its first example.
    """
    if list(submission.columns) != COLUMNS:
        raise SubmissionError(f"the header is {list(submission.columns)}, wanted {COLUMNS}")
    ids, products = submission["query-id"], submission[COLUMNS[1:]]
    known = pd.MultiIndex.from_frame(candidates[["query_id", "product_id"]])
    long = submission.melt("query-id", value_name="product_id")
    strangers = long[~pd.MultiIndex.from_frame(long[["query-id", "product_id"]]).isin(known)]
    faults = {
        "queries stand twice": ids[ids.duplicated()],
        "queries are missing": pd.Series(sorted(set(candidates["query_id"]) - set(ids))),
        "queries are not of this split": pd.Series(sorted(set(ids) - set(candidates["query_id"]))),
        "queries name a product twice": ids[products.nunique(axis=1) < K],
        "queries name a product that is no candidate of theirs": strangers["query-id"].drop_duplicates(),
    }
    found = [f"{len(rows)} {fault}, first {rows.iloc[0]}" for fault, rows in faults.items() if len(rows)]
    if found:
        raise SubmissionError("; ".join(found))
