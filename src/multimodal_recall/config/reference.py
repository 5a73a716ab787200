"""Generate ``docs/options.md`` and ``conf/parameters.schema.json`` of the project in the working directory.

python -m multimodal_recall.config.reference
"""

import json
import textwrap
from collections import defaultdict
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import click
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic_core import to_jsonable_python

from multimodal_recall.config import options
from multimodal_recall.config.describing import DescribeOptions
from multimodal_recall.config.import_options import ImportOptions
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.config.systems import ImageHeadsOptions, ModelOptions

PAGE, SCHEMA = "docs/options.md", "conf/parameters.schema.json"
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "multipleOf": "multiple of"}
INTRODUCTION = """# Options

This page answers: what can be set, where, and with which default? The page is generated; after a change of an option,
run `python -m multimodal_recall.config.reference`.

The default holds where no file sets the option; `conf/base` sets many. Set an option in its group in
`conf/<env>/parameters.yml`, or for a run with `--params=ingest.max_boxes=20`. Editors with a YAML language server check
the files against `conf/parameters.schema.json`.
"""


class Parameters(BaseModel):
    """The parameters of an environment: groups of options with fixed names, and a group for each ranker."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, RankerOptions]

    seed: int = 0
    """Seed of draws, weights and intervals; each stage and chunk draws from a stream of its own."""
    chunks: dict[Literal["train", "valid", "testA", "testB", "catalogue"], options.Positive] = {}
    """Number of byte ranges into which each split's TSV is cut; a split whose file is missing is left out."""
    rankers: list[str] | str = []
    """Names of the rankers to train, as a list or with spaces between; empty: only given scores are evaluated."""
    checkpoints: str = "data/06_models"
    """Folder of the states of unfinished trainings, from which a killed training resumes."""
    at_once: Literal["wait", "refuse"] = "wait"
    """What a run does beside another run that writes what this run reads or writes, or reads what this run writes."""
    stale_inputs: Literal["warn", "refuse"] = "warn"
    """What a run does where an input was made with other options or older code, as ``kedro stale`` would say."""
    pins: dict[str, str] = {}
    """Version to read in place of the newest, by dataset: ``{two_tower.model: <version>}`` keeps a model in use while
    others are tried. Runs, search and notebooks read it; ``--load-versions`` goes before it. A run that makes the
    dataset reads what it has made."""
    tracking: bool = False
    """Whether MLflow records each run, in ``data/09_tracking/mlflow.db`` or where ``MLFLOW_TRACKING_URI`` says."""
    hardware: options.HardwareOptions
    make_shop: options.ShopOptions | None
    import_shop: ImportOptions | None
    describe: DescribeOptions
    ingest: options.IngestOptions
    language_model: options.LanguageModelOptions
    word_vectors: options.WordVectorOptions
    featurize: options.QueryOptions
    sample_negatives: options.NegativeOptions
    rerank: options.RerankOptions
    index: options.IndexOptions
    evaluate: options.EvaluateOptions


FIELDS = {name: field.annotation for name, field in Parameters.model_fields.items() if field.is_required()}
OPTION_GROUPS = {name: (get_args(kind) or (kind,))[0] for name, kind in FIELDS.items()}


def render_schema() -> str:
    """Render the schema of a parameters file, which may leave out any option: ``conf/base`` may set it."""
    text = json.dumps(Parameters.model_json_schema()).replace('"oneOf"', '"anyOf"')  # a model may lack its kind
    dropped = ("required", "discriminator")
    schema = json.loads(text, object_hook=lambda part: {key: part[key] for key in part if key not in dropped})
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


def render_page(project: Path) -> str:
    """Render all options in Markdown, group by group; ``conf/base`` of the project says which file sets a group."""
    places, users = {}, defaultdict(list)
    for path in sorted([*project.glob("conf/base/**/parameters.yml"), *project.glob("conf/base/rankers/*.yml")]):
        place = f"`{path.relative_to(project).as_posix()}`"
        for name, group in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            places[name] = place
            if path.parent.name == "rankers":
                users[group["model"]["kind"]].append(place)
    shared = f"Options that are no group are shared by all stages. In {places['seed']}."
    parts = [INTRODUCTION, _section("Groups", shared, Parameters)]
    parts += [_section(f"`{name}`", f"{kind.__doc__} In {places[name]}.", kind) for name, kind in OPTION_GROUPS.items()]
    parts.append(_section("`recall` of `evaluate`", options.RecallOptions.__doc__, options.RecallOptions))
    ranker = "The group has the ranker's name, and `model.kind` names the system. In `conf/base/rankers/<name>.yml`."
    parts.append(_section("A ranker", ranker, RankerOptions))
    for system in get_args(get_args(ModelOptions)[0]):
        kind = system.__pydantic_fields__["kind"].default
        parts.append(_section(f"System `{kind}`", f"{system.__doc__} In {', '.join(users[kind])}.", system))
    return "\n".join([*parts, _section("`image_encoder` of a system", ImageHeadsOptions.__doc__, ImageHeadsOptions)])


def _section(title: str, text: str, group: Any) -> str:
    items = []
    for name, schema in TypeAdapter(group).json_schema()["properties"].items():
        if "const" in schema:  # the `kind` of a system, which the title names
            continue
        field = group.__pydantic_fields__[name]
        facts, value = [_type(schema)], field.get_default(call_default_factory=True)
        if not (field.is_required() or is_dataclass(value)):
            shown = json.dumps(to_jsonable_python(value)).replace('"', "") or '""'  # no empty code span
            facts.append(f"default `{shown}`")
        items.append(_wrap(f"- `{name}` ({'; '.join(facts)}): {field.description or OPTION_GROUPS[name].__doc__}"))
    return "\n".join([f"## {title}", "", _wrap(text), "", *items, ""])


def _wrap(text: str) -> str:
    indent = "  " if text.startswith("-") else ""
    return textwrap.fill(text.replace("``", "`"), 120, subsequent_indent=indent, break_on_hyphens=False)


def _type(schema: dict[str, Any]) -> str:
    """Name the type that a JSON schema describes."""
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(map(_type, choices)))
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{value}`" for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("type") == "object":
        return f"name: {_type(schema['additionalProperties'])}"
    bounds = [f"{sign} {schema[bound]}" for bound, sign in BOUNDS.items() if bound in schema]
    return " ".join([schema.get("type", "group"), ", ".join(bounds)]).strip()


if __name__ == "__main__":
    for path, text in ((PAGE, render_page(Path.cwd())), (SCHEMA, render_schema())):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
        click.echo(f"wrote {path}")
