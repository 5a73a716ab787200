"""The configuration loader reads the files once, and what a caller changes is the caller's own."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from multimodal_recall.config.loader import RememberingConfigLoader
from multimodal_recall.settings import CONFIG_LOADER_ARGS
from tests.conftest import copy_project


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return copy_project(tmp_path) / "conf"


def test_each_file_is_read_once(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader, read, load = RememberingConfigLoader(str(conf), **CONFIG_LOADER_ARGS), [], OmegaConf.load
    monkeypatch.setattr(OmegaConf, "load", lambda file: (read.append(file), load(file))[1])
    first = {part: loader[part] for part in ("parameters", "catalog", "globals")}
    count = len(read)
    assert count > 20
    assert {part: loader[part] for part in first} == first
    assert len(read) == count


def test_a_part_is_the_callers_own(conf: Path) -> None:
    # as Kedro writes absolute paths into the catalog that it was given
    loader = RememberingConfigLoader(str(conf), **CONFIG_LOADER_ARGS)
    path = loader["catalog"]["labels"]["filepath"]
    loader["catalog"]["labels"]["filepath"] = "elsewhere"
    assert loader["catalog"]["labels"]["filepath"] == path


def test_a_new_loader_reads_changed_files_and_a_part_can_be_set(conf: Path) -> None:
    loader = RememberingConfigLoader(str(conf), **CONFIG_LOADER_ARGS)
    assert loader["parameters"]["seed"] == 0
    (conf / "local/parameters.yml").write_text("seed: 7")
    assert loader["parameters"]["seed"] == 0
    assert RememberingConfigLoader(str(conf), **CONFIG_LOADER_ARGS)["parameters"]["seed"] == 7
    loader["globals"] = {"raw": "elsewhere"}
    assert loader["globals"] == {"raw": "elsewhere"}
