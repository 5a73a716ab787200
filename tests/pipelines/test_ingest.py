import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import IngestOptions
from multimodal_recall.data.chunk_reader import IngestError, digest_boxes
from multimodal_recall.data.official_format import TSV_COLUMNS, OfficialRow, encode_row
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.data.schemas import TABLES, TableValidator
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk, merge_rejected
from tests.conftest import make_row

LABELS = [f"label {number}" for number in range(33)]
OPTIONS = IngestOptions(feature_size=8, max_rejected_share=0.5)
WHOLE = Chunk("train", 0, 1)


def tsv_of(path: Path, *lines: OfficialRow | bytes) -> OfficialTsv:
    encoded = [line if isinstance(line, bytes) else encode_row(line) for line in lines]
    path.write_bytes(b"\n".join(["\t".join(TSV_COLUMNS).encode(), *encoded, b""]))
    return OfficialTsv(path)


def test_tables_hold_what_the_rows_held(tmp_path: Path) -> None:
    rows = [make_row(1, boxes=2), make_row(2, boxes=14, query="blue hat"), make_row(1, boxes=2, query="blue hat")]
    made = ingest_chunk(tsv_of(tmp_path / "t.tsv", *rows), LABELS, OPTIONS, chunk=WHOLE)
    for name, table in made.items():
        TableValidator(name).validate(table)
    products, pairs = made["products"].to_pylist(), made["pairs"].to_pylist()
    assert [product["product_id"] for product in products] == [1, 2]
    for product, row in zip(products, rows[:2], strict=True):
        boxes = np.column_stack([product[side] for side in ("top", "left", "bottom", "right")])
        np.testing.assert_array_equal(boxes, row.boxes[:12])
        assert product["labels"] == row.labels[:12].tolist()
        features = np.frombuffer(product["features"], np.float16).reshape(-1, 8)
        np.testing.assert_array_equal(features, row.features[:12].astype(np.float16))
    assert [(pair["query"], pair["query_row"], pair["product_row"]) for pair in pairs] == [
        ("red shirt", 0, 0),
        ("blue hat", 1, 1),
        ("blue hat", 1, 0),
    ]
    assert made["rejected"].num_rows == 0


def test_titles_stand_beside_the_products_that_have_one(tmp_path: Path) -> None:
    tsv = tsv_of(tmp_path / "t.tsv", make_row(3), make_row(1), make_row(2), make_row(1, query="blue hat"))
    titles = ds.dataset(pa.table({"product_id": [9, 1, 3], "title": ["no product", "red boots", "hat"]}))
    made = ingest_chunk(tsv, LABELS, OPTIONS, titles, chunk=WHOLE)
    TableValidator("products").validate(made["products"])
    assert made["products"].select(["product_id", "title"]).to_pydict() == {
        "product_id": [3, 1, 2],
        "title": ["hat", "red boots", None],
    }
    without = ingest_chunk(tsv, LABELS, OPTIONS, chunk=WHOLE)["products"]
    assert without["title"].null_count == 3
    assert without.drop_columns("title").equals(made["products"].drop_columns("title"))


def test_chunked_equals_whole(tmp_path: Path) -> None:
    tsv = tsv_of(tmp_path / "t.tsv", *(make_row(product, 1 + product % 5) for product in range(2500)))
    whole = ingest_chunk(tsv, LABELS, OPTIONS, chunk=WHOLE)
    parts = [ingest_chunk(tsv, LABELS, OPTIONS, chunk=Chunk("train", number, 7)) for number in range(7)]
    assert pa.concat_tables([part["products"] for part in parts]).equals(whole["products"])
    ids = pa.concat_tables([part["pairs"] for part in parts])["product_id"]
    assert ids.equals(whole["pairs"]["product_id"])


def test_queries_that_csv_readers_break_on(tmp_path: Path) -> None:
    queries = ['"sale books', "null", "NA", "nan", '6" pipe', "'s shirt", " two  spaces "]
    rows = [make_row(number, query=query) for number, query in enumerate(queries)]
    made = ingest_chunk(tsv_of(tmp_path / "t.tsv", *rows), LABELS, OPTIONS, chunk=WHOLE)
    assert made["pairs"]["query"].to_pylist() == queries


