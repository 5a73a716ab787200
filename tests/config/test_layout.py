from pathlib import Path
from typing import get_args

import pytest
import yaml
from kedro.framework.project import pipelines, settings
from kedro.framework.startup import bootstrap_project

from multimodal_recall.config.layout import Chunk, LayoutError, read_layout
from multimodal_recall.config.loader import RememberingConfigLoader
from multimodal_recall.config.options import NegativeKind
from tests.conftest import copy_project


def load(project: Path, env: str, **parameters: object) -> None:
    """Make the configuration loader, as every way of starting Kedro does."""
    bootstrap_project(project)
    RememberingConfigLoader(str(project / "conf"), env, parameters, **settings.CONFIG_LOADER_ARGS)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path)


def test_the_shop_is_the_default(project: Path) -> None:
    load(project, "local")
    layout = read_layout()
    assert layout.makes_shop
    assert layout.chunks == {"train": 4, "valid": 1, "testA": 1}
    assert layout.answered == ("valid", "testA")
    assert layout.rankers == ("two_tower",)


def test_only_splits_whose_files_exist_are_run(project: Path) -> None:
    load(project, "kddcup")
    assert read_layout().chunks == {"train": 30, "valid": 1}
    for split in ("train", "valid", "testB"):
        (project / "data" / "01_raw" / split).mkdir(parents=True)
        (project / "data" / "01_raw" / split / f"{split}.tsv").touch()
    layout = read_layout()
    assert not layout.makes_shop
    assert layout.chunks == {"train": 30, "valid": 1, "testB": 1}
    assert layout.candidate_splits == ("valid", "testB")
    assert layout.answered == ("valid",)  # testB has no public answers


def test_the_catalogue_is_a_file_of_its_own_or_the_products_of_all_splits(project: Path) -> None:
    load(project, "local")
    layout = read_layout()
    assert layout.ingested == ("train", "valid", "testA")
    assert [chunk.namespace for chunk in layout.catalogue_chunks][-3:] == [
        "train.chunk_003",
        "valid.chunk_000",
        "testA.chunk_000",
    ]
    (project / "data/01_raw/shop").mkdir(parents=True)
    (project / "data/01_raw/shop/catalogue.tsv").touch()
    load(project, "local", chunks={"catalogue": 2})
    layout = read_layout()
    assert layout.ingested == ("train", "valid", "testA", "catalogue")
    assert [chunk.namespace for chunk in layout.catalogue_chunks] == ["catalogue.chunk_000", "catalogue.chunk_001"]
    assert "catalogue" not in layout.candidate_splits
    pipelines.configure("multimodal_recall.pipeline_registry")
    names = {node.name for node in pipelines["__default__"].nodes}
    assert {"catalogue.chunk_001.ingest", "catalogue.merge_rejected"} < names
    assert not any(name.startswith("catalogue") and name.endswith(("featurize", "list_examples")) for name in names)


