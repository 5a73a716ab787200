"""The command that turns a shop's own tables and photos into an environment of this project."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml
from kedro.framework.session import KedroSession
from kedro.framework.startup import ProjectMetadata

from multimodal_recall.commands.errors import as_click_error
from multimodal_recall.commands.project import load_project
from multimodal_recall.commands.shop_files import say_what_is_found

if TYPE_CHECKING:  # pyarrow and torch take seconds to import
    from multimodal_recall.config.describing import DescribeOptions

MARK = "# Written by kedro import-shop; change it as you like.\n"
ENVIRONMENT = re.compile(r"\w[\w-]*")
PRODUCTS_PER_CHUNK = 2_000
PAIRS_PER_CHUNK = 100_000
FEWEST_STEPS, MOST_STEPS, EPOCHS, BATCH = 400, 20_000, 20, 128
FEWEST_BATCHES = 3
"""Batches of an epoch at least, counted in all right pairs, of which two thirds or more are for training."""
FEWEST_WORD_EPOCHS, MOST_WORD_EPOCHS, WORD_PAIRS = 10, 300, 750_000
"""Epochs of word2vec, and the pairs that they read in all: after 30 epochs of 2,500 pairs all words are alike (mean
cosine .84), after 300 they are not (.27), and rankers that read words gain .03 to .06 of nDCG@5 (photos, valid)."""


@click.command("import-shop")
@click.argument("products", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("clicks", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--env", "-e", required=True, help="Name of the environment to write: the folder conf/<env>.")
@click.option(
    "--product-column", "product_columns", multiple=True, metavar="KIND=HEADER", help="sku, photo, title or category."
)
@click.option(
    "--click-column",
    "click_columns",
    multiple=True,
    metavar="KIND=HEADER",
    help="query, sku, count, date or relevance.",
)
@click.option(
    "--embedder",
    help="Vision model that describes boxes, a transformers folder or hub name; colours and edges follow its numbers. "
    "Without: colours and edges alone, a weak descriptor.",
)
@click.option("--detector", help="Object detector that finds further boxes, by folder or hub name.")
@click.option("--label", "labels", multiple=True, help="What OWLv2 or Grounding DINO looks for; one option a label.")
@click.option("--dry-run", is_flag=True, help="Say what was found and would be done, and do nothing.")
@click.pass_obj
@as_click_error
def import_shop(
    metadata: ProjectMetadata,
    products: Path,
    clicks: Path,
    photos: Path,
    env: str,
    product_columns: tuple[str, ...],
    click_columns: tuple[str, ...],
    embedder: str | None,
    detector: str | None,
    labels: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Make an environment of a shop's own tables and photos: its options, then its raw files.

    PRODUCTS is a table (CSV, TSV or parquet) with a SKU and the name of a photo in each row, and maybe title and
    category. CLICKS is a table with a query and the SKU of a clicked product in each row, and maybe count and date; or,
    with a relevance, of judgements. PHOTOS is the folder that the names of photos are relative to.

    Headers are guessed where they are plain, and said. Afterwards: kedro check, run and search, each with --env.
    """
    project = metadata.project_path
    _refuse_name(env)
    places = [_place(path, project) for path in (products, clicks, photos)]
    chosen = _columns(product_columns, PRODUCT_KINDS), _columns(click_columns, CLICK_KINDS)
    conf, known = project / "conf" / env, _known(project, env, places)
    pairs, count = say_what_is_found(products, clicks, photos, *chosen)
    describing = _describing(embedder, detector, labels)
    files = _files(env, places, chosen, pairs, count, describing)
    if known:
        _refuse_other_options(conf, files["parameters.yml"])
        click.echo(f"conf/{env} stays as it is: an import of these files wrote it")
    else:
        click.echo(f"features of the boxes: {describing.descriptor}")
    for name, text in {} if known else files.items():
        click.echo(f"{'would write' if dry_run else 'writes'} conf/{env}/{name}:\n{_indented(text)}")
    click.echo(f"{'would then run' if dry_run else 'runs'} kedro run --env={env} --pipelines=import_shop")
    if dry_run:
        return
    if not known:
        _write(conf, files)
    _run(metadata, env, _nodes_left(metadata, env) if known else None)
    _say_rejected(metadata, env)
    click.echo(
        f"The environment {env} is ready. Next:\n  kedro check --env={env}\n  kedro run --env={env}\n"
        f'  kedro search --env={env} "words of a query"'
    )


