from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from kedro.io import DatasetError

from multimodal_recall.data.official_format import RawFileError
from multimodal_recall.data.schemas import TABLES
from multimodal_recall.data.titles import add_titles, titles_of
from multimodal_recall.datasets.parquet_table import TitlesParquet


def saved(folder: Path, **columns: object) -> TitlesParquet:
    """A file that a user brings."""
    pq.write_table(pa.table(columns), folder / "titles.parquet")
    return TitlesParquet(str(folder / "titles.parquet"))


def test_each_product_gets_its_title_or_null(tmp_path: Path) -> None:
    titles = saved(tmp_path, product_id=[7, 5, 6, 7, 5], title=["boots", None, "", "boots", "hat"]).load()
    assert titles_of(titles, pa.array([5, 9, 7, 6, 5])).to_pylist() == ["hat", None, "boots", "", "hat"]


def test_polars_and_small_integers_write_other_widths(tmp_path: Path) -> None:
    columns = {"more": [1], "title": pa.array(["boots"], pa.large_string()), "product_id": pa.array([7], pa.int32())}
    titles = saved(tmp_path, **columns).load()
    assert titles.schema.equals(TABLES["titles"])
    assert titles_of(titles, pa.array([7])).equals(pa.array(["boots"]))


def test_two_titles_of_one_product_are_refused_where_the_product_is_read(tmp_path: Path) -> None:
    titles = saved(tmp_path, product_id=[7, 7, 3, 3, 5], title=["boots", "hat", "a", "b", "dress"]).load()
    with pytest.raises(
        RawFileError, match=r"titles.parquet: 2 products have two different titles, such as \[3, 7\]. K"
    ):
        titles_of(titles, pa.array([7, 5, 3]))
    assert titles_of(titles, pa.array([5])).to_pylist() == ["dress"]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"product_id": ["7"], "title": ["boots"]}, r"product_id \(string\), title \(string\)"),
        ({"product_id": [7.0], "title": ["boots"]}, r"product_id \(double\), title \(string\)"),
        ({"product_id": [7], "title": [1]}, r"product_id \(int64\), title \(int64\)"),
        ({"product_id": [7], "name": ["boots"]}, r"product_id \(int64\), name \(string\)"),
    ],
)
def test_columns_of_another_kind_are_one_error(tmp_path: Path, columns: dict, found: str) -> None:
    with pytest.raises(DatasetError, match=f"titles.parquet has the columns {found}. Wanted product_id .int64. and ti"):
        saved(tmp_path, **columns).load()


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "titles.parquet").write_text("product_id,title")
    with pytest.raises(DatasetError, match=r"titles\.parquet is no parquet file"):
        TitlesParquet(str(tmp_path / "titles.parquet")).load()


def test_new_titles_replace_those_of_the_same_products() -> None:
    new = pa.table({"product_id": [1, 2], "title": ["a", "b"]})
    old = ds.dataset(pa.table({"product_id": [2, 3], "title": ["x", "c"]}))
    assert add_titles(new, None).equals(new)
    assert add_titles(new, old).to_pydict() == {"product_id": [1, 2, 3], "title": ["a", "b", "c"]}


def test_a_new_null_takes_an_old_title_away() -> None:
    old = ds.dataset(pa.table({"product_id": [1, 2], "title": ["old", "kept"]}, TABLES["titles"]))
    new = pa.table({"product_id": [1, 3], "title": [None, "new"]}, TABLES["titles"])
    assert add_titles(new, old).to_pydict() == {"product_id": [3, 2], "title": ["new", "kept"]}
