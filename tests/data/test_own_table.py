"""A parquet table gives ingest the rows that the TSV written from it gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import IngestOptions
from multimodal_recall.data.chunk_reader import IngestError
from multimodal_recall.data.official_format import OfficialRow, RawFileError
from multimodal_recall.data.own_parquet import ParquetRows
from multimodal_recall.data.own_table import OwnTable
from multimodal_recall.data.schemas import TABLES
from multimodal_recall.datasets.official_files import OfficialTsvDataset
from multimodal_recall.pipelines.featurize.nodes import collect_queries
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk
from tests.conftest import make_row

LABELS = [f"label {number}" for number in range(33)]
OPTIONS = IngestOptions(feature_size=8, max_rejected_share=0.7)
WORDS = ("red shirt", "blue hat", "'s green tea", "grüne Mütze")


def rows_of(count: int) -> list[OfficialRow]:
    return [
        replace(make_row(number % 7, 1 + number % 7, WORDS[number % 4]), query_id=number) for number in range(count)
    ]


def arrays_of(row: OfficialRow) -> dict[str, object]:
    boxes, features = row.boxes.tolist(), row.features.tolist()
    return {
        "product_id": row.product_id,
        "image_h": row.image_h,
        "image_w": row.image_w,
        "boxes": boxes,
        "features": features,
        "class_labels": row.labels.tolist(),
        "title": f"product {row.product_id}",
    }


def write_whole(path: Path, rows: list[OfficialRow], **kind: object) -> OwnTable:
    whole = [arrays_of(row) | {"query": row.query, "query_id": row.query_id} for row in rows]
    pq.write_table(pa.Table.from_pylist(whole), path, **kind)
    return OwnTable(path)


def write_joined(folder: Path, rows: list[OfficialRow], **kind: object) -> OwnTable:
    products = {row.product_id: arrays_of(row) | {"sku": f"00{row.product_id}"} for row in rows}
    pq.write_table(pa.Table.from_pylist(list(products.values())), folder / "products.parquet", **kind)
    pairs = [{"query_id": row.query_id, "query": row.query, "product_id": row.product_id} for row in rows]
    pq.write_table(pa.Table.from_pylist(pairs), folder / "pairs.parquet", **kind)
    return OwnTable(folder / "pairs.parquet").join(OwnTable(folder / "products.parquet"))


def ingest(source: object, chunk: Chunk, options: IngestOptions = OPTIONS) -> dict[str, pa.Table]:
    return ingest_chunk(source, LABELS, options, chunk=chunk)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_the_tables_of_parquet_and_of_the_tsv_written_from_it_are_equal(tmp_path: Path, split: str) -> None:
    rows = rows_of(600)
    whole = write_whole(tmp_path / "t.parquet", rows, row_group_size=100)
    tsv = OfficialTsvDataset(str(tmp_path / "t.tsv"))
    tsv.save(ParquetRows(whole.path))
    wanted = ingest(tsv.load(), Chunk(split, 0, 1))
    for source in (whole, write_joined(tmp_path, rows, row_group_size=100)):
        found = ingest(source, Chunk(split, 0, 1))
        assert found["pairs"].equals(wanted["pairs"])
        assert found["products"].drop(["title", "sku"]).equals(wanted["products"].drop(["title", "sku"]))
        assert found["products"]["title"].to_pylist() == [f"product {number}" for number in range(7)]
        parts = [ingest(source, Chunk(split, number, 7))["pairs"] for number in range(7)]
        assert pa.concat_tables(parts)["query_id"].equals(wanted["pairs"]["query_id"])
        assert {len(part) for part in parts} == {85, 86}
        assert collect_queries(source, OPTIONS).equals(collect_queries(tsv.load(), OPTIONS))
    assert found["products"]["sku"].to_pylist() == [f"00{number}" for number in range(7)]


def test_a_faulty_row_is_rejected_with_its_reason_and_the_others_stay(tmp_path: Path) -> None:
    rows = rows_of(8)
    rows[1] = replace(rows[1], labels=rows[1].labels + 99)
    rows[2] = replace(rows[2], query=" ")
    whole = write_whole(tmp_path / "t.parquet", rows)
    tsv = OfficialTsvDataset(str(tmp_path / "t.tsv"))
    tsv.save(ParquetRows(whole.path))
    table = pq.read_table(whole.path).to_pylist()
    table[3]["query"] = None
    table[4]["features"] = table[4]["features"] + [[0.0] * 8]
    table[5]["query"] = "tab\there"
    pq.write_table(pa.Table.from_pylist(table), whole.path)
    wanted, found = (ingest(source, Chunk("train", 0, 1)) for source in (tsv.load(), OwnTable(whole.path)))
    kept = ["row", "kind", "reason"]
    assert found["rejected"].select(kept).to_pylist()[:2] == wanted["rejected"].select(kept).to_pylist()
    assert found["rejected"]["byte"].null_count == 5
    assert found["rejected"]["reason"].to_pylist()[2:] == [
        "['query'] is null",
        "class_labels holds 5 numbers, features 6 lists of [8] numbers; wanted as many of each box",
        "the query is 'tab\\there'; wanted a text without tabs and line ends",
    ]
    assert found["rejected"]["text"][0].as_py() == "query_id 1, query blue hat, product_id 1"
    assert found["pairs"]["query_id"].to_pylist() == [0, 6, 7]


def test_a_product_that_has_no_arrays_is_named(tmp_path: Path) -> None:
    source = write_joined(tmp_path, rows_of(7))
    products = pq.read_table(source.products.path)
    pq.write_table(products.slice(1), source.products.path)
    found = ingest(OwnTable(source.path).join(OwnTable(source.products.path)), Chunk("train", 0, 1))
    assert found["rejected"]["reason"].to_pylist() == ["product 0 stands in no row of the table of products"]
    pq.write_table(pa.concat_tables([products, products.slice(2, 1)]), source.products.path)
    with pytest.raises(RawFileError, match=r"products\.parquet has two rows of product 2\. Keep one row"):
        ingest(OwnTable(source.path).join(OwnTable(source.products.path)), Chunk("train", 0, 1))


def test_products_alone_are_a_catalogue(tmp_path: Path) -> None:
    products = write_joined(tmp_path, rows_of(7)).products
    found = ingest(products, Chunk("catalogue", 0, 1))
    assert found["products"]["product_id"].to_pylist() == list(range(7))
    assert found["products"]["sku"].to_pylist() == [f"00{number}" for number in range(7)]


def test_too_many_rows_name_the_chunks_to_set(tmp_path: Path) -> None:
    source = write_whole(tmp_path / "t.parquet", rows_of(50))
    with pytest.raises(IngestError, match=r"holds more than 20 rows .* Set chunks\.train to at least 3"):
        ingest(source, Chunk("train", 0, 1), replace(OPTIONS, max_rows_per_chunk=20))


@pytest.mark.parametrize(("missing", "named"), [("boxes", r"\['boxes'\]"), ("query_id", r"\['query_id'\]")])
def test_a_missing_column_is_named(tmp_path: Path, missing: str, named: str) -> None:
    source = write_whole(tmp_path / "t.parquet", rows_of(3))
    pq.write_table(pq.read_table(source.path).drop([missing]), source.path)
    with pytest.raises(RawFileError, match=rf"t\.parquet has no column {named}, only .* Add them"):
        ingest(OwnTable(source.path), Chunk("train", 0, 1))


def test_ids_of_any_kind_are_read_exactly(tmp_path: Path) -> None:
    large = 2**62 + 1
    rows = [replace(make_row(), product_id=large, query_id=1), replace(make_row(), product_id=5, query_id=2)]
    source = write_joined(tmp_path, rows)
    for path in (source.path, source.products.path):
        table = pq.read_table(path)
        place = table.schema.get_field_index("product_id")
        texts = pa.array([str(number) for number in table["product_id"].to_pylist()])
        pq.write_table(table.set_column(place, "product_id", texts), path)
    found = ingest(OwnTable(source.path).join(OwnTable(source.products.path)), Chunk("train", 0, 1))
    assert found["pairs"]["product_id"].to_pylist() == [large, 5]
    assert np.array_equal(found["products"]["sku"], [f"00{large}", "005"])


def test_names_of_no_rows_are_none_of_them(tmp_path: Path) -> None:
    table = write_whole(tmp_path / "train.parquet", rows_of(2))
    names = [table.names(number, 5) for number in range(5)]
    assert sum(part.num_rows for part in names if part is not None) == 2
    assert names[0] is not None
    assert names[0].schema == TABLES["names"]


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_a_damaged_file_is_named_and_no_other_error_escapes(tmp_path: Path, compression: str) -> None:
    path, random = tmp_path / "train.parquet", np.random.default_rng(0)
    write_whole(path, rows_of(20))
    pq.write_table(pq.read_table(path), path, compression=compression)
    sound, found = path.read_bytes(), 0
    for _ in range(60):
        damaged = np.frombuffer(sound, np.uint8).copy()
        damaged[random.integers(4, len(damaged), 6)] = random.integers(0, 256, 6)
        path.write_bytes(damaged.tobytes())
        for read in (lambda: list(OwnTable(path).lines()), OwnTable(path).ids, lambda: list(OwnTable(path).queries())):
            try:
                read()
            except RawFileError as error:
                found += str(path) in str(error)
    assert found > 60


def test_a_query_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write_whole(path, rows_of(2))
    table = pq.read_table(path)
    latin = pa.StringArray.from_buffers(2, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xfc"))
    pq.write_table(table.set_column(table.schema.get_field_index("query"), "query", latin), path)
    for read in (OwnTable(path).lines, OwnTable(path).queries):
        with pytest.raises(RawFileError, match=r"train.parquet is damaged: .*UTF8"):
            list(read())
