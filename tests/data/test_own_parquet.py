import os
from decimal import Decimal
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io import DatasetError
from rich.console import Console

from multimodal_recall.data.official_format import RawFileError, encode_row
from multimodal_recall.data.own_parquet import ParquetRows, read_own_titles
from multimodal_recall.datasets.official_files import OfficialTsvDataset
from multimodal_recall.runtime import progress
from tests.conftest import make_row

ROWS = [make_row(product, boxes=product, query=f"grüne Mützen {product}") for product in (1, 3, 2)]


def table_of(flat: bool = False, **changes: object) -> pd.DataFrame:
    """The rows as a table; arrays as lists of lists, or as one list each."""

    def lists(array: np.ndarray) -> list:
        return array.ravel().tolist() if flat else array.tolist()

    table = pd.DataFrame(
        {
            "product_id": [row.product_id for row in ROWS],
            "image_h": 100,
            "image_w": 200,
            "boxes": [lists(row.boxes) for row in ROWS],
            "features": [lists(row.features.astype(np.float64)) for row in ROWS],
            "class_labels": [row.labels.tolist() for row in ROWS],
            "query": [row.query for row in ROWS],
            "query_id": 7,
            "more": "is left out",
        }
    )
    return table.assign(**changes)


@pytest.mark.parametrize("flat", [False, True])
def test_rows_come_out_as_they_are_in_the_official_layout(tmp_path: Path, flat: bool) -> None:
    table_of(flat).to_parquet(tmp_path / "t.parquet")
    assert list(map(encode_row, ParquetRows(tmp_path / "t.parquet"))) == list(map(encode_row, ROWS))


def test_a_table_without_queries_is_a_catalogue(tmp_path: Path) -> None:
    table_of().drop(columns=["query", "query_id"]).to_parquet(tmp_path / "t.parquet")
    found = list(ParquetRows(tmp_path / "t.parquet"))
    assert [(row.product_id, row.query, row.query_id) for row in found] == [(1, "", 0), (3, "", 0), (2, "", 0)]
    table_of().drop(columns="query").to_parquet(tmp_path / "t.parquet")
    with pytest.raises(RawFileError, match=r"has no column \['query'\]"):
        list(ParquetRows(tmp_path / "t.parquet"))


IDS = [-5, 1_234_567_890_123_456_789, 123]


@pytest.mark.parametrize("ids", [IDS, list(map(str, IDS)), list(map(Decimal, IDS)), pd.Categorical(map(str, IDS))])
def test_ids_are_numbers_of_64_bits_or_their_digits(tmp_path: Path, ids: object) -> None:
    table_of(product_id=ids, image_h=100.0).to_parquet(tmp_path / "t.parquet")
    assert [row.product_id for row in ParquetRows(tmp_path / "t.parquet")] == IDS


def test_lists_of_lists_of_fixed_length(tmp_path: Path) -> None:
    boxes = pa.array([row.boxes.tolist() for row in ROWS], pa.list_(pa.list_(pa.float32(), 4)))
    table = pa.Table.from_pandas(table_of())
    pq.write_table(table.set_column(table.schema.names.index("boxes"), "boxes", boxes), tmp_path / "t.parquet")
    assert list(map(encode_row, ParquetRows(tmp_path / "t.parquet"))) == list(map(encode_row, ROWS))


def test_arrays_of_fixed_length_in_half_precision(tmp_path: Path) -> None:
    features = pa.array([row.features[0].astype(np.float16) for row in ROWS], pa.list_(pa.float16(), 8))
    table = pa.Table.from_pandas(table_of(boxes=[[1, 2, 3, 4]] * 3, class_labels=[[0]] * 3))
    pq.write_table(table.set_column(table.schema.names.index("features"), "features", features), tmp_path / "t.parquet")
    for row, given in zip(ParquetRows(tmp_path / "t.parquet"), ROWS, strict=True):
        np.testing.assert_array_equal(row.features, given.features[:1].astype(np.float16).astype(np.float32))


