from pathlib import Path

import jsonschema
import pytest
import yaml

from multimodal_recall.config.reference import PAGE, SCHEMA, render_page, render_schema
from tests.conftest import PROJECT

FILES = sorted([*PROJECT.glob("conf/**/parameters*.yml"), *PROJECT.glob("conf/*/rankers/*.yml")])


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = yaml.safe_load(render_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_page_and_schema_are_those_of_the_options() -> None:
    advice = "generate it anew: python -m multimodal_recall.config.reference"
    assert (PROJECT / PAGE).read_text(encoding="utf-8") == render_page(PROJECT), advice
    assert (PROJECT / SCHEMA).read_text(encoding="utf-8") == render_schema(), advice


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT / "conf").as_posix())
def test_every_file_of_parameters_names_the_schema_and_fits_it(
    path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    text = path.read_text(encoding="utf-8")
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []
    named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == PROJECT / SCHEMA


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ingest": {"max_box": 3}}, "'max_box' was unexpected"),
        ({"ingest": {"max_boxes": 0}}, "less than or equal to the minimum of 0"),
        ({"chunks": {"test": 1}}, "'test'"),
        ({"mcan": {"epoch": 3}}, "'epoch' was unexpected"),
        ({"mcan": {"model": {"heds": 2}}}, "not valid under any of the given schemas"),
        ({"mcan": {"model": {"kind": "mcam"}}}, "not valid under any of the given schemas"),
    ],
)
def test_a_misspelt_or_impossible_option_does_not_fit(
    parameters: dict, message: str, validator: jsonschema.Draft202012Validator
) -> None:
    assert [message in error.message for error in validator.iter_errors(parameters)] == [True]


def test_a_kind_of_negatives_may_be_taken_away(validator: jsonschema.Draft202012Validator) -> None:
    # conf/base names kinds that an environment can only switch off
    assert list(validator.iter_errors({"mcan": {"negatives": {"similar_query": 0, "random": 1}}})) == []
    assert list(validator.iter_errors({"mcan": {"negatives": {"similar_query": -1}}}))


def test_an_empty_text_is_shown_as_a_default() -> None:
    assert '- `photos` (string; default `""`):' in render_page(PROJECT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT / "conf").as_posix())
def test_no_file_shares_values_between_groups(path: Path) -> None:
    # an anchor would keep base's values where an environment changes the group that it stands in
    tokens = yaml.scan(path.read_text(encoding="utf-8"))
    assert [token for token in tokens if isinstance(token, yaml.AnchorToken | yaml.AliasToken)] == []


def test_every_ranker_has_a_file_of_its_name() -> None:
    rankers = sorted((PROJECT / "conf/base/rankers").glob("*.yml"))
    for path in [*rankers, *PROJECT.glob("conf/kddcup/rankers/*.yml")]:
        assert list(yaml.safe_load(path.read_text(encoding="utf-8"))) == [path.stem]
