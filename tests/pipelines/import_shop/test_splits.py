"""Which queries of a shop are train, valid and testA."""

import datetime as dt

import pandas as pd
import pytest

from multimodal_recall.config.import_options import ImportOptions
from multimodal_recall.pipelines.import_shop.splits import ShopError, split_queries


def right(queries: list[str], days: list[int] | None = None) -> pd.DataFrame:
    dates = [None if days is None else dt.date(2026, 1, 1) + dt.timedelta(day) for day in days or range(len(queries))]
    return pd.DataFrame({"query": queries, "product_id": range(len(queries)), "first_day": dates})


def test_shares_are_as_asked_and_a_query_is_in_one_split() -> None:
    queries = [f"word{number}" for number in range(1_000)]
    split = split_queries(right(queries * 2), ImportOptions())
    assert split.value_counts().to_dict() == {"train": 700, "valid": 150, "testA": 150}
    assert split_queries(right(queries), ImportOptions(most_queries=50)).value_counts()["testA"] == 50
    other = split_queries(right(queries), ImportOptions(seed=1))
    assert (other != split).mean() > 0.2


def test_most_queries_stay_where_they_are_when_others_come() -> None:
    queries = [f"word{number}" for number in range(1_000)]
    before, after = (split_queries(right(queries[:count]), ImportOptions()) for count in (900, 1_000))
    assert (before == after[before.index]).mean() > 0.95


def test_the_same_words_in_another_order_stay_together() -> None:
    queries = [f"{a} word{number} {b}" for number in range(40) for a, b in (("red", "new"), ("new", "red"))]
    split = split_queries(right(queries), ImportOptions())
    assert (split[queries[::2]].to_numpy() == split[queries[1::2]].to_numpy()).all()


def test_queries_without_a_date_are_split_like_others() -> None:
    queries = [f"word{number} red" for number in range(50)] + [f"red word{number}" for number in range(50)]
    some = right(queries, list(range(100)))
    some.loc[::3, "first_day"] = None
    pd.testing.assert_series_equal(split_queries(some, ImportOptions()), split_queries(right(queries), ImportOptions()))


def test_the_newest_queries_are_test_queries() -> None:
    queries = [f"word{number}" for number in range(100)]
    split = split_queries(right(queries, list(range(100))), ImportOptions(split_by="date"))
    assert set(split[queries[-20:]]) == {"testA"}
    assert set(split[queries[-40:-20]]) == {"valid"}
    with pytest.raises(ShopError, match="split_by is date, and the table of clicks has no dates"):
        split_queries(right(queries), ImportOptions(split_by="date"))


def test_a_small_shop_holds_out_a_quarter_and_too_small_a_shop_is_refused() -> None:
    counts = split_queries(right([f"word{number}" for number in range(8)]), ImportOptions()).value_counts()
    assert counts.to_dict() == {"train": 4, "valid": 2, "testA": 2}
    with pytest.raises(ShopError, match="name 3 queries with a right product; wanted at least 4"):
        split_queries(right(["a", "b", "c"]), ImportOptions())
