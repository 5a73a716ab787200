from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io import DatasetError

from multimodal_recall.datasets.official_rows import encode_row
from multimodal_recall.datasets.parquet_rows import ParquetRows
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


def test_arrays_of_fixed_length_in_half_precision(tmp_path: Path) -> None:
    features = pa.array([row.features[0].astype(np.float16) for row in ROWS], pa.list_(pa.float16(), 8))
    table = pa.Table.from_pandas(table_of(boxes=[[1, 2, 3, 4]] * 3, class_labels=[[0]] * 3))
    pq.write_table(table.set_column(table.schema.names.index("features"), "features", features), tmp_path / "t.parquet")
    for row, given in zip(ParquetRows(tmp_path / "t.parquet"), ROWS, strict=True):
        np.testing.assert_array_equal(row.features, given.features[:1].astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"product_id": ["1", "3", "A-7"]}, r"t\.parquet: row 3: Failed to parse string: 'A-7'"),
        ({"query": ["red", None, "hat"]}, r"t\.parquet: row 2: \['query'\] is null"),
        ({"query": ["red", "hat\tblue", ""]}, r"row 2: the query 'hat\\tblue' holds a tab or a line end"),
        ({"class_labels": [[0], [1, 2], [0]]}, r"row 2: class_labels holds 2 numbers, boxes 12, features 24; wanted"),
        ({"class_labels": [["hat"], ["hat"], ["hat"]]}, r"row 1: Failed to parse string: 'hat'"),
        ({"class_labels": [[0.5], [1], [0]]}, r"row 1: Float value 0\.5\d* was truncated"),
        ({"class_labels": [[], [1], [0]]}, r"row 1: class_labels holds 0 numbers"),
        ({"features": b"\0\0\0\0"}, r"row 1: an array is a binary; wanted a list of numbers"),
        ({"features": [[1.0, None], [], []]}, r"row 1: an array holds a null"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    table_of(**changes).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DatasetError, match=message):
        list(ParquetRows(tmp_path / "t.parquet"))


def test_missing_columns_and_other_files_are_named(tmp_path: Path) -> None:
    table_of().drop(columns=["boxes", "query"]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DatasetError, match=r"t\.parquet has no column \['boxes', 'query'\], only \['product_id', "):
        list(ParquetRows(tmp_path / "t.parquet"))
    (tmp_path / "t.csv").write_text("product_id\n1\n")
    with pytest.raises(DatasetError, match=r"t\.csv is no parquet file: "):
        list(ParquetRows(tmp_path / "t.csv"))
