"""Right products from TREC's judgements, which may be graded, of some queries alone, and of any product."""

import pandas as pd

from multimodal_recall.evaluation.metrics import IDS, MetricError


def take_judgements(
    qrels: pd.DataFrame, candidates: pd.DataFrame, split: str
) -> tuple[pd.DataFrame, dict[int, list[int]], str]:
    """Take the judgements about the queries of a split; right is a relevance of 1 or more.

    Left out are other queries, and queries without a right product, for which no measure is defined. A right product
    that is no candidate stays an answer: a search of the catalogue may find it.

    Args:
        qrels: ``query_id``, ``product_id``, ``relevance``.
        candidates: ``query_id``, ``product_id`` of the split.
        split: Its name, for messages.

    Returns:
        The rows of ``qrels`` that are left, the right products of each query, and what was left out, in words.

    Raises:
        MetricError: If no query is left.
    """
    listed = candidates["query_id"].drop_duplicates()
    right = qrels[(qrels["relevance"] >= 1) & qrels["query_id"].isin(listed)]
    queries, asked = right["query_id"].nunique(), qrels["query_id"].nunique()
    if right.empty:
        raise MetricError(
            f"the qrels of {split} judge {asked:,} queries. None of these is one of the {len(listed):,} queries of "
            f"{split} and has a right product (relevance 1 or more). Take the query ids of {split}"
        )
    unlisted = len(right) - len(right.merge(candidates[IDS].drop_duplicates(), on=IDS))
    told = (
        f"qrels of {split}: {queries:,} of its {len(listed):,} queries have a right product and are measured. Left "
        f"out: {asked - queries:,} further queries of the qrels. {unlisted:,} of {len(right):,} right products are no "
        "candidates"
    )
    answers = right.groupby("query_id", sort=False)["product_id"].agg(list).to_dict()
    return qrels[qrels["query_id"].isin(right["query_id"])], answers, told
