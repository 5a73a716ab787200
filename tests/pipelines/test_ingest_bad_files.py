"""Files that are cut short, empty, of Windows, or full of boxes."""

import tracemalloc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import IngestOptions
from multimodal_recall.data.chunk_reader import IngestError
from multimodal_recall.data.official_format import TSV_COLUMNS, CutLine, RawFileError, encode_row
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.pipelines.featurize.nodes import collect_queries
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk
from tests.conftest import make_row
from tests.pipelines.test_ingest import LABELS, OPTIONS, WHOLE, tsv_of


@pytest.mark.parametrize("header", [TSV_COLUMNS[:-1], [name for name in TSV_COLUMNS if name != "num_boxes"], ()])
def test_a_missing_column_or_an_empty_file_is_told_by_the_header(tmp_path: Path, header: tuple[str, ...]) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes("\t".join(header).encode() + b"\n" + encode_row(make_row()) + b"\n" if header else b"")
    found = "\\\\t".join(header)
    message = rf"t\.tsv: the first line is b'{found}(\\n)?'\. Wanted the header product_id<TAB>.*<TAB>query_id"
    with pytest.raises(RawFileError, match=message):
        ingest_chunk(OfficialTsv(path), LABELS, OPTIONS, chunk=WHOLE)


def test_a_last_line_that_was_cut_short_is_rejected_and_the_others_are_kept(tmp_path: Path) -> None:
    tsv = tsv_of(tmp_path / "t.tsv", make_row(1), make_row(2), make_row(3))
    text = tsv.path.read_bytes()
    last = text.index(b"\n3\t") + 1
    tsv.path.write_bytes(text[: text.rindex(encode_row(make_row(3)).split(b"\t")[5]) + 40])  # amid the features
    made = ingest_chunk(tsv, LABELS, OPTIONS, chunk=WHOLE)
    assert made["pairs"]["product_id"].to_pylist() == [1, 2]
    (row,) = made["rejected"].to_pylist()
    assert (row["row"], row["byte"], row["reason"]) == (3, last, "6 fields, wanted 9")


def test_windows_line_ends_give_the_same_tables(tmp_path: Path) -> None:
    lines = [make_row(1), b"broken", make_row(2, query="blue hat"), make_row(1)]
    unix = tsv_of(tmp_path / "unix.tsv", *lines)
    windows = OfficialTsv(tmp_path / "windows.tsv")
    windows.path.write_bytes(unix.path.read_bytes().replace(b"\n", b"\r\n"))
    for count in (1, 2):
        chunks = [Chunk("train", number, count) for number in range(count)]
        made = [[ingest_chunk(tsv, LABELS, OPTIONS, chunk=chunk) for chunk in chunks] for tsv in (unix, windows)]
        for of_unix, of_windows in zip(*made, strict=True):
            for name in ("products", "pairs"):
                assert of_unix[name].equals(of_windows[name])
            told = ["row", "kind", "reason", "text"]
            assert of_unix["rejected"].select(told).equals(of_windows["rejected"].select(told))


def test_a_line_of_a_megabyte_is_cut_to_the_boxes_wanted(tmp_path: Path) -> None:
    # Given the most boxes of the official data, features as wide as there
    features = np.random.default_rng(0).random((91, 2048), np.float32)
    crowded = replace(make_row(2, boxes=91), features=features)
    sound = replace(make_row(1, boxes=1), features=features[:1])
    tsv = tsv_of(tmp_path / "t.tsv", sound, crowded, replace(sound, product_id=3))
    assert tsv.path.stat().st_size > 990_000
    made = ingest_chunk(tsv, LABELS, IngestOptions(), chunk=WHOLE)
    assert made["pairs"]["product_id"].to_pylist() == [1, 2, 3]
    product = made["products"].to_pylist()[1]
    assert product["labels"] == crowded.labels[:12].tolist()
    assert product["features"] == features[:12].astype("<f2").tobytes()


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("filling", [b"a", b"\t", b"0"])
def test_a_line_that_is_too_long_is_rejected_without_being_in_memory(
    tmp_path: Path, filling: bytes, count: int
) -> None:
    # Given a line of 80 MB whose start would be a sound row, its query id followed by more
    rows = [make_row(number, 1) for number in range(1, 7)]
    tsv = tsv_of(tmp_path / "t.tsv", *rows[:3], encode_row(rows[3]) + filling * 80_000_000, *rows[4:])
    options, made = IngestOptions(feature_size=8, max_rejected_share=1, max_line_bytes=100_000), []
    tracemalloc.start()
    for number in range(count):
        with suppress(IngestError):  # a chunk may lie within the long line
            made.append(ingest_chunk(tsv, LABELS, options, chunk=Chunk("train", number, count)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert [product for part in made for product in part["pairs"]["product_id"].to_pylist()] == [1, 2, 3, 5, 6]
    rejected = [row for part in made for row in part["rejected"].to_pylist()]
    assert [row["reason"] for row in rejected] == ["the line is longer than ingest.max_line_bytes"]
    assert collect_queries(tsv, options)["rows"].to_pylist() == [5]
    assert tsv.path.read_bytes()[rejected[0]["byte"] :].startswith(encode_row(rows[3]))


def test_a_line_of_just_the_longest_length_is_read(tmp_path: Path) -> None:
    row = make_row(1)
    tsv = tsv_of(tmp_path / "t.tsv", row)
    length = len(encode_row(row)) + 1
    for longest, kind in ((length, bytes), (length - 1, CutLine)):
        ((_, line),) = tsv.lines(longest=longest)
        assert type(line) is kind