def test_a_bar_counts_the_rows_of_all_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table_of().to_parquet(tmp_path / "t.parquet")
    written = StringIO()
    console = Console(file=written, force_terminal=True, width=100, height=30)
    monkeypatch.setattr(progress, "get_console", lambda: console)
    monkeypatch.setattr(progress, "SHOWN_AFTER", 0.0)
    for place, _ in enumerate(ParquetRows(tmp_path / "t.parquet")):
        if place == 2:  # the rows before it are done
            progress.DISPLAY.progress.refresh()
    assert "read t.parquet" in written.getvalue()
    assert "/3" in written.getvalue()
    assert progress.DISPLAY.progress is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"product_id": ["1", "3", "A-7"]}, r"t\.parquet: row 3: product_id is no whole number .*: 'A-7'"),
        ({"product_id": ["00123", "123", "5"]}, r"row 1: product_id is no whole number .*: '00123'"),
        ({"query_id": ["1", "0x1F", "5"]}, r"row 2: query_id is no whole number .*: '0x1F'"),
        ({"query_id": [1.0, 2.5, 3.0]}, r"row 2: query_id is 2\.5 \(double\); wanted a whole number of 64 bits"),
        ({"product_id": [1e15, 1.2345678901234568e18, 3]}, r"row 2: product_id is 1\.23\d+e\+18 \(double\)"),
        ({"product_id": np.array([1, 2**63, 3], np.uint64)}, r"row 2: product_id is 9223372036854775808 \(uint64\)"),
        ({"product_id": [True, False, True]}, r"row 1: product_id is True \(bool\)"),
        ({"query": ["red", None, "hat"]}, r"t\.parquet: row 2: \['query'\] is null"),
        ({"query": ["red", "hat\tblue", ""]}, r"row 2: the query is 'hat\\tblue'; wanted a text"),
        ({"query": [b"red", b"hat", b"bag"]}, r"row 1: the query is b'red'; wanted a text"),
        (
            {"class_labels": [[0], [1, 2], [0, 1]]},
            r"row 2: class_labels holds 2 numbers, boxes 3 lists of \[4\] numbers; wanted 4 of each box",
        ),
        (
            {"features": [[0.0] * 8, [0.0] * 25, [0.0] * 16]},
            r"row 2: class_labels holds 3 .* features 25 numbers",
        ),
        (
            {"features": [[[1.0] * 3]] + [[[1, 2, 3], [4], [5, 6]]] * 2},
            r"row 2: .* features 3 lists of \[1, 2, 3\]",
        ),
        ({"features": [[[1.0]], [[1.0], None, [2.0]], [[1.0]] * 2]}, r"row 2: features holds a null"),
        ({"features": [[0.0] * 8, [0.0] * 12, [0.0] * 16]}, r"row 2: features are 4 wide, those of row 1 8"),
        ({"boxes": [[[1]] * 4] * 3}, r"row 1: class_labels holds 1 numbers, boxes 4 lists of \[1\] numbers"),
        ({"product_id": [[1], [2], [3]]}, r"row 1: product_id is \[1\] \(list"),
        ({"class_labels": [["hat"], ["hat"], ["hat"]]}, r"row 1: Failed to parse string: 'hat'"),
        ({"class_labels": [[0.5], [1], [0]]}, r"row 1: Float value 0\.5\d* was truncated"),
        ({"class_labels": [[], [1], [0]]}, r"row 1: class_labels holds no number"),
        ({"features": b"\0\0\0\0"}, r"row 1: features is a binary; wanted a list of numbers"),
        ({"features": [[1.0, None], [], []]}, r"row 1: features holds a null"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    table_of(**changes).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(RawFileError, match=message):
        list(ParquetRows(tmp_path / "t.parquet"))


def test_missing_columns_and_other_files_are_named(tmp_path: Path) -> None:
    table_of().drop(columns=["boxes", "query"]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(RawFileError, match=r"t\.parquet has no column \['boxes', 'query'\], only \['product_id', "):
        list(ParquetRows(tmp_path / "t.parquet"))
    (tmp_path / "t.csv").write_text("product_id\n1\n")
    with pytest.raises(RawFileError, match=r"t\.csv is no sound parquet file: "):
        list(ParquetRows(tmp_path / "t.csv"))


def test_a_table_that_does_not_fit_leaves_no_tsv(tmp_path: Path) -> None:
    table_of(query=["red", "hat", None]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DatasetError, match=r"^\S*t\.parquet: row 3: \['query'\] is null\. Mend the table$"):
        OfficialTsvDataset(str(tmp_path / "train.tsv")).save(ParquetRows(tmp_path / "t.parquet"))
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.parquet")
    with pytest.raises(RawFileError, match=r"t\.parquet is no file\. Name a parquet file"):
        list(ParquetRows(tmp_path / "t.parquet"))


def own_titles(folder: Path, products: list, titles: list) -> dict | None:
    path = folder / "titled.parquet"
    pd.DataFrame({"product_id": products, "title": titles}).to_parquet(path)
    return read_own_titles(path).to_pydict()


def test_titles_of_a_table_are_those_of_its_products(tmp_path: Path) -> None:
    read = own_titles(tmp_path, ["7", "5", "7", "3"], ["Mütze", None, "Mütze", "Rock"])
    assert read == {"product_id": [7, 5, 3], "title": ["Mütze", None, "Rock"]}
    table_of().to_parquet(tmp_path / "table.parquet")
    assert read_own_titles(tmp_path / "table.parquet") is None


@pytest.mark.parametrize(
    ("titles", "message"),
    [
        (["Mütze", "Hut"], r"row 2: product 7 has the title 'Hut', and 'Mütze' in an earlier row. Give it one title"),
        ([1, 2], r"row 1: the title is 1; wanted a text"),
    ],
)
def test_titles_that_cannot_be_used_are_named(tmp_path: Path, titles: list, message: str) -> None:
    with pytest.raises(RawFileError, match=message):
        own_titles(tmp_path, [7, 7], titles)