def test_the_registry_follows_the_environment(project: Path) -> None:
    pipelines.configure("multimodal_recall.pipeline_registry")
    load(project, "local")
    assert "make_shop" in pipelines
    assert "train.chunk_003.ingest" in {node.name for node in pipelines["ingest"].nodes}
    pipelines.configure("multimodal_recall.pipeline_registry")
    load(project, "kddcup")
    assert "make_shop" not in pipelines
    assert "train.chunk_029.ingest" in {node.name for node in pipelines["ingest"].nodes}
    assert len(pipelines["__default__"].nodes) > 90


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"chunks": {"tset": 1}}, "chunks names 'tset'; a split is one of"),
        ({"chunks": {"train": 0}}, "chunks.train is 0, not a whole number of at least 1"),
        ({"chunks": {"train": "four"}}, "chunks.train is 'four'"),
        (
            {"word_level": {"start_from": "mcans"}},
            "word_level.start_from names 'mcans', which has no options with a model",
        ),
        ({"image_tags": {"start_from": "word_level"}}, "image_tags.start_from leads back to itself"),
        ({"rankers": ["two_towers"]}, "rankers names 'two_towers', which has no options with a model"),
        ({"rankers": "mcan two_tower mcan"}, "rankers names 'mcan' twice; name each once"),
        ({"chunks": {"train": True}}, "chunks.train is True"),
        ({"evaluate": {"reclassify": "maybe"}}, "evaluate.reclassify is 'maybe', not true or false"),
        ({"index": {"approximate": "maybe"}}, "index.approximate is 'maybe', not true or false"),
        ({"evaluate": {"recall": {"first": "two_tower"}}}, "evaluate.recall.second is None, which is none of rankers"),
        (
            {"rankers": ["mcan"], "evaluate": {"recall": {"first": "mcan", "second": "mcan"}}},
            "evaluate.recall.first names 'mcan', which has no index: it reads query and product together",
        ),
        (
            {"rankers": ["two_tower"], "evaluate": {"recall": {"first": "two_tower", "second": ["two_tower"] * 2}}},
            r"evaluate.recall.second is \['two_tower', 'two_tower'\]: name each ranker once",
        ),
        (
            {"evaluate": {"recall": {"first": "two_tower", "second": ["two_tower", "mcan"]}}},
            "evaluate.recall.second is 'mcan', which is none of rankers",
        ),
        ({"sample_negativs": {"epochs": 9}}, "'sample_negativs' is neither a group of options"),
        ({"rankers": []}, "There is nothing to run: rankers is empty, and .*valid_scores.parquet does not exist"),
    ],
)
def test_faults_are_named(project: Path, parameters: dict, message: str) -> None:
    load(project, "local", **parameters)
    with pytest.raises(LayoutError, match=message):
        read_layout()


def test_scores_of_testa_alone_want_those_of_valid(project: Path) -> None:
    folder = project / "data/01_raw/scores"
    folder.mkdir(parents=True)
    for name in ("testA_scores.parquet", "testA_answer.json"):
        (folder / name).touch()
    load(project, "scores")
    with pytest.raises(
        LayoutError, match=r"valid_scores.parquet does not exist\. Scores of testA alone .*\. Put scores of valid there"
    ):
        read_layout()
    (folder / "valid_scores.parquet").touch()
    assert read_layout().answered == ("valid", "testA")


def test_rankers_with_an_index_and_two_stages(project: Path) -> None:
    pipelines.configure("multimodal_recall.pipeline_registry")
    stages = {"first": "bag_of_words", "second": "mcan"}
    load(project, "local", rankers="bag_of_words mcan", evaluate={"recall": stages})
    layout = read_layout()
    assert (layout.indexed, layout.two_stages) == (("bag_of_words",), ("bag_of_words", ("mcan",)))
    names = {node.name for node in pipelines["recall"].nodes}
    assert {"bag_of_words.retrieve_valid", "mcan.rescore_testA", "evaluation.compare_recall"} < names
    assert "mcan.retrieve_valid" not in names
    assert "evaluation.blend_valid_rescored" not in names
    assert not names & {node.name for node in pipelines["__default__"].nodes}
    assert names < {node.name for node in pipelines["all"].nodes}


def test_rankers_may_be_named_from_the_shell(project: Path) -> None:
    load(project, "local", rankers="two_tower other", other={"model": {"kind": "two_tower"}})
    assert read_layout().rankers == ("two_tower", "other")


def test_a_ranker_that_others_start_from_is_trained_before_them_and_not_evaluated(project: Path) -> None:
    pipelines.configure("multimodal_recall.pipeline_registry")
    load(project, "local", rankers=["two_tower", "word_level", "sentence_level"])
    layout = read_layout()
    assert layout.rankers == ("two_tower", "word_level", "sentence_level")
    starts = {"two_tower": None, "image_tags": None, "word_level": "image_tags", "sentence_level": "image_tags"}
    assert list(layout.trained.items()) == list(starts.items())
    names = {node.name for node in pipelines["__default__"].nodes}
    assert {"image_tags.train", "word_level.train"} < names
    assert "image_tags.score_valid" not in names
    # and where nobody asks for it, there is no trace of it
    pipelines.configure("multimodal_recall.pipeline_registry")
    load(project, "local", rankers=["word_level"], word_level={"start_from": None})
    assert read_layout().trained == {"word_level": None}
    assert not any("image_tags" in name for name in pipelines["__default__"].datasets())


