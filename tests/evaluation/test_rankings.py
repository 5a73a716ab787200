import numpy as np
import pandas as pd
import pytest

from multimodal_recall.evaluation.metrics import MetricError
from multimodal_recall.evaluation.rankings import (
    REFERENCES,
    TITLE_RANKINGS,
    blended_rankings,
    fitted_rankings,
    join_scores,
    refuse_taken_names,
    rescored_rankings,
    ruled_rankings,
)


def scores(**models: list[float]) -> pd.DataFrame:
    length = len(next(iter(models.values())))
    return pd.DataFrame({"query_id": 1, "product_id": range(10, 10 + length), **models})


def test_scores_are_joined_by_candidate_and_not_by_row() -> None:
    given = scores(theirs=[1.0, 2.0, 3.0]).iloc[::-1]
    joined = join_scores({"two_tower": scores(two_tower=[0.1, 0.2, 0.3]), "given": given})
    assert joined.columns.tolist() == ["query_id", "product_id", "two_tower", "theirs"]
    assert joined["theirs"].tolist() == [1.0, 2.0, 3.0]
    assert join_scores({"given": given})["theirs"].tolist() == [3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (scores(a=[0.1, np.nan]), "1 scores of 'a' in given are NaN, first of query 1, product 11"),
        (pd.concat([scores(a=[0.1])] * 2), "1 rows of given repeat a candidate, first of query 1, product 10"),
        (scores(a=[0.1]).drop(columns="query_id"), r"given has the columns \['product_id', 'a'\]: wanted query_id"),
        (scores(a=[0.1])[["query_id", "product_id"]], "wanted query_id, product_id and a column a model"),
        (scores(a=["high"]), "given: a holds (object|str), wanted numbers"),
        (scores(a=[0.1]).astype({"query_id": float}), "given: query_id holds float64, wanted numbers"),
        (scores(a=[0.1]).iloc[:0], "given has no rows: give each candidate a row, or delete the file"),
        (
            scores(a=[0.1, 1e308]),
            r"1 scores of 'a' in given are beyond 1e\+100, first of query 1, product 11: give small",
        ),
        (scores(a=[-np.inf, 1.0]), r"1 scores of 'a' in given are beyond 1e\+100, first of query 1, product 10"),
        (scores(a=[np.inf, 1.0]).astype({"a": np.float32}), r"1 scores of 'a' in given are beyond 1e\+100"),
        (
            scores(a=[0.1]).assign(product_id=np.array([2**63], np.uint64)),
            "given: product_id holds 9223372036854775808, and ids are whole numbers of 64 bits",
        ),
        (scores(a=[0.1, 0.2, 0.3]), "given scores 3 candidates, the sources before 2, and 2 candidates are in both"),
        (scores(ours=[0.1, 0.2]), r"given has scores of \['ours'\], and so has another source"),
    ],
)
def test_bad_scores_are_refused(given: pd.DataFrame, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        join_scores({"ours": scores(ours=[0.5, 0.6]), "given": given})


@pytest.mark.parametrize("name", ["__index_level_0__", "Unnamed: 0", "index", "level_0", "row_nr", "rowid", ""])
def test_an_index_column_is_refused_by_name(name: str) -> None:
    given = scores(a=[0.1, 0.2]).assign(**{name: [0, 1]})
    with pytest.raises(MetricError, match=f"given: the column '{name}' numbers the rows, as tools write it"):
        join_scores({"given": given})


def test_a_column_that_counts_the_rows_is_refused_under_any_name() -> None:
    given = scores(a=[0.5] * 12).assign(line=range(1, 13))
    with pytest.raises(MetricError, match="given: the column 'line' numbers the rows"):
        join_scores({"given": given})
    votes = given.assign(line=[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11])
    assert join_scores({"given": votes})["line"].tolist()[-2:] == [11, 11]


def test_half_precision_and_small_integer_ids_are_taken() -> None:
    given = scores(a=[0.5, 0.25, 0.125]).astype({"a": np.float16, "query_id": np.int8, "product_id": np.uint64})
    joined = join_scores({"given": given, "ours": scores(ours=[1.0, 2.0, 3.0])})
    assert [str(kind) for kind in joined.dtypes] == ["int64", "int64", "float32", "float64"]
    assert joined["a"].tolist() == [0.5, 0.25, 0.125]


def test_counts_of_all_splits_are_a_ruled_ranking_only_where_they_differ() -> None:
    table = scores(a=[0.1, 0.2])
    assert len(ruled_rankings(table, "a", np.array([1, 1]), 0.92)) == 3
    assert "a, keep-once all splits" in ruled_rankings(table, "a", np.array([1, 4]), 0.92)


def test_named_blends_stand_beside_those_of_all_models() -> None:
    table = scores(a=[0.0, 1.0, 2.0], b=[0.0, 30.0, 10.0], c=[5.0, 0.0, 0.0])
    assert blended_rankings(table[["query_id", "product_id", "a"]], {}) == {}
    blends = blended_rankings(table, {"a and b": ("a", "b")})
    assert "sum of ranks" in blends
    assert blends["a and b, sum of z-scores"]["score"].argsort().tolist() == [0, 2, 1]
    alone = blended_rankings(table.drop(columns="c"), {})["sum of z-scores"]
    pd.testing.assert_frame_equal(blends["a and b, sum of z-scores"], alone)


def test_nothing_is_fitted_to_one_model() -> None:
    made, fits = fitted_rankings(scores(a=[0.1, 0.2]), {1: [10]}, np.ones(2), {}, 2, 2, 0)
    assert not any(made.values())
    assert len(fits) == 0


def test_a_model_that_is_called_as_one_of_our_rankings_is_refused() -> None:
    lists = [scores(a=[1.0, 0.0], b=[0.5, 0.2], c=[0.5, 0.5]).assign(query_id=query) for query in (1, 2)]
    table = pd.concat(lists, ignore_index=True)
    ids = table[["query_id", "product_id"]]
    fitted, _ = fitted_rankings(table, {1: [10], 2: [10]}, np.ones(4), {"b": (ids, np.eye(4))}, 2, 2, 0)
    names = [
        *blended_rankings(table, {"a and b": ("a", "b")}),
        *rescored_rankings({"a": ids.assign(smoothed=table["a"], reranked=table["b"])}),
        *ruled_rankings(table, "b", np.full(4, 9), 0.92),
        *(name for rankings in fitted.values() for name in rankings),
        *REFERENCES.values(),
        *TITLE_RANKINGS.values(),
    ]
    assert len(names) == 5 + 2 + 4 + 5 + 3 + 2
    for name in names:
        with pytest.raises(
            MetricError, match=r"there are scores of .*, but evaluate gives this name to a ranking of its own: rename"
        ):
            refuse_taken_names(table.rename(columns={"c": name}), ["a and b"], 0.92)
    refuse_taken_names(table.rename(columns={"c": "sum"}), ["a and b"], 0.92)
