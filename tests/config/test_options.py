from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import yaml
from kedro.validation import ParameterValidationError
from pydantic import ValidationError

from multimodal_recall.config import baselines, describing, import_options, options, rankers, systems
from multimodal_recall.config.loader import RememberingConfigLoader
from multimodal_recall.config.options import (
    EvaluateOptions,
    IngestOptions,
    LanguageModelOptions,
    NegativeOptions,
    UnknownModelError,
)
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.config.reference import OPTION_GROUPS
from multimodal_recall.config.systems import (
    ImageHeadsOptions,
    McanOptions,
    ModelOptions,
    SiameseOptions,
    TwoTowerOptions,
)
from multimodal_recall.settings import CONFIG_LOADER_ARGS
from tests.conftest import PROJECT, SMALL, copy_project, run_project

STRUCTURE = {"checkpoints", "seed", "chunks", "rankers", "at_once", "stale_inputs", "pins", "tracking"}
TWO_TOWER = {"kind": "two_tower"}
KERNEL = {"model": {"kind": "kernel_words"}, "negatives_per_positive": 0, "loss": "ridge"}
MODELS = get_args(get_args(ModelOptions)[0])


def parameters_of(env: str) -> dict:
    """The parameters of an environment, over those of base."""
    return RememberingConfigLoader(str(PROJECT / "conf"), env, **CONFIG_LOADER_ARGS)["parameters"]


@pytest.mark.parametrize("env", ["base", "kddcup", "photos"])
def test_every_parameter_of_every_environment_is_an_option(env: str) -> None:
    parameters = parameters_of(env)
    rankers = {
        name: RankerOptions for name, group in parameters.items() if isinstance(group, dict) and "model" in group
    }
    assert set(parameters) == {*OPTION_GROUPS, *rankers, *STRUCTURE}
    made = {group: kind(**parameters[group]) for group, kind in (OPTION_GROUPS | rankers).items() if parameters[group]}
    # every system has a ranker
    assert {type(made[ranker].model) for ranker in rankers} == set(MODELS)


IN_BATCH = {"negatives_per_positive": 0}
FIRST = {"negatives": {"similar_query": 1}, "negatives_per_positive": 10, "loss": "focal", "max_boxes": 30}
FIRST |= {"schedule": "wavy_linear_warmup", "optimiser": "adam", "learning_rate": 1e-5}
TENTH = {"negatives": {"same_last_word": 0.8, "same_cluster": 0.2}, "start_from": "image_tags"}


@pytest.mark.parametrize(
    ("ranker", "recipe"),
    [
        (
            "two_tower",
            {"negatives": {"label_sharing": 1}, "negatives_per_positive": 1, "fresh_negatives": True, "max_boxes": 12}
            | {"loss": "cross_entropy", "optimiser": "adam", "learning_rate": 2e-4, "batch_size": 1000},
        ),
        ("mcan", FIRST),
        ("visual_bert", FIRST),
        ("image_tags", {"loss": "tags_and_caption", "optimiser": "adam", "learning_rate": 1e-4, "batch_size": 200}),
        ("word_level", TENTH | {"loss": "in_batch_hinge", "margin": 0.9}),
        ("sentence_level", TENTH | {"loss": "cross_entropy"}),
        (
            "siamese",
            IN_BATCH
            | {"loss": "in_batch_cross_entropy", "optimiser": "adam", "learning_rate": 2e-5, "batch_size": 512},
        ),
        (
            "concat_query",
            {"negatives": {"random": 1}, "negatives_per_positive": 1, "max_boxes": 10, "loss": "cross_entropy"}
            | {"optimiser": "nadam", "learning_rate": 1e-4, "batch_size": 128},
        ),
        (
            "graph_reasoning",
            IN_BATCH
            | {"loss": "in_batch_softmax", "margin": 0.7, "learning_rate": 2e-4, "epochs": 7}
            | {"optimiser": "adam", "batch_size": 128, "batches": "shuffled"},
        ),
        (
            "hsl",
            IN_BATCH
            | {"loss": "in_batch_softmax", "margin": 0.0, "learning_rate": 2e-4, "epochs": 30, "max_boxes": 20}
            | {"optimiser": "adam", "batch_size": 256},
        ),
        ("graph_reasoning_tuned", IN_BATCH | {"start_from": "graph_reasoning", "batches": "same_last_word"}),
    ],
)
def test_recipes_are_the_published_ones(ranker: str, recipe: dict) -> None:
    made = RankerOptions(**parameters_of("kddcup")[ranker])
    assert {name: getattr(made, name) for name in recipe} == recipe


def test_a_named_checkpoint_is_not_unlearnt_unless_that_is_asked() -> None:
    shipped = yaml.safe_load((PROJECT / "conf/base/featurize/parameters.yml").read_text())["language_model"]
    for values in (shipped, {}):
        new, named = LanguageModelOptions(**values), LanguageModelOptions(**{**values, "start_from": "albert-base-v2"})
        assert (new.epochs, new.peak_rate) == (3, 0.001)
        assert (named.epochs, named.peak_rate) == (0, 0.00005)
    asked = LanguageModelOptions(start_from="albert-base-v2", pretrain_epochs=2, learning_rate=0.0001)
    assert (asked.epochs, asked.peak_rate) == (2, 0.0001)