def test_negatives_are_drawn_as_the_rankers_want_them(project: Path) -> None:
    def draws(env: str, **parameters: object) -> tuple[list[str], int]:
        load(project, env, **parameters)
        options = RememberingConfigLoader.current["parameters"]["sample_negatives"]
        return list(options["kinds"]), options["negatives_per_positive"]

    assert draws("kddcup") == (["label_sharing"], 1)
    mixed = ["similar_query", "same_last_word", "same_cluster"]
    assert draws("kddcup", rankers="mcan word_level siamese") == (mixed, 10)
    # graph_reasoning takes none; training reads the right pairs from the samples
    assert draws("kddcup", rankers="graph_reasoning") == (["random"], 1)
    assert draws("local") == (list(get_args(NegativeKind)), 1)


def test_a_ranker_without_a_seed_has_that_of_the_run(project: Path) -> None:
    load(project, "local", seed=7, mcan={"seed": 3})
    parameters = RememberingConfigLoader.current["parameters"]
    assert (parameters["two_tower"]["seed"], parameters["mcan"]["seed"]) == (7, 3)


@pytest.mark.parametrize(
    "parameters",
    [{"two_tower": {"negatives_per_positive": 2}}, {"sample_negatives": {"kinds": ["random"]}}],
)
def test_a_ranker_whose_negatives_are_not_drawn_is_named(project: Path, parameters: dict) -> None:
    load(project, "local", **parameters)
    with pytest.raises(
        LayoutError, match=r"two_tower takes \d negatives of the kinds \['label_sharing'\], but sample_neg"
    ):
        read_layout()
    load(project, "local", **parameters | {"rankers": ["graph_reasoning"]})
    assert read_layout().rankers == ("graph_reasoning",)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"two_tower": {"epoch": 3}}, r"The parameters of two_tower do not fit: .*\n?.*epoch"),
        ({"sample_negatives": 3}, "The parameters of sample_negatives do not fit"),
        (
            {"two_tower": {"negatives": {"label_sharing": 0}}},
            "two_tower do not fit: .*\n.*\n?.*names no kind with a weight",
        ),
    ],
)
def test_options_that_shape_the_draws_are_checked(project: Path, parameters: dict, message: str) -> None:
    load(project, "local", **parameters)
    with pytest.raises(LayoutError, match=message):
        read_layout()


def test_chunk_names() -> None:
    chunk = Chunk("train", 7, 30)
    assert (chunk.name, chunk.namespace) == ("chunk_007", "train.chunk_007")


def test_without_a_loader_the_environment_comes_from_the_shell(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `kedro registry list` reads the pipelines before Kedro has made a configuration loader
    bootstrap_project(project)
    monkeypatch.setattr(RememberingConfigLoader, "current", None)
    monkeypatch.setenv("KEDRO_ENV", "kddcup")
    monkeypatch.chdir(project)
    assert read_layout().chunks["train"] == 30


def test_the_sample_archive_stands_in_for_the_training_file(project: Path) -> None:
    sample = "data/01_raw/multimodal_train_sampleset/train.sample.tsv"
    (project / sample).parent.mkdir(parents=True)
    (project / sample).touch()
    (project / "data/01_raw/train.parquet").touch()  # a TSV goes before a table
    names = project / "conf/kddcup/globals.yml"
    names.write_text(names.read_text().replace("train/train.tsv", "multimodal_train_sampleset/train.sample.tsv"))
    load(project, "kddcup", chunks={"train": 1})
    assert RememberingConfigLoader.current["catalog"]["train_tsv"]["filepath"] == sample
    assert read_layout().chunks == {"train": 1, "valid": 1}
    assert read_layout().sources_of("train") == ["train_tsv"]


def test_kddcup_keeps_what_it_does_not_change(project: Path) -> None:
    load(project, "kddcup")
    options = RememberingConfigLoader.current["parameters"]
    published = yaml.safe_load((project / "conf" / "kddcup" / "rankers" / "two_tower.yml").read_text())
    assert options["two_tower"]["batch_size"] == published["two_tower"]["batch_size"] == 1000
    assert options["two_tower"]["model"]["word_state"] == 128
