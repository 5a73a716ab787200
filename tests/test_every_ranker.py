"""Every ranker of conf/base, from the raw files to the comparison, in one run of the small shop."""

from pathlib import Path

import pytest
import yaml

from multimodal_recall.data.examples import read_candidates, read_chunk
from multimodal_recall.evaluation.rankings import LEAK_FREE, OWN_LIST
from multimodal_recall.models.saved import read_ranker
from tests.conftest import PROJECT, SMALL, copy_project, load, run_project
from tests.tiny_rankers import tiny_recipe

pytestmark = pytest.mark.slow

FILES = sorted((PROJECT / "conf/base/rankers").glob("*.yml"))
RECIPES = {path.stem: yaml.safe_load(path.read_text())[path.stem] for path in FILES}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rankers, tiny, one epoch each, with the losses, negatives and schedules of their recipes."""
    tiny = {name: tiny_recipe(name, recipe) for name, recipe in RECIPES.items()}
    project = copy_project(tmp_path_factory.mktemp("rankers"))
    run_project(project, parameters={**SMALL, **tiny, "rankers": " ".join(RECIPES)})
    return project


def test_all_are_compared_and_blended(project: Path) -> None:
    comparison = load(project, "comparison").set_index(["split", "kind", "ranking"])
    for split in ("valid", "testA"):
        found = set(comparison.loc[(split, LEAK_FREE)].index)
        assert set(RECIPES) < found
        assert "sum of z-scores" in found
        assert {f"{name}, smoothed boxes" for name in RECIPES} <= set(comparison.loc[(split, OWN_LIST)].index)


@pytest.mark.parametrize("name", RECIPES)
def test_a_saved_model_scores_as_the_run_did(project: Path, name: str) -> None:
    # its folder alone, tokenizer included, is enough
    folder = next((project / "data/06_models/shop" / name / "model").iterdir()) / "model"
    tables = load(project, "valid_examples")["chunk_000"]
    ranker = read_ranker(folder).build()
    _, pairs = read_candidates(tables)
    scores = ranker.score(read_chunk(tables, ranker.reading), pairs)
    saved = load(project, f"{name}.valid_scores").to_table()["score"].to_numpy()
    assert scores == pytest.approx(saved, abs=1e-5)
    assert scores.std() > 0