def test_every_option_has_a_sentence() -> None:
    modules = options, describing, import_options, systems, baselines, rankers
    source = "".join(Path(module.__file__).read_text() for module in modules)
    for group in (*OPTION_GROUPS.values(), RankerOptions, ImageHeadsOptions, *MODELS):
        for field in fields(group):
            assert f"    {field.name}: " in source
            after = source.split(f"class {group.__name__}:")[1].split(f"    {field.name}: ")[1]
            assert after.split('"""')[0].count("\n    ") <= 12, f"{group.__name__}.{field.name}"
            assert '"""' in after.split("\n\n")[0], f"{group.__name__}.{field.name}"


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        (IngestOptions, {"max_box": 12}, "max_box"),
        (IngestOptions, {"max_boxes": 0}, "greater than 0"),
        (IngestOptions, {"box_order": "smallest"}, "file"),
        (TwoTowerOptions, {"image_state": 7}, "multiple of 2"),
        (McanOptions, {"heads": 3}, "must be a multiple of model.heads"),
        (TwoTowerOptions, {"words": "transformer", "word_state": 6}, "multiple of transformer_heads"),
        (SiameseOptions, {"heads": 5}, "multiple of heads"),
        (RankerOptions, {"model": {"kind": "two_towers"}}, "two_tower"),
        (RankerOptions, {"model": TWO_TOWER, "loss": "hinges"}, "cross_entropy"),
        (RankerOptions, {"model": TWO_TOWER, "epochs": "many"}, "valid integer"),
        (RankerOptions, {"model": TWO_TOWER, "negatives": {"hard": 1}}, "label_sharing"),
        (RankerOptions, {"model": TWO_TOWER, "negatives_per_positive": 0}, "cross_entropy compares right pairs with"),
        (
            RankerOptions,
            {"model": TWO_TOWER, "negatives": {"random": 0}},
            "negatives names no kind with a weight above",
        ),
        (RankerOptions, {"model": TWO_TOWER, "negatives_at_end": {}}, "negatives_at_end names no kind with a weight"),
        (
            RankerOptions,
            {"model": TWO_TOWER, "loss": "multi_similarity"},
            "needs cosines, and the score of two_tower is no",
        ),
        (RankerOptions, {"model": TWO_TOWER, "loss": "likelihood"}, "is for query_likelihood alone, and the model is"),
        (RankerOptions, {"model": TWO_TOWER, "loss": "ridge"}, "is for kernel_words alone, and the model is two_tower"),
        (
            RankerOptions,
            {"model": {"kind": "kernel_words"}},
            "cross_entropy trains in epochs, and kernel_words",
        ),
        (RankerOptions, {**KERNEL, "negatives_per_positive": 1}, "ridge takes no wrong products: set"),
        (
            RankerOptions,
            {**KERNEL, "epochs": 5, "batch_size": 9},
            "has no epochs and reads no epochs, batch_size",
        ),
        (RankerOptions, {**KERNEL, "negatives": {"random": 1}}, "has no epochs and reads no negatives: leave"),
        (
            RankerOptions,
            {"model": TWO_TOWER, "batch_size": 8, "processes": 5},
            r"processes \(5\) share .* leaves 4 right pairs. Set",
        ),
        (
            RankerOptions,
            {"model": {"kind": "mcan"}, **FIRST, "batch_size": 66, "processes": 8},
            "leaves 6 right pairs. Set processes",
        ),
        (NegativeOptions, {"kinds": ["random", "random"]}, "each once"),
        (LanguageModelOptions, {"pretrain_epochs": 0}, "Name a checkpoint in start_from"),
        (LanguageModelOptions, {"heads": 3}, "must be a multiple of heads"),
        (EvaluateOptions, {"confidence": 1.0}, "less than 1"),
    ],
)
def test_bad_options_are_refused(options: type, values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        options(**values)


def test_a_misspelt_option_stops_the_run_before_any_node(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    with pytest.raises(ParameterValidationError, match=r"ingest.*\n?.*max_box"):
        run_project(project, parameters={**SMALL, "ingest": {"max_box": 3}})
    assert not (project / "data").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"models": ["a", "d"]}, r"evaluate.models names \['d'\], but the models with scores are \['a', 'b'\]"),
        ({"ranking": "d"}, r"evaluate.ranking names \['d'\], but the models with scores are \['a', 'b'\]"),
        ({"blends": {"mine": ["a", "d"]}}, r"evaluate.blends.mine names \['d'\], but .* are \['a', 'b'\]"),
        ({"models": ["a"], "ranking": "b"}, r"evaluate.ranking names \['b'\], but .* are \['a'\]"),
    ],
)
def test_a_model_without_scores_is_named(asked: dict, message: str) -> None:
    with pytest.raises(UnknownModelError, match=message):
        EvaluateOptions(**asked).check_models(["a", "b"])


def test_models_with_scores_may_be_named() -> None:
    EvaluateOptions().check_models([])
    EvaluateOptions(models=["b", "a"], ranking="b", blends={"mine": ["a", "b"]}).check_models(["a", "b", "c"])