def test_bad_rows_are_told_and_the_rest_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "multimodal_recall")
    tsv = tsv_of(tmp_path / "t.tsv", make_row(1), b"broken\tline", make_row(2), b"x" * 500)
    made = ingest_chunk(tsv, LABELS, OPTIONS, chunk=WHOLE)
    assert made["pairs"].num_rows == 2
    first, second = made["rejected"].to_pylist()
    assert (first["file"], first["row"], first["kind"]) == ("t.tsv", 2, "malformed")
    assert first["reason"] == "2 fields, wanted 9"
    assert first["text"] == "broken\tline"
    assert tsv.path.read_bytes()[first["byte"] :].startswith(b"broken")
    assert second["text"] == "x" * 200
    assert "train.chunk_000: 2 of 4 rows rejected: 2 x such as row 2: 2 fields, wanted 9" in caplog.text


@pytest.mark.parametrize("width", [8, 5])  # a multiple of four numbers, and none
@pytest.mark.parametrize("part", ["image_w", "boxes", "labels", "features"])
def test_a_product_that_changes_its_looks_is_rejected(tmp_path: Path, part: str, width: int) -> None:
    row = make_row(1)
    row = replace(row, features=row.features[:, :width])
    features = row.features.copy()
    features[1, -1] += 0.25
    changed = {"image_w": 201, "boxes": row.boxes + 1, "labels": (row.labels + 1) % 33, "features": features}
    tsv = tsv_of(tmp_path / "t.tsv", row, replace(row, **{part: changed[part]}), row)
    made = ingest_chunk(tsv, LABELS, replace(OPTIONS, feature_size=width), chunk=WHOLE)
    (rejected,) = made["rejected"].to_pylist()
    assert rejected["row"] == 2
    assert rejected["reason"] == "product 1 stands in this chunk with another size, boxes, labels or features"


def test_features_that_trade_places_have_another_digest() -> None:
    features = np.random.default_rng(0).random((1, 2048)).astype(np.float16)
    swapped = features[:, [4, 5, 6, 7, 0, 1, 2, 3, *range(8, 2048)]]
    assert digest_boxes(features) != digest_boxes(swapped)
    assert digest_boxes(features[[0, 0]]).tolist() == digest_boxes(features).tolist() * 2


def test_too_many_bad_rows_stop_the_run(tmp_path: Path) -> None:
    tsv = tsv_of(tmp_path / "t.tsv", make_row(1), b"broken")
    with pytest.raises(
        IngestError, match=r"1 of 2 rows of chunk_000 are malformed, more than ingest.max_rejected_share \(1.00%\)"
    ):
        ingest_chunk(tsv, LABELS, IngestOptions(feature_size=8), chunk=WHOLE)


def test_too_many_rows_name_the_count_to_set(tmp_path: Path) -> None:
    tsv = tsv_of(tmp_path / "t.tsv", *(make_row(product) for product in range(100)))
    options = replace(OPTIONS, max_rows_per_chunk=30)
    with pytest.raises(IngestError, match=r"holds more than 30 rows .* Set chunks.train to at least 4"):
        ingest_chunk(tsv, LABELS, options, chunk=WHOLE)
    assert ingest_chunk(tsv, LABELS, options, chunk=Chunk("train", 0, 4))["pairs"].num_rows <= 30


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"chunk_000 of 1 holds no rows\. Put a whole file there"):
        ingest_chunk(tsv_of(tmp_path / "t.tsv"), LABELS, OPTIONS, chunk=WHOLE)


def test_more_chunks_than_rows_are_refused(tmp_path: Path) -> None:
    tsv = tsv_of(tmp_path / "t.tsv", make_row(1))
    with pytest.raises(IngestError, match=r"chunk_003 of 4 holds no rows.*lower chunks\.train \(now 4\)"):
        ingest_chunk(tsv, LABELS, OPTIONS, chunk=Chunk("train", 3, 4))


def test_a_chunk_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    tsv = tsv_of(tmp_path / "t.tsv", b"broken")
    with pytest.raises(IngestError, match="all 1 rows of chunk_000 are rejected: 1 x row 1: 1 fields"):
        ingest_chunk(tsv, LABELS, replace(OPTIONS, max_rejected_share=1.0), chunk=WHOLE)