PRODUCT_KINDS, CLICK_KINDS = ("sku", "photo", "title", "category"), ("query", "sku", "count", "date", "relevance")
DESCRIBED = ("embedder", "colours_and_edges", "detector")
GIVEN = {"import_shop": ("product_columns", "click_columns"), "describe": ("embedder", "detector", "labels")}
"""Options of the environment that options of the command set."""


def _refuse_name(env: str) -> None:
    if env in ("base", "local") or not ENVIRONMENT.fullmatch(env):
        raise click.BadParameter(f"{env!r} is no name for an environment of your own, such as mine", param_hint="--env")


def _columns(options: Sequence[str], kinds: Sequence[str]) -> dict[str, str]:
    """Read KIND=HEADER."""
    pairs = dict(option.partition("=")[::2] for option in options)
    for kind, header in pairs.items():
        if kind not in kinds or not header:
            raise click.BadParameter(f"{kind}={header}: wanted KIND=HEADER with a kind of {', '.join(kinds)}")
    return pairs


def _place(path: Path, project: Path) -> str:
    """Write a path relative to the project where it lies inside it, so that the project can be moved."""
    path = path.resolve()
    return str(path.relative_to(project.resolve()) if path.is_relative_to(project.resolve()) else path)


def _raw(env: str) -> str:
    return f"data/01_raw/{env}"


def _known(project: Path, env: str, places: list[str]) -> bool:
    """Tell whether an import of the same files has written the environment.

    Raises:
        click.ClickException: If the environment, or the folder of its raw files, exists and is of another origin.
    """
    conf = project / "conf" / env
    if not conf.exists():
        if any((project / _raw(env)).glob("[!.]*")):
            raise click.ClickException(
                f"{_raw(env)} holds files, and no import wrote them, since there is no conf/{env}. Name another "
                "environment as --env, or move the files away"
            )
        return False
    parameters, globals_ = conf / "parameters.yml", conf / "globals.yml"
    marked = parameters.is_file() and globals_.is_file() and parameters.read_text(encoding="utf-8").startswith(MARK)
    if not marked:
        raise click.ClickException(
            f"conf/{env} exists, and import-shop did not write it. Name another environment as --env, or delete it"
        )
    kept = yaml.safe_load(globals_.read_text(encoding="utf-8"))
    options = yaml.safe_load(parameters.read_text(encoding="utf-8")).get("import_shop") or {}
    if (found := [kept.get("products"), kept.get("clicks"), options.get("photos")]) != places:
        raise click.ClickException(
            f"conf/{env} is an import of {', '.join(map(str, found))}. Name another environment as --env, or delete "
            f"conf/{env} and data/*/{env}"
        )
    return True


def _say_rejected(metadata: ProjectMetadata, env: str) -> None:
    """Name the file with the rows and photos that are not used, if there are any."""
    dataset = load_project(metadata, env, ["import_shop"], {})[1].get("shop.rejected")
    if rows := dataset.load().count_rows():
        click.echo(f"{rows:,} rows or photos are not used; which and why: {dataset.load_path()}")


