"""Which queries of a shop are train, valid and testA."""

import hashlib

import pandas as pd

from multimodal_recall.config.import_options import ImportOptions
from multimodal_recall.config.layout import SHOP_SPLITS
from multimodal_recall.data.text import words_of

FEW_QUERIES = 20
"""A small shop holds out so many queries for valid, and for testA, or a quarter of all if that is fewer."""


class ShopError(Exception):
    """A shop's tables hold too little to make splits or candidates of."""


def split_queries(right: pd.DataFrame, options: ImportOptions) -> pd.Series:
    """Give the split of each query text that has a right product.

    A query is in one split with all its clicks. Queries that hold the same words in another order stay together. Drawn
    queries are ordered by a digest of their words, so that a query keeps its split when others come.

    Args:
        right: The right rows of ``shop_clicks``.
        options: ``split_by``, ``held_out_share``, ``most_queries`` and ``seed``.

    Raises:
        ShopError: If there are too few queries for three splits, or no dates to split by.
    """
    queries = right.drop_duplicates("query").set_index("query")
    words = queries.index.map(lambda query: " ".join(sorted(words_of(query))))
    groups = pd.DataFrame({"words": words, "day": queries["first_day"].to_numpy()}, queries.index)
    order = groups.groupby("words")["day"].max().reset_index()
    if options.split_by == "date" and order["day"].isna().any():
        raise ShopError("import_shop.split_by is date, and the table of clicks has no dates. Set it to query")
    order["digest"] = [_digest(text, options.seed) for text in order["words"]]
    by_day = options.split_by == "date"
    order = order.sort_values(["day", "digest"] if by_day else "digest", ascending=False, kind="stable")
    count = _held_out(len(order), options)
    names = [SHOP_SPLITS[2]] * count + [SHOP_SPLITS[1]] * count + [SHOP_SPLITS[0]] * (len(order) - 2 * count)
    return groups["words"].map(dict(zip(order["words"], names, strict=True)))


def _held_out(queries: int, options: ImportOptions) -> int:
    few = min(FEW_QUERIES, queries // 4)
    count = min(options.most_queries, max(few, round(options.held_out_share * queries)))
    if count < 1:
        raise ShopError(
            f"the clicks name {queries} queries with a right product; wanted at least 4, to learn from some and to "
            "measure on others. Take a longer log, or lower import_shop.min_clicks and min_click_share"
        )
    return count


def _digest(text: str, seed: int) -> str:
    return hashlib.blake2b(f"{seed} {text}".encode(), digest_size=16).hexdigest()
