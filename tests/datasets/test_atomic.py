import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from kedro.io import DatasetError, Version

from multimodal_recall.data.schemas import TABLES
from multimodal_recall.datasets import atomic_write
from multimodal_recall.datasets.chunk_list import ChunkList
from multimodal_recall.datasets.model_folders import LanguageModelFolder
from multimodal_recall.datasets.official_files import OfficialTsvDataset
from multimodal_recall.datasets.parquet_table import ChunkParquet
from multimodal_recall.datasets.small_files import AnswersFile, CsvFile, JsonFile, LabelsFile, SubmissionFile
from multimodal_recall.evaluation.submission import make_submission

TABLE = pa.table({"query_id": [1, 2], "features": pa.array([b"ab", b"cdef"], pa.large_binary())})


PAIRS = pa.Table.from_pylist([{"query_id": 1}, {"query_id": 2}], TABLES["pairs"])


class Part:
    """Saves itself into a folder, as transformers' models and tokenizers do."""

    def __init__(self, name: str) -> None:
        self.name = name

    def save_pretrained(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        (path / self.name).touch()


VALUES = {
    ChunkParquet: TABLE,
    JsonFile: {"a": [1, 2]},
    CsvFile: pd.DataFrame({"query-id": [1], "product1": [2]}),
    LabelsFile: ["shoes, boots", "others"],
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_saved_version_comes_back(tmp_path: Path, kind: type) -> None:
    dataset = kind(str(tmp_path / "thing"), Version(None, None))
    assert not dataset.exists()
    dataset.save(VALUES[kind])
    loaded = dataset.load()
    if kind is ChunkParquet:
        loaded = loaded.to_table()
    wanted = VALUES[kind]
    assert loaded.equals(wanted) if hasattr(wanted, "equals") else loaded == wanted


def test_a_spreadsheet_computes_no_cell(tmp_path: Path) -> None:
    table = pd.DataFrame({"query": ["=1+1", "@SUM(A1)", "-x", "+y", "plain", "'quoted'"], "n": range(-3, 3)})
    dataset = CsvFile(str(tmp_path / "table.csv"))
    dataset.save(table)
    cells = [line.split(",")[0] for line in (tmp_path / "table.csv").read_text().splitlines()[1:]]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))] == []
    pd.testing.assert_frame_equal(dataset.load(), table)


def test_a_version_of_this_run_is_replaced_whole(tmp_path: Path) -> None:
    # as by a node that runs again because its worker died after saving
    kept = JsonFile(str(tmp_path / "value.json"), Version(None, "2026-01-01T00.00.00.000Z"))
    folder = LanguageModelFolder(str(tmp_path / "model"), Version(None, "2026-01-01T00.00.00.000Z"))
    for name in ("first", "second"):
        kept.save(name)
        folder.save((Part(name),))
    assert kept.load() == "second"
    assert [path.name for path in folder.load().iterdir()] == ["second"]
    assert len(list(tmp_path.rglob("*"))) == 7  # two datasets, each with a version and its place, and two files


def test_workers_that_save_one_folder_at_a_time_leave_it_whole(tmp_path: Path) -> None:
    folder = LanguageModelFolder(str(tmp_path / "model"))

    def save(number: int) -> None:
        for repeat in range(50):
            folder.save((Part(f"{number}_{repeat}"), Part("always")))

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(save, range(4)))
    left = [path.name for path in folder.load().iterdir()]
    assert len(left) == 2
    assert "always" in left
    assert not list(tmp_path.rglob("*unfinished*"))