def _files(
    env: str,
    places: list[str],
    columns: tuple[dict[str, str], dict[str, str]],
    pairs: int,
    products: int,
    describing: "DescribeOptions",
) -> dict[str, str]:
    """Write the options of the environment as YAML, by file name."""
    batch = min(BATCH, 1 << max(2, pairs // FEWEST_BATCHES).bit_length() - 1)  # a power of two
    steps = min(MOST_STEPS, max(FEWEST_STEPS, round(EPOCHS * pairs / BATCH)))
    globals_ = {"raw": _raw(env), "collection": env, "products": places[0], "clicks": places[1]}
    chunks = -(-products // PRODUCTS_PER_CHUNK)
    imported = {"photos": places[2], "chunks": chunks, "product_columns": columns[0], "click_columns": columns[1]}
    parameters = {
        "make_shop": None,
        "import_shop": {name: value for name, value in imported.items() if value},
        "describe": {name: getattr(describing, name) for name in DESCRIBED} | {"labels": [*describing.labels]},
        "rankers": ["bag_of_words"],
        "chunks": {"train": -(-pairs // PAIRS_PER_CHUNK), "catalogue": -(-products // PAIRS_PER_CHUNK)},
        "ingest": {"feature_size": _feature_size(describing)},
        "word_vectors": {"epochs": min(MOST_WORD_EPOCHS, max(FEWEST_WORD_EPOCHS, WORD_PAIRS // max(1, pairs)))},
        "sample_negatives": {"ignored_labels": []},
        "bag_of_words": {"steps": steps, "batch_size": batch},
    }
    made = {"globals.yml": globals_, "parameters.yml": parameters}
    return {name: MARK + yaml.safe_dump(value, sort_keys=False, allow_unicode=True) for name, value in made.items()}


def _describing(embedder: str | None, detector: str | None, labels: tuple[str, ...]) -> "DescribeOptions":
    from pydantic import ValidationError

    from multimodal_recall.config.describing import DescribeOptions

    try:
        return DescribeOptions(embedder, embedder is not None, detector, labels)
    except ValidationError as error:
        raise click.UsageError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


def _feature_size(describing: "DescribeOptions") -> int:
    """Load the vision models, as the import will, and ask how many numbers describe a box."""
    from multimodal_recall.config.options import HardwareOptions
    from multimodal_recall.models.vision.describe import load_descriptor, load_detector
    from multimodal_recall.runtime.device import choose_hardware

    hardware = choose_hardware(HardwareOptions())
    load_detector(describing, hardware)
    return load_descriptor(describing, hardware).width


def _refuse_other_options(conf: Path, asked: str) -> None:
    """Refuse an option of the command that differs from the environment, which stays as it is."""
    wanted, kept = (yaml.safe_load(text) for text in (asked, (conf / "parameters.yml").read_text(encoding="utf-8")))
    for group, names in GIVEN.items():
        for name in names:
            value, found = ((options.get(group) or {}).get(name) for options in (wanted, kept))
            if value and value != found:
                raise click.ClickException(
                    f"the command asks for {group}.{name} {value}, and conf/{conf.name}/parameters.yml has "
                    f"{found or 'none'}. Set it there and leave it out of the command, or name another environment"
                )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _write(conf: Path, files: dict[str, str]) -> None:
    """Write the folder of an environment, whole or not at all."""
    unfinished = conf.with_name(f".{conf.name}.unfinished")
    unfinished.mkdir(exist_ok=True)
    for name, text in files.items():
        (unfinished / name).write_text(text, encoding="utf-8")
    unfinished.rename(conf)


def _nodes_left(metadata: ProjectMetadata, env: str) -> list[str] | None:
    """Name the nodes from which an unfinished import goes on: the stale ones, and those with rejected photos.

    An import may have ended with an error, after which the user corrected a table or brought photos. After a finished
    import ``None``: all is imported anew.
    """
    from multimodal_recall.runs.staleness import find_stale

    pipeline, catalog = load_project(metadata, env, ["import_shop"], {})
    staleness = find_stale(pipeline, catalog)
    if not staleness.is_unfinished:
        return None
    makers = {name: node.name for node in pipeline.nodes for name in node.outputs if name.endswith(".rejected_photos")}
    refused = [node for name, node in makers.items() if catalog.exists(name) and catalog.load(name).count_rows()]
    return [*staleness.first, *refused]


def _run(metadata: ProjectMetadata, env: str, from_nodes: list[str] | None) -> None:
    with KedroSession.create(metadata.project_path, env=env) as session:
        session.run(pipeline_names=["import_shop"], from_nodes=from_nodes)
