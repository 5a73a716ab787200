"""An environment says where its files lie, or is refused."""

import re
from pathlib import Path

import pytest

from multimodal_recall.config.resolve import LayoutError
from tests.conftest import copy_project, run_project


@pytest.mark.parametrize(
    ("content", "missing"),
    [(None, "raw and collection"), ("raw: data/01_raw/other\n", "collection"), ("collection: other\n", "raw")],
)
def test_an_environment_without_folders_of_its_own_is_refused(
    tmp_path: Path, content: str | None, missing: str
) -> None:
    project = copy_project(tmp_path)
    (project / "conf/other").mkdir()
    (project / "conf/other/parameters.yml").write_text("seed: 1\n")
    if content:
        (project / "conf/other/globals.yml").write_text(content)
    with pytest.raises(LayoutError, match=rf"conf/other/globals.yml does not set {missing}: .* collection: other"):
        run_project(project, env="other")
    assert not (project / "data").exists()


@pytest.mark.parametrize("sign", "[]*?{}")
def test_signs_that_kedro_reads_as_patterns_are_refused_in_paths(tmp_path: Path, sign: str) -> None:
    folder = tmp_path / f"a{sign}b"
    folder.mkdir()
    project = copy_project(folder)
    with pytest.raises(LayoutError, match=re.escape(f"{project}/conf, has the sign {sign}, which Kedro reads as")):
        run_project(project)


@pytest.mark.parametrize("name", ["raw", "collection"])
def test_signs_that_kedro_reads_as_patterns_are_refused_in_names(tmp_path: Path, name: str) -> None:
    project = copy_project(tmp_path)
    (project / "conf/other").mkdir()
    places = {"raw": "data/01_raw/other", "collection": "other"} | {name: "o{x}"}
    (project / "conf/other/globals.yml").write_text("".join(f"{key}: {value}\n" for key, value in places.items()))
    with pytest.raises(LayoutError, match=re.escape(f"{name}, o{{x}}, has the sign {{")):
        run_project(project, env="other")
    assert not (project / "data").exists()


def test_other_signs_work_in_paths(tmp_path: Path) -> None:
    folder = tmp_path / "it's 100 % größe"
    folder.mkdir()
    project = copy_project(folder)
    run_project(project, pipeline_names=["make_shop", "ingest"])
    assert list(project.glob("data/03_primary/**/products.parquet"))
