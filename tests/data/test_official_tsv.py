from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError

from multimodal_recall.data.official_format import TSV_COLUMNS, RawFileError, encode_row
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.datasets.official_files import OfficialTsvDataset
from tests.conftest import make_row


def write_tsv(path: Path, lines: list[bytes], line_end: bytes = b"\n") -> OfficialTsv:
    header = "\t".join(TSV_COLUMNS).encode()
    path.write_bytes(line_end.join([header, *lines]) + line_end)
    return OfficialTsv(path)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50, 400])
def test_ranges_share_out_all_lines_whatever_their_number(tmp_path: Path, count: int) -> None:
    lines = [encode_row(make_row(product, boxes=1 + product % 9)) for product in range(40)]
    tsv = write_tsv(tmp_path / "train.tsv", lines)
    found = [line for number in range(count) for _, line in tsv.lines(number, count)]
    assert found == [line + b"\n" for line in lines]
    content = tsv.path.read_bytes()
    assert all(
        content[offset:].startswith(line) for number in range(count) for offset, line in tsv.lines(number, count)
    )


def test_lines_are_drawn_once_each_and_all_of_a_short_file(tmp_path: Path) -> None:
    lines = [encode_row(make_row(product, boxes=1 + product % 9)) for product in range(40)]
    tsv = write_tsv(tmp_path / "train.tsv", lines)
    whole = list(tsv.lines())
    for wanted in (40, 41, 1000):
        assert list(tsv.draw_lines(wanted, np.random.default_rng(0))) == whole
    for wanted in (1, 7, 39):
        drawn = list(tsv.draw_lines(wanted, np.random.default_rng(0)))
        assert len(drawn) == wanted
        assert sorted(set(drawn)) == drawn
        assert set(drawn) < set(whole)
        assert drawn == list(tsv.draw_lines(wanted, np.random.default_rng(0)))
    drawn = [list(tsv.draw_lines(5, np.random.default_rng(seed))) for seed in range(200)]
    assert {line for lines in drawn for line in lines} == set(whole)  # the first and the last line too


def test_windows_line_ends_and_a_last_line_without_end(tmp_path: Path) -> None:
    lines = [encode_row(make_row(product)) for product in range(3)]
    tsv = write_tsv(tmp_path / "train.tsv", lines, b"\r\n")
    assert [line for _, line in tsv.lines()] == [line + b"\r\n" for line in lines]
    tsv.path.write_bytes(tsv.path.read_bytes()[:-2])
    assert [line for _, line in tsv.lines()][-1] == lines[-1]


@pytest.mark.parametrize("content", [b"", b"1\t2\t3\n", b"\xff\xfe\n"])
def test_a_file_without_the_header_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.tsv").write_bytes(content)
    with pytest.raises(RawFileError, match=r"train\.tsv: the first line is .* Wanted the header product_id"):
        list(OfficialTsv(tmp_path / "train.tsv").lines())


def test_a_missing_file_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"train\.tsv does not exist\. Put the file there, official or your own"):
        OfficialTsvDataset(str(tmp_path / "train.tsv")).load()


def test_rows_are_written_one_by_one(tmp_path: Path) -> None:
    dataset = OfficialTsvDataset(str(tmp_path / "train.tsv"))
    rows = [make_row(product) for product in range(3)]
    dataset.save(rows)
    assert [line for _, line in dataset.load().lines()] == [encode_row(row) + b"\n" for row in rows]