@pytest.mark.parametrize("kind", VALUES)
def test_a_save_that_breaks_off_leaves_nothing_that_exists(
    tmp_path: Path, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = kind._write

    def write_and_break(self: object, path: Path, data: object) -> None:
        write(self, path, data)
        raise OSError("disk full")

    monkeypatch.setattr(kind, "_write", write_and_break)
    dataset = kind(str(tmp_path / "thing"), Version(None, None))
    with pytest.raises(DatasetError, match="disk full"):
        dataset.save(VALUES[kind])
    dataset.release()
    assert not dataset.exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_record_is_there_before_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed, replace = [], os.replace
    monkeypatch.setattr("os.replace", lambda old, new: (renamed.append(Path(new).name), replace(old, new)))
    dataset = JsonFile(str(tmp_path / "value.json"), Version(None, "2026-01-01T00.00.00.000Z"))
    dataset.new_record = {"node": "maker"}
    dataset.save(1)
    assert renamed == [".value.json.record.json", "value.json"]
    assert dataset.record()["node"] == "maker"
    assert dataset.state() == "2026-01-01T00.00.00.000Z"


def test_a_record_does_not_speak_for_a_file_that_replaced_its_own(tmp_path: Path) -> None:
    dataset = JsonFile(str(tmp_path / "value.json"))
    assert dataset.state() is None
    dataset.new_record = {"node": "maker"}
    dataset.save(1)
    assert dataset.record().items() >= {"node": "maker", "output": dataset.state()}.items()
    (tmp_path / "value.json").write_text("23")
    assert dataset.record()["output"] != dataset.state()


def test_what_no_node_saved_has_no_record(tmp_path: Path) -> None:
    dataset = JsonFile(str(tmp_path / "value.json"), Version(None, None))
    dataset.save(1)
    assert dataset.record() is None
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["value.json"]


def test_the_pinned_version_is_loaded_and_the_newest_by_default(tmp_path: Path) -> None:
    for version, value in (("2026-01-01T00.00.00.000Z", 1), ("2026-01-02T00.00.00.000Z", 2)):
        JsonFile(str(tmp_path / "value.json"), Version(None, version)).save(value)
    assert JsonFile(str(tmp_path / "value.json"), Version(None, None)).load() == 2
    assert JsonFile(str(tmp_path / "value.json"), Version("2026-01-01T00.00.00.000Z", None)).load() == 1


def test_a_parquet_preview_shows_binary_columns_by_size(tmp_path: Path) -> None:
    dataset = ChunkParquet(str(tmp_path / "table.parquet"))
    dataset.save(TABLE)
    assert dataset.preview()["data"] == [["1", "2 bytes"], ["2", "4 bytes"]]


def test_parquet_is_lazy(tmp_path: Path) -> None:
    dataset = ChunkParquet(str(tmp_path / "table.parquet"))
    dataset.save(pa.table({"number": np.arange(50_000)}))
    before = pa.total_allocated_bytes()
    handle = dataset.load()
    assert handle.count_rows() == 50_000
    assert pa.total_allocated_bytes() - before < 50_000


def test_a_chunk_list_loads_the_versions_it_names(tmp_path: Path) -> None:
    # Given a list that was saved before a newer version of its chunk
    table = ChunkParquet(str(tmp_path / "a" / "pairs.parquet"), Version(None, "2026-01-01T00.00.00.000Z"))
    table.save(PAIRS)
    listed = ChunkList(str(tmp_path / "b" / "examples.json"), Version(None, None))
    listed.save({"chunk_000": {"pairs": table.load()}})
    newer = ChunkParquet(str(tmp_path / "a" / "pairs.parquet"), Version(None, "2026-01-02T00.00.00.000Z"))
    newer.save(PAIRS.slice(0, 1))
    # Then the listed version is loaded, also after the folder was moved
    assert listed.load()["chunk_000"]["pairs"].count_rows() == 2
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    again = ChunkList(str(moved / "b" / "examples.json"), Version(None, None))
    assert again.load()["chunk_000"]["pairs"].to_table().equals(PAIRS)


def test_a_listed_table_of_an_older_form_is_named(tmp_path: Path) -> None:
    table = ChunkParquet(str(tmp_path / "pairs.parquet"))
    table.save(PAIRS.drop_columns("query"))
    listed = ChunkList(str(tmp_path / "examples.json"))
    listed.save({"chunk_000": {"pairs": table.load()}})
    with pytest.raises(
        DatasetError, match=r"pairs\.parquet: columns \['query'\]: found .* Run the stage that makes this"
    ):
        listed.load()


def test_a_chunk_list_names_what_is_gone(tmp_path: Path) -> None:
    table = ChunkParquet(str(tmp_path / "pairs.parquet"))
    table.save(TABLE)
    listed = ChunkList(str(tmp_path / "examples.json"))
    listed.save({"chunk_000": {"pairs": table.load()}})
    (tmp_path / "pairs.parquet").unlink()
    with pytest.raises(DatasetError, match=r"lists 1 files that are gone, first .*pairs\.parquet\. Restore them"):
        listed.load()


def test_answers_keep_all_six(tmp_path: Path) -> None:
    (tmp_path / "valid_answer.json").write_text('{"7": [1, 2, 3, 4, 5, 6]}')
    assert AnswersFile(str(tmp_path / "valid_answer.json")).load() == {7: [1, 2, 3, 4, 5, 6]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"x": [1]}', "Wanted {query_id"),
        ("[1]", "Wanted {query_id"),
        ('{"1": "123"}', r'the answers of query 1 are "123"\. Wanted {query_id'),
        ('{"1": [3.7]}', r"the answers of query 1 are \[3.7\]\. Wanted {query_id"),
        ('{"1": [true]}', r"the answers of query 1 are \[true\]\. Wanted {query_id"),
        ('{"1": ["3"]}', r'the answers of query 1 are \["3"\]\. Wanted {query_id'),
        ('{"1.5": [3]}', "Wanted {query_id"),
        ('{"1": [3], "2": [4], "1": [5]}', r"answer\.json is no sound JSON: the key '1' stands 2 times\. Join"),
        ('{"1": [3], "\\u0031": [5]}', "the key '1' stands 2 times"),
        ('{"1": [3]', "answer.json is no sound JSON: Expecting"),
        ('{"007": [3]}', r"the key is no whole number of 64 bits in its own digits, as 123 or -7: '007'\. Wanted"),
        ('{" 7": [3]}', "the key is no whole number"),
        ('{"9223372036854775808": [3]}', "the key is no whole number"),
        ('{"1": [9223372036854775808]}', r"the answers of query 1 are \[9223372036854775808\]\. Wanted"),
        ('{"1": []}', "1 queries have no answer, first 1"),
    ],
)
def test_bad_answers_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "valid_answer.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        AnswersFile(str(tmp_path / "valid_answer.json")).load()


