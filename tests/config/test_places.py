"""An environment says where its files lie, or is refused."""

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
