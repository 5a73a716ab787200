"""An index on disk: memory-mapped, whole or absent, movable, and no code in it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError, Version

from multimodal_recall.datasets.atomic import DamagedError
from multimodal_recall.datasets.product_index import IndexChunkFolder, IndexList, read_index_list
from multimodal_recall.models.index import IndexChunk, ProductIndex

IDS = np.array([-7, 3, 2**62])
VALUES = np.arange(6, dtype=np.float16).reshape(3, 2)
CHUNK = IndexChunk("bag_of_words", "2026-01-01T00.00.00.000Z", "2026-01-01T00.00.00.000Z", IDS, VALUES, False)


def saved(folder: Path) -> IndexList:
    """A list of two chunks, below a folder."""
    chunks = {}
    for name in ("train.chunk_000", "valid.chunk_000"):
        dataset = IndexChunkFolder(str(folder / name / "encoded"), Version(None, None))
        dataset.save(CHUNK)
        chunks[name] = dataset.load()
    listed = IndexList(str(folder / "index.json"), Version(None, None))
    listed.save(ProductIndex("bag_of_words", CHUNK.model, chunks))
    return listed


def test_arrays_come_back_as_memory_maps(tmp_path: Path) -> None:
    index = saved(tmp_path).load()
    assert (index.ranker, index.model, list(index.chunks)) == (
        "bag_of_words",
        CHUNK.model,
        ["train.chunk_000", "valid.chunk_000"],
    )
    for chunk in index.chunks.values():
        assert isinstance(chunk.values, np.memmap)
        assert not chunk.values.flags.writeable
        assert chunk.values.dtype == np.float16
        np.testing.assert_array_equal(chunk.values, VALUES)
        np.testing.assert_array_equal(chunk.product_ids, IDS)
        assert (chunk.ranker, chunk.model, chunk.products, chunk.word_major) == (
            *("bag_of_words", CHUNK.model, CHUNK.products),
            False,
        )
    np.testing.assert_array_equal(index.product_ids(), IDS)


def test_the_folder_can_be_moved(tmp_path: Path) -> None:
    saved(tmp_path / "old")
    shutil.move(tmp_path / "old", tmp_path / "new")
    index = IndexList(str(tmp_path / "new/index.json"), Version(None, None)).load()
    assert (tmp_path / "new").resolve() in index.chunks["train.chunk_000"].folder.parents


def test_a_save_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as a kill after the first of the folder's files
    def break_off(path: Path, array: np.ndarray) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", break_off)
    dataset = IndexChunkFolder(str(tmp_path / "encoded"), Version(None, None))
    with pytest.raises(DatasetError, match="disk full"):
        dataset.save(CHUNK)
    dataset.release()
    assert not dataset.exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_pickled_objects_are_not_read(tmp_path: Path) -> None:
    dataset = IndexChunkFolder(str(tmp_path / "encoded"))
    dataset.save(CHUNK)
    np.save(tmp_path / "encoded/values.npy", np.array([print], object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"pickle|Array can't be memory-mapped"):
        dataset.load()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"chunks": {"a": {}}}', '{"chunks": []}', '{"chunks": {}, "ranker": "siamese"}',
     '{"chunks": {"a": {"folder": "a"}}, "ranker": "siamese", "model": "v"}'],
)  # fmt: skip
def test_what_is_no_list_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(DamagedError, match=r"index.json is damaged: it is no list .*kedro run --pipelines=index"):
        read_index_list(tmp_path / "index.json")


def test_previews_say_what_is_in_them(tmp_path: Path) -> None:
    listed = saved(tmp_path)
    assert [row[0] for row in listed.preview()["data"]] == ["train.chunk_000", "valid.chunk_000"]
    chunk = IndexChunkFolder(str(tmp_path / "train.chunk_000/encoded"), Version(None, None))
    assert chunk.preview()["data"] == [["bag_of_words", CHUNK.model, "3", "2"]]