def test_negative_ids_and_ids_of_19_digits_come_back(tmp_path: Path) -> None:
    (tmp_path / "valid_answer.json").write_text('{"-7": [1234567890123456789, -1]}')
    assert AnswersFile(str(tmp_path / "valid_answer.json")).load() == {-7: [1234567890123456789, -1]}
    scores = pd.DataFrame({"query_id": -7, "product_id": [1234567890123456789, -1], "score": [1.0, 2.0]})
    file = SubmissionFile(str(tmp_path / "submission.csv"))
    file.save(make_submission(scores))
    assert file.load().iloc[0].tolist()[:3] == [-7, -1, 1234567890123456789]


def test_a_csv_keeps_text_that_looks_like_nothing(tmp_path: Path) -> None:
    table = pd.DataFrame({"ranking": ["null", "nan", "NA", "None"], "over_folds": [0.5, np.nan, 1.0, np.nan]})
    file = CsvFile(str(tmp_path / "comparison.csv"))
    file.save(table)
    pd.testing.assert_frame_equal(file.load(), table)


@pytest.mark.parametrize("content", ["category_id\tcategory_name\n0\ta\n2\tb\n", "category_id\tcategory_name\n", ""])
def test_labels_must_be_numbered_from_zero(tmp_path: Path, content: str) -> None:
    (tmp_path / "labels.txt").write_text(content)
    with pytest.raises(DatasetError, match="wanted ids 0, 1, 2"):
        LabelsFile(str(tmp_path / "labels.txt")).load()


def test_more_labels_than_a_chunk_can_hold_are_refused(tmp_path: Path) -> None:
    file = LabelsFile(str(tmp_path / "labels.txt"))
    names = [f"label {number}" for number in range(int(np.iinfo(np.int16).max) + 2)]
    file.save(names[:-1])
    assert file.load() == names[:-1]
    file.save(names)
    with pytest.raises(DatasetError, match="names 32,769 labels, wanted at most 32,768: join rare labels into one"):
        file.load()


@pytest.mark.parametrize("make", [AnswersFile, LabelsFile])
def test_missing_raw_files_say_where_they_go(tmp_path: Path, make: Callable) -> None:
    with pytest.raises(DatasetError, match=r"does not exist\. Put the file there, official or your own"):
        make(str(tmp_path / "file")).load()


@pytest.mark.parametrize(("make_it", "found"), [(Path.mkdir, "a folder"), (os.mkfifo, "no file, but a pipe or device")])
@pytest.mark.parametrize("kind", [AnswersFile, LabelsFile, OfficialTsvDataset, ChunkParquet, CsvFile])
def test_what_is_no_file_is_told_at_once(
    tmp_path: Path, kind: Callable, make_it: Callable[[Path], None], found: str
) -> None:
    make_it(tmp_path / "raw")
    dataset = kind(str(tmp_path / "raw"))
    assert not dataset.exists()
    assert dataset.state() is None
    with pytest.raises(DatasetError, match=f"raw is {found}"):
        dataset.load()


def test_a_link_to_a_file_is_a_file_and_a_folder_of_weights_is_none(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text('{"1": [2]}')
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert AnswersFile(str(tmp_path / "link.json")).load() == {1: [2]}
    assert not LanguageModelFolder(str(tmp_path / "real.json")).exists()
    assert LanguageModelFolder(str(tmp_path)).load() == tmp_path


def test_a_file_without_versions_never_has_the_record_of_another_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = JsonFile(str(tmp_path / "value.json"))
    file.new_record = {"node": "first"}
    file.save(1)
    assert (file.record()["node"], file.record()["output"]) == ("first", file.state())
    # Given a kill just before the new content gets its name
    file.new_record = {"node": "second"}
    monkeypatch.setattr(atomic_write, "take_place", stop)
    with pytest.raises(KeyboardInterrupt):
        file.save(2)
    assert (file.load(), file.record()) == (1, None)
    monkeypatch.undo()
    file.save(2)
    assert (file.load(), file.record()["node"], file.record()["output"]) == (2, "second", file.state())


def stop(*_: object) -> None:
    raise KeyboardInterrupt
