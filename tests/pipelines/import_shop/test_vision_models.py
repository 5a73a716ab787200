"""The whole way of a shop with vision models: tiny random checkpoints, loaded as real ones are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import Result

from multimodal_recall.evaluation.rankings import ZERO_SHOT
from multimodal_recall.models.vision.weak import WeakDescriptor
from tests.conftest import copy_project, load, run_project
from tests.drawn_shop import draw_shop
from tests.pipelines.import_shop.test_import_shop import TINY, kedro_of, of
from tests.tiny_vision import clip, dfine, owlv2, save_checkpoint, siglip2


@pytest.fixture
def import_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Import thirty products in a new project, the working directory, with further words of the command."""
    files = draw_shop(tmp_path / "shop", 30)
    monkeypatch.chdir(copy_project(tmp_path / "project"))
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    return lambda *words: kedro_of(Path.cwd())("import-shop", *files, "--env=mine", *words)


def test_siglip2_and_owlv2_from_photos_to_a_comparison(import_shop: Callable[..., Result]) -> None:
    save_checkpoint(siglip2, Path("models/siglip2"))
    save_checkpoint(owlv2, Path("models/owlv2"))
    models = "--embedder=models/siglip2", "--detector=models/owlv2"
    result = import_shop(*models, "--label=red shirt", "--label=bag")
    assert result.exit_code == 0, result.output
    assert "features of the boxes: models/siglip2, with colours and edges\n" in result.output
    parameters = Path("conf/mine/parameters.yml")
    options = yaml.safe_load(parameters.read_text())
    assert options["describe"] == {
        "embedder": "models/siglip2",
        "colours_and_edges": True,
        "detector": "models/owlv2",
        "labels": ["red shirt", "bag"],
    }
    assert options["ingest"] == {"feature_size": 32 + WeakDescriptor().width}
    parameters.write_text(yaml.safe_dump(options | TINY))
    run_project(Path.cwd(), "mine", parameters={})
    comparison = load(Path.cwd(), "comparison", "mine").set_index(["split", "ranking"])
    for split in ("valid", "testA"):
        assert 0 < comparison.loc[(split, ZERO_SHOT), "nDCG@5"] < 1
        cosines = of(Path.cwd(), f"evaluation.{split}_zero_shot_scores")
        scored = of(Path.cwd(), f"bag_of_words.{split}_scores")
        assert (cosines[["query_id", "product_id"]] == scored[["query_id", "product_id"]]).all(axis=None)
        assert np.abs(cosines["score"]).max() <= 1
    report = load(Path.cwd(), "evaluation.report", "mine")
    assert ZERO_SHOT in report
    assert "weak" not in report
    result = kedro_of(Path.cwd())("search", "--env=mine", "red shirt", "--top=3")
    assert result.exit_code == 0, result.output


def test_clip_and_dfine_describe_a_shop(import_shop: Callable[..., Result]) -> None:
    save_checkpoint(clip, Path("models/clip"))
    save_checkpoint(dfine, Path("models/dfine"))
    result = import_shop("--embedder=models/clip", "--detector=models/dfine")
    assert result.exit_code == 0, result.output
    labels = {label for row in of(Path.cwd(), "photos.chunk_000.described")["class_labels"] for label in row}
    assert labels & {"shirt", "shoe", "bag"}  # of the detector
    assert set(load(Path.cwd(), "labels", "mine")) >= labels


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--label=bag"], "describe.labels is set and describe.detector null"),
        (["--detector=models/none"], "describe.detector is 'models/none': there is no folder"),
        (["--embedder=models/none"], "describe.embedder is 'models/none': there is no folder"),
    ],
)
def test_models_that_cannot_be_used_are_refused_before_anything_is_written(
    import_shop: Callable[..., Result], words: list[str], reason: str
) -> None:
    result = import_shop(*words)
    assert result.exit_code != 0
    assert reason in result.output
    assert not Path("conf/mine").exists()
