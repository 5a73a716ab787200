"""Commands of this project beside Kedro's own: from checking raw files to searching with a trained ranker."""

import copy
import functools
import re
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import PARAMS_ARG_HELP
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import _split_params, env_option, split_string
from kedro.framework.project import pipelines as registered
from kedro.framework.session import KedroSession
from kedro.framework.startup import ProjectMetadata
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline
from kedro.validation import ParameterValidationError

from multimodal_recall.config.layout import LayoutError
from multimodal_recall.config.options import UnknownModelError
from multimodal_recall.runs.hooks import MissingInputsError
from multimodal_recall.runtime.cores import HardwareError

if TYPE_CHECKING:  # Kedro imports this file before every command; pyarrow takes a second
    import pandas as pd

    from multimodal_recall.runs.staleness import Staleness


BEFORE_NODES = (
    HardwareError,
    LayoutError,
    MissingConfigException,
    MissingInputsError,
    ParameterValidationError,
    UnknownModelError,
)
"""What is wrong with the configuration or the raw files, found before the first node."""
ERROR_REMEDIES = {
    MissingConfigException: "Name a folder of conf/ as --env",
    ParameterValidationError: "All options and their meaning: src/multimodal_recall/config (options, rankers, systems)",
}


def as_click_error(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make of an error in ``BEFORE_NODES`` a message without the lines of code that found it."""

    @functools.wraps(function)
    def run_and_report(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BEFORE_NODES as error:
            text = re.sub(r"\n +For further information visit .*", "", str(error))  # of pydantic's own pages
            remedies = [remedy for kind, remedy in ERROR_REMEDIES.items() if isinstance(error, kind)]
            raise click.ClickException("\n".join([text, *remedies])) from error

    return run_and_report


@click.group(name="multimodal_recall")
def cli() -> None:
    """Check raw files, write your own as TSVs, see what is stale, drop old versions, compare runs, and search."""


run = copy.copy(kedro_run)  # Kedro looks for it beside `cli`, and in it
run.callback = as_click_error(kedro_run.callback)
cli.add_command(run)


def _text_and_values(context: click.Context, option: click.Parameter, text: str) -> tuple[str, dict[str, Any]]:
    return text, _split_params(context, option, text)


@as_click_error
def _load(
    metadata: ProjectMetadata, env: str | None, names: list[str], params: dict[str, Any]
) -> tuple[Pipeline, CatalogProtocol]:
    """The named pipelines (all by default) of an environment as one, and its catalog."""
    with KedroSession.create(metadata.project_path, env=env, runtime_params=params) as session:
        catalog = session.load_context().catalog
    unknown = [name for name in names if name not in registered]
    if unknown:
        raise click.BadParameter(f"there is no pipeline {unknown}, only {sorted(registered)}", param_hint="--pipelines")
    return Pipeline([registered[name] for name in names or ["__default__"]]), catalog


@cli.command()
@env_option
@click.option("--params", default="", callback=_text_and_values, help=PARAMS_ARG_HELP)
@click.option("--pipelines", default="", callback=split_string, help="Look at these only, comma-separated.")
@click.option("--code/--no-code", default=True, show_default=True, help="Whether changed code makes outputs stale.")
@click.pass_obj
def stale(
    metadata: ProjectMetadata, env: str | None, params: tuple[str, dict[str, Any]], pipelines: list[str], code: bool
) -> None:
    """List the outputs that no longer follow from the data, options and code, and the command that makes them anew.

    An output is stale if it is missing or has no record, if an input has a newer version, or if a raw file, an option
    or the code is not as it was. The code is that of the node and of all that it calls in this package; comments and
    docstrings do not count. Give the --params that you run with. Changes of a model folder or a GloVe file are not
    seen. An input that was pinned to an old version counts as wanted.

    The exit code is 0 if nothing is stale and 1 if something is, so that a script can ask: kedro stale || kedro run
    """
    from multimodal_recall.runs.staleness import find_stale, name_briefly

    text, values = params
    found = find_stale(*_load(metadata, env, pipelines, values), code)
    for note in found.notes:
        click.echo(f"note: {note}")
    if not found.reasons:
        click.echo("nothing is stale")
        return
    click.echo("stale:")
    for reason, concerned in found.reasons.items():
        click.echo(f"  {reason}: {name_briefly(concerned)}")
    if found.following:
        click.echo(f"and what follows from it: {name_briefly(found.following)}")
    click.echo(f"make it anew with:\n  {_remedy(found, env, text, pipelines)}")
    click.get_current_context().exit(1)


def _remedy(found: "Staleness", env: str | None, params: str, pipelines: list[str]) -> str:
    options = {
        "env": env,
        "pipelines": ",".join(pipelines),
        "from-nodes": None if found.everything else ",".join(found.first),
        "params": params,
    }
    return shlex.join(["kedro", "run", *(f"--{name}={value}" for name, value in options.items() if value)])


@cli.command()
@env_option
@click.option("--keep", type=click.IntRange(min=1), required=True, help="Newest versions of each output that stay.")
@click.option("--dry-run", is_flag=True, help="Say what would be dropped, and drop nothing.")
@click.pass_obj
def prune(metadata: ProjectMetadata, env: str | None, keep: int, dry_run: bool) -> None:
    """Drop all but the newest versions of each output of an environment.

    A version that a kept list of examples or a kept model names stays, so that both can be loaded and trained on. What
    killed runs left unfinished is dropped too, after an hour. Raw files stay. Nothing is asked: try --dry-run first,
    and prune while no run is under way.
    """
    from multimodal_recall.runs.pruning import find_prunable, prune_one

    found = find_prunable(*_load(metadata, env, [], {}), keep)
    counts, sizes = Counter(one.kind for one in found), Counter[str]()
    for one in found:
        sizes[one.kind] += one.size
        if not dry_run:
            prune_one(one)
    for kind, count in sorted(counts.items()):
        click.echo(f"  {kind}: {count}, {sizes[kind] / 1e6:,.1f} MB")
    click.echo(f"{'would drop' if dry_run else 'dropped'} {len(found)} in all, {sizes.total() / 1e6:,.1f} MB")


@cli.command()
@env_option
@click.pass_obj
def check(metadata: ProjectMetadata, env: str | None) -> None:
    """Read an environment's raw files and say what they hold, and row by row what is wrong with them.

    Rows are judged by the code that ingests them. Also found: answers that are no candidates, queries without answers,
    features of another width than ingest.feature_size, ignored labels that are none, and what a GloVe file knows.

    The exit code is 0 where nothing is wrong and 1 where something is. A run itself leaves wrong rows out, and stops
    where more than ingest.max_rejected_share of a chunk are wrong.
    """
    from multimodal_recall.commands.check import check_raw_files
    from multimodal_recall.config.layout import read_layout

    _, catalog = _load(metadata, env, [], {})
    layout = read_layout()
    if not layout.rankers:
        raise click.UsageError("this environment trains no ranker (rankers is empty), and so reads no TSV")
    faults = 0
    for found in check_raw_files(catalog, layout):
        faults += found.reasons.total()
        click.echo(found.name)
        for line in found.facts:
            click.echo(f"  {line}")
        for line in [*found.faults, *found.unshown()]:
            click.echo(f"  ! {line}")
    click.echo(f"faults: {faults:,}" if faults else "nothing is wrong")
    click.get_current_context().exit(1 if faults else 0)


@cli.command("write-tsv")
@click.argument("table", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("tsv", type=click.Path(dir_okay=False, path_type=Path))
def write_tsv(table: Path, tsv: Path) -> None:
    """Write TABLE, a parquet file with a row a query and product, as the TSV that ingest reads.

    Its columns: product_id, image_h, image_w, boxes (top, left, bottom, right in pixels, box after box), features,
    class_labels, query, query_id. The arrays are lists or lists of lists; features may be of any one width.
    """
    import pyarrow.parquet as pq

    from multimodal_recall.data.own_parquet import ParquetRows
    from multimodal_recall.datasets.official_files import OfficialTsvDataset

    try:
        OfficialTsvDataset(str(tsv)).save(ParquetRows(table))
    except DatasetError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{tsv}: {pq.read_metadata(table).num_rows:,} rows")


@cli.command()
@env_option
@click.argument("queries", nargs=-1, required=True)
@click.option("--split", help="Whose products; by default the last that this environment runs.")
@click.option("--ranker", help="Whose newest model; by default the first of `rankers`.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Products a query.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Also draw the products in this file.")
@click.pass_obj
def search(
    metadata: ProjectMetadata,
    env: str | None,
    queries: tuple[str, ...],
    split: str | None,
    ranker: str | None,
    top: int,
    html: Path | None,
) -> None:
    """Rank all products of a split for free-text QUERIES, with a trained ranker.

    A query is cleaned and made into numbers as those were that the ranker was trained on. Scores are to be compared
    within a query. Give each query in quotes: kedro search "red dress" "black shoes".
    """
    from multimodal_recall.commands.search import SearchError
    from multimodal_recall.commands.search import search as find

    catalog = _load(metadata, env, [], {})[1]
    try:
        found = find(catalog, queries, split, ranker, top)
        for query, products in found.groupby("query", sort=False):
            click.echo(f"\n{query}\n{_list_found(products)}")
        if html is not None:
            _draw_found(found, html, metadata.project_path / catalog.load("params:evaluate").photos)
    except (SearchError, DatasetError) as error:
        raise click.ClickException(str(error)) from error


def _draw_found(found: "pd.DataFrame", html: Path, photos: Path) -> None:
    from multimodal_recall.datasets.atomic_write import write_atomically
    from multimodal_recall.evaluation.report.page import render_found

    with write_atomically(html) as unfinished:
        unfinished.write_text(render_found(found, "Found", photos), encoding="utf-8")
    click.echo(f"\ndrawn in {html}")


def _list_found(products: "pd.DataFrame") -> str:
    """The products of a query as lines: rank, id, score, and how many boxes have each label."""
    from multimodal_recall.data.text import words_of
    from multimodal_recall.evaluation.report.drawings import short_label

    query, unknown = products[["query", "unknown_words"]].iloc[0]
    told_unknown = f"not in the vocabulary: {', '.join(unknown)}"
    if len(unknown) == len(words_of(query)):
        told_unknown += " (all of it: such a ranking means little)"
    counts = [Counter(map(short_label, labels)).most_common() for labels in products["labels"]]
    run_and_report = [", ".join(f"{count} x {label}" for label, count in labels) for labels in counts]
    lines = [f"{'rank':>4} {'product_id':>12} {'score':>8}  labels"]
    lines += [
        f"{row.rank:4} {row.product_id:12} {row.score:8.3f}  {labels}"
        for row, labels in zip(products.itertuples(), run_and_report, strict=True)
    ]
    return "\n".join([*[told_unknown] * bool(unknown), *lines])


@cli.command()
@env_option
@click.argument("versions", nargs=-1)
@click.pass_obj
def compare(metadata: ProjectMetadata, env: str | None, versions: tuple[str, ...]) -> None:
    """Put runs side by side: what differs, each ranking's nDCG@5, the trainings.

    VERSIONS are two or more time stamps of a comparison or of a model, as they stand in data/; the two newest runs that
    were evaluated, where none is named. Differences are to the oldest, with 95 % intervals paired by query. The same in
    a notebook: multimodal_recall.runs.compare.compare_runs(catalog).
    """
    from multimodal_recall.runs.compare import RunError, compare_runs

    try:
        click.echo(compare_runs(_load(metadata, env, [], {})[1], versions))
    except RunError as error:
        raise click.BadParameter(str(error), param_hint="VERSIONS") from error
