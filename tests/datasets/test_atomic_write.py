"""What a disk that refuses leaves behind."""

import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from kedro.io import DatasetError, Version
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AlbertConfig, AlbertModel, PreTrainedTokenizerFast

from multimodal_recall.datasets.atomic_write import write_atomically
from multimodal_recall.datasets.model_folders import CheckpointFile, LanguageModelFolder
from multimodal_recall.datasets.official_files import OfficialTsvDataset
from multimodal_recall.datasets.parquet_table import ChunkParquet
from multimodal_recall.datasets.small_files import CsvFile, JsonFile
from tests.conftest import SMALL_DISK, make_row

NUMBERS = np.random.default_rng(0).random(200_000)  # 1.6 MB, whatever the compression
ADVICE = "then go on with: kedro run --only-missing-outputs"
AGAIN = "then give the same command again"  # outside a node, as in kedro write-tsv


def language_model(hidden_size: int, words: int) -> tuple[AlbertModel, PreTrainedTokenizerFast]:
    sizes = {"hidden_size": hidden_size, "intermediate_size": 8, "embedding_size": 8, "vocab_size": 10}
    vocabulary = {f"a rather long word, number {number}": number for number in range(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="a rather long word, number 0"))
    model = AlbertModel(AlbertConfig(num_attention_heads=1, num_hidden_layers=1, **sizes))
    return model, PreTrainedTokenizerFast(tokenizer_object=tokenizer)


LARGE = {
    "parquet": (ChunkParquet, lambda: pa.table({"number": NUMBERS})),
    "json": (JsonFile, NUMBERS.tolist),
    "csv": (CsvFile, lambda: pd.DataFrame({"number": NUMBERS})),
    "tsv": (OfficialTsvDataset, lambda: (make_row(number, boxes=91) for number in range(500))),
    "weights": (LanguageModelFolder, lambda: language_model(hidden_size=512, words=1)),
    "tokenizer": (LanguageModelFolder, lambda: language_model(hidden_size=8, words=50_000)),
}


@pytest.mark.parametrize("thing", LARGE)
def test_a_full_disk_is_one_clear_error_that_keeps_the_older_version(disk: Path, thing: str) -> None:
    kind, make = LARGE[thing]
    # Given an older version
    older = disk / "thing" / "2026-01-01T00.00.00.000Z" / "thing"
    older.parent.mkdir(parents=True)
    older.write_text("older")
    dataset = kind(str(disk / "thing"), Version(None, None))
    dataset.new_record = {"node": "make"}
    with pytest.raises(
        DatasetError, match=rf"disk/thing/.*No space left on device.* Free space there, {ADVICE}"
    ) as error:
        dataset.save(make())
    assert error.value.__cause__ is not None
    dataset.release()
    assert dataset.list_versions() == [str(older)]
    assert [path for path in disk.rglob("*") if path.is_file()] == [older]
    # and the space is free again
    (disk / "room").write_bytes(bytes(SMALL_DISK - 20 * 4096))


def test_a_full_disk_leaves_the_last_checkpoint(disk: Path) -> None:
    file = CheckpointFile(disk / "checkpoint.safetensors")
    file.write({"a": torch.ones(3)}, {"epoch": 1})
    with pytest.raises(DatasetError, match=rf"checkpoint\.safetensors could not be written: No space.*{ADVICE}"):
        file.write({"a": torch.ones(SMALL_DISK)}, {"epoch": 2})
    tensors, facts = file.read()
    assert (tensors["a"].tolist(), facts) == ([1, 1, 1], {"epoch": 1})
    assert [path.name for path in disk.iterdir()] == ["checkpoint.safetensors"]


def test_a_read_only_folder_says_what_to_do(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    dataset = JsonFile(str(disk / "thing.json"), Version(None, None))
    with pytest.raises(
        DatasetError, match=rf"disk/thing\.json/.* could not be written: Read-only file system\. Make the .*{AGAIN}"
    ) as error:
        dataset.save({})
    assert error.value.__cause__.errno == errno.EROFS
    assert not dataset.exists()


def test_a_fault_of_the_data_is_not_called_a_fault_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Object of type set is not JSON serializable") as error:
        JsonFile(str(tmp_path / "thing.json")).save({1})
    assert "kedro run" not in str(error.value)


def test_a_file_where_the_versions_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "thing.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"Cannot save versioned dataset 'thing\.json'.*same name already exists"):
        JsonFile(str(tmp_path / "thing.json"), Version(None, None)).save({})


def test_content_is_on_the_disk_before_the_final_name_and_the_name_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str | int] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(os.fstat(descriptor).st_ino)

    def record_replace(source: Path, target: Path) -> None:
        replace(source, target)
        done.append("renamed")

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    with write_atomically(tmp_path / "model") as unfinished:
        unfinished.mkdir()
        (unfinished / "weights").write_text("1")
    content, folder, name = (path.stat().st_ino for path in (tmp_path / "model/weights", tmp_path / "model", tmp_path))
    assert done == [content, folder, "renamed", name]