def test_a_candidate_that_stands_twice_is_rejected_but_a_training_pair_may(tmp_path: Path) -> None:
    tsv = tsv_of(tmp_path / "t.tsv", make_row(1), make_row(2), make_row(1))
    made = ingest_chunk(tsv, LABELS, OPTIONS, chunk=Chunk("valid", 0, 1))
    assert made["rejected"]["reason"].to_pylist() == ["product 1 stands twice in the candidate list of query 7"]
    assert ingest_chunk(tsv, LABELS, OPTIONS, chunk=WHOLE)["pairs"].num_rows == 3


def test_cleaning_is_off_by_default_and_counted_when_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [make_row(1, query="'s shirt"), make_row(2, boxes=41), make_row(3, query="& red hat")]
    tsv = tsv_of(tmp_path / "t.tsv", *rows)
    assert ingest_chunk(tsv, LABELS, OPTIONS, chunk=WHOLE)["rejected"].num_rows == 0
    twelfth = IngestOptions(
        feature_size=8, max_rejected_share=0, drop_possessive_queries=True, drop_crowded_images=True
    )
    made = ingest_chunk(tsv, LABELS, twelfth, chunk=WHOLE)
    assert made["pairs"]["query"].to_pylist() == ["& red hat"]
    assert made["rejected"]["kind"].to_pylist() == ["cleaned", "cleaned"]
    assert made["rejected"]["reason"].to_pylist() == ["query starts with 's", "image has more than 40 boxes"]
    # Candidates are never dropped: a valid query without them could not be ranked
    assert ingest_chunk(tsv, LABELS, twelfth, chunk=Chunk("valid", 0, 1))["pairs"].num_rows == 3
    caplog.set_level(logging.INFO, "multimodal_recall")
    first = ingest_chunk(tsv, LABELS, replace(OPTIONS, strip_leading_tokens=True), chunk=WHOLE)
    assert "stripped a leading leftover from 2 queries" in caplog.text
    assert first["pairs"]["query"].to_pylist() == ["shirt", "red shirt", "red hat"]


def test_row_numbers_of_rejected_rows_count_from_the_start_of_the_file(tmp_path: Path) -> None:
    lines = [b"broken" if number in (3, 40, 77) else make_row(number, 1) for number in range(1, 81)]
    tsv = tsv_of(tmp_path / "t.tsv", *lines)
    tables = []
    for number in range(5):
        made = ingest_chunk(tsv, LABELS, OPTIONS, chunk=Chunk("train", number, 5))
        tables += [ds.dataset(made["rejected"]), ds.dataset(made["pairs"])]
    merged = merge_rejected(*tables)
    assert merged.schema.equals(TABLES["rejected"])
    assert merged["row"].to_pylist() == [3, 40, 77]


def test_a_catalogue_has_products_and_no_queries(tmp_path: Path) -> None:
    # Given a file without queries, with a product twice, and a file of candidates, whose queries do not count
    rows = [make_row(1), make_row(2), make_row(1)]
    empty = [encode_row(replace(row, query="", query_id=0)) for row in rows]
    for lines in (empty, rows):
        made = ingest_chunk(tsv_of(tmp_path / "t.tsv", *lines), LABELS, OPTIONS, chunk=Chunk("catalogue", 0, 1))
        assert made["products"]["product_id"].to_pylist() == [1, 2]
        assert made["pairs"]["query"].to_pylist() == [""] * 3
        assert made["pairs"]["query_id"].to_pylist() == [0] * 3
        assert made["rejected"].num_rows == 0
    # in any other split an empty query is a fault
    with pytest.raises(IngestError, match="empty query"):
        ingest_chunk(tsv_of(tmp_path / "t.tsv", *empty), LABELS, OPTIONS, chunk=Chunk("testA", 0, 1))


def test_an_empty_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"chunk_000 of 1 holds no rows\. Put a whole file there"):
        ingest_chunk(tsv_of(tmp_path / "t.tsv"), LABELS, OPTIONS, chunk=Chunk("catalogue", 0, 1))
