"""The project's own commands: stale, prune, check, write-tsv, search, compare; and Kedro's run with shorter errors."""

import copy
import difflib
import functools
import re
import shlex
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import env_option, split_string
from kedro.framework.project import pipelines as registered
from kedro.framework.session import KedroSession
from kedro.framework.startup import ProjectMetadata
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline
from kedro.validation import ParameterValidationError

from multimodal_recall.config.loader import in_project, project_folder
from multimodal_recall.runtime.kedro_private import params_option

if TYPE_CHECKING:  # Kedro imports this file before every command; pyarrow takes a second
    import pandas as pd

MOST_SUGGESTED = 3
TRACEBACK = "data/.runs/traceback.log"
SAID_BY_KEDRO = (DatasetError, MissingConfigException, ParameterValidationError)
"""Errors of Kedro whose text is meant for users, as is that of all errors that this package defines."""
ERROR_REMEDIES = {
    MissingConfigException: "Name a folder of conf/ as --env",
    ParameterValidationError: "All options and their meaning: docs/options.md",
}


def as_click_error(function: Callable[..., Any]) -> Callable[..., Any]:
    """Report an error as a message; its traceback goes into ``TRACEBACK``.

    An error that is neither this package's nor Kedro's own may be a fault of the program: the message then names its
    kind and the file of its traceback.
    """

    @functools.wraps(function)
    def run_and_report(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except click.ClickException:
            raise
        except Exception as error:
            raise click.ClickException(_describe(error)) from error

    return run_and_report


def _describe(error: Exception) -> str:
    """Say what went wrong and what to do; keep the traceback of an error that is not meant for users."""
    text = re.sub(r"\n +For further information visit .*", "", str(error))  # pydantic's own pages
    remedies = [remedy for kind, remedy in ERROR_REMEDIES.items() if isinstance(error, kind)]
    if isinstance(error, SAID_BY_KEDRO) or type(error).__module__.startswith("multimodal_recall."):
        return "\n".join([text, *remedies])
    origin = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    if origin.startswith("kedro."):
        text, names = text.split(" Did you mean")[0].split(" It needs to be")[0], suggest_names(text)
        return "\n".join([text, *([f"Did you mean {' or '.join(names)}?"] if names else [])])
    file = project_folder() / TRACEBACK
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return f"{type(error).__name__}: {text}\nThe traceback is in {file}"


def suggest_names(text: str) -> list[str]:
    """Find names of pipelines, nodes, namespaces or datasets that are like the quoted names of Kedro's message.

    A node or namespace without its first parts, as ``chunk_002`` for ``train.chunk_002``, is like the whole name.
    """
    nodes = [node for pipeline in registered.values() for node in pipeline.nodes]
    kinds = {
        "pipeline named": set(registered),
        "nodes named": {node.name for node in nodes},
        "namespaces": {node.namespace for node in nodes if node.namespace},
        "datasets named": {name for node in nodes for name in (*node.inputs, *node.outputs)},
    }
    known = next((sorted(names) for words, names in kinds.items() if words in text), [])
    found = []
    for name in re.findall(r"'([^']+)'", text.split(" Did you mean")[0].split(" It needs to be")[0]):
        ends = [other for other in known if other.endswith(f".{name}")]
        found += ends[:MOST_SUGGESTED] or difflib.get_close_matches(name, known, MOST_SUGGESTED)
    return list(dict.fromkeys(found))


@click.group(name="multimodal_recall")
def cli() -> None:
    """Check raw files, write TSVs, list stale outputs, drop old versions, compare runs, and search."""


run = copy.copy(kedro_run)  # Kedro looks for `run` both in this module and in the group `cli`
run.callback = as_click_error(kedro_run.callback)
cli.add_command(run)


@as_click_error
def _load(
    metadata: ProjectMetadata, env: str | None, names: list[str], params: dict[str, Any]
) -> tuple[Pipeline, CatalogProtocol]:
    """Load an environment's catalog and the named pipelines (all by default) as one pipeline."""
    with KedroSession.create(metadata.project_path, env=env, runtime_params=params) as session:
        catalog = session.load_context().catalog
    unknown = [name for name in names if name not in registered]
    if unknown:
        raise click.BadParameter(f"there is no pipeline {unknown}, only {sorted(registered)}", param_hint="--pipelines")
    return Pipeline([registered[name] for name in names or ["__default__"]]), catalog


@cli.command()
@env_option
@params_option
@click.option(
    "--pipelines", default="", callback=split_string, help="Pipelines to judge, comma-separated; by default all."
)
@click.option("--code/--no-code", default=True, show_default=True, help="Whether changed code makes an output stale.")
@click.pass_obj
def stale(
    metadata: ProjectMetadata, env: str | None, params: tuple[str, dict[str, Any]], pipelines: list[str], code: bool
) -> None:
    """List stale outputs, each with the reason, and the one command that makes them anew.

    An output is stale if it is missing, if it has no record, if an input has a newer version, or if a raw file, an
    option or the code has changed since. The code is that of the node and of all functions of this package that it
    calls; comments and docstrings do not count. Pass the same --env and --params as to your run.

    Changes in a model folder or in a GloVe file are not seen. An input that was pinned to an old version with
    --load-versions makes nothing stale.

    The exit code is 0 if nothing is stale and 1 if something is, for scripts: kedro stale || kedro run
    """
    from multimodal_recall.runs.staleness import find_stale, name_briefly

    text, values = params
    staleness = find_stale(*_load(metadata, env, pipelines, values), code)
    for note in staleness.notes:
        click.echo(f"note: {note}")
    if not staleness.reasons:
        click.echo("nothing is stale")
        return
    click.echo("stale:")
    for reason, concerned in staleness.reasons.items():
        click.echo(f"  {reason}: {name_briefly(concerned)}")
    if staleness.following:
        click.echo(f"downstream nodes: {name_briefly(staleness.following)}")
    options = {
        "env": env,
        "pipelines": ",".join(pipelines),
        "from-nodes": None if staleness.everything else ",".join(staleness.first),
        "params": text,
    }
    given = (f"--{name}={value}" for name, value in options.items() if value)
    click.echo(f"make them anew with:\n  {shlex.join(['kedro', 'run', *given])}")
    click.get_current_context().exit(1)


@cli.command()
@env_option
@click.option("--keep", type=click.IntRange(min=1), required=True, help="Newest versions of each output to keep.")
@click.option("--dry-run", is_flag=True, help="Report what would be dropped, and drop nothing.")
@click.pass_obj
def prune(metadata: ProjectMetadata, env: str | None, keep: int, dry_run: bool) -> None:
    """Drop all but the newest versions of each output of an environment, without asking.

    Older versions stay where a kept list of examples or a kept model names them: both can still be loaded and trained
    on. Unfinished files of killed runs are dropped once they are an hour old. Raw files stay.

    Try --dry-run first, and do not prune while a run is under way.
    """
    from multimodal_recall.runs.pruning import find_prunable

    prunable = find_prunable(*_load(metadata, env, [], {}), keep)
    counts, sizes = Counter(item.kind for item in prunable), Counter[str]()
    for item in prunable:
        sizes[item.kind] += item.size
        if not dry_run:
            item.remove()
    for kind, count in sorted(counts.items()):
        click.echo(f"  {kind}: {count}, {sizes[kind] / 1e6:,.1f} MB")
    click.echo(f"{'would drop' if dry_run else 'dropped'} {len(prunable)} in all, {sizes.total() / 1e6:,.1f} MB")


@cli.command()
@env_option
@click.pass_obj
def check(metadata: ProjectMetadata, env: str | None) -> None:
    """Describe an environment's raw files, and report each faulty row with its reason.

    Rows are judged by the code that ingests them. Also reported: answers that are no candidates, queries without
    answers, features of another width than ingest.feature_size, ignored labels that the label file does not have, a
    checkpoint that cannot be used (the network is not asked), and how many words a GloVe file knows.

    The exit code is 0 without faults and 1 with faults. A run leaves faulty rows out, and stops where more than
    ingest.max_rejected_share of a chunk are faulty.
    """
    from multimodal_recall.commands.check import check_raw_files
    from multimodal_recall.config.layout import read_layout

    _, catalog = _load(metadata, env, [], {})
    layout = read_layout()
    if not layout.rankers:
        raise click.UsageError(
            "this environment trains no ranker (rankers is empty), and so reads no TSV. Name an environment "
            "with rankers as --env"
        )
    faults = 0
    for file in check_raw_files(catalog, layout):
        faults += file.reasons.total()
        click.echo(file.name)
        for line in [*file.facts, *(f"! {fault}" for fault in [*file.faults, *file.unshown()])]:
            click.echo(f"  {line}")
    click.echo(f"faults: {faults:,}" if faults else "nothing is wrong")
    click.get_current_context().exit(1 if faults else 0)


@cli.command("write-tsv")
@click.argument("table", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("tsv", type=click.Path(dir_okay=False, path_type=Path))
def write_tsv(table: Path, tsv: Path) -> None:
    """Write TABLE, a parquet file with one row a query and product, as the TSV that ingest reads.

    Columns of TABLE: product_id, image_h, image_w, boxes (top, left, bottom, right in pixels, box after box), features,
    class_labels, query, query_id. Boxes, features and class_labels are lists or lists of lists; all features have the
    same width.
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
@click.option("--split", help="Split whose products are ranked; by default the last that this environment runs.")
@click.option("--ranker", help="Ranker whose newest model ranks; by default the first of `rankers`.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Products a query.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Page to draw the products in, too.")
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

    Queries are cleaned and encoded like those that the ranker was trained on. Compare scores within a query only.
    Put each query in quotes: kedro search "red dress" "black shoes"
    """
    from multimodal_recall.commands.search import SearchError, list_products
    from multimodal_recall.commands.search import search as rank_products
    from multimodal_recall.models.saved import SavedRankerError

    catalog = _load(metadata, env, [], {})[1]
    try:
        ranked = rank_products(catalog, queries, split, ranker, top)
        for query, products in ranked.groupby("query", sort=False):
            click.echo(f"\n{query}\n{list_products(products)}")
        if html is not None:
            _draw(ranked, html, in_project(catalog.load("params:evaluate").photos))
    except (SearchError, SavedRankerError, DatasetError) as error:
        raise click.ClickException(str(error)) from error


def _draw(ranked: "pd.DataFrame", html: Path, photos: Path) -> None:
    from multimodal_recall.datasets.atomic_write import write_atomically
    from multimodal_recall.evaluation.report.page import render_found

    with write_atomically(html) as unfinished:
        unfinished.write_text(render_found(ranked, "Found", photos), encoding="utf-8")
    click.echo(f"\ndrawn in {html}")


@cli.command()
@env_option
@click.argument("versions", nargs=-1)
@click.pass_obj
def compare(metadata: ProjectMetadata, env: str | None, versions: tuple[str, ...]) -> None:
    """Put runs side by side: what differs, each ranking's nDCG@5, the trainings.

    VERSIONS are the time stamps of two or more comparisons or models, as in the folders of data/; by default those of
    the two newest evaluations. Differences are to the oldest run, with 95 % intervals paired by query.

    In a notebook: multimodal_recall.runs.compare.compare_runs(catalog)
    """
    from multimodal_recall.runs.compare import RunError, compare_runs

    try:
        click.echo(compare_runs(_load(metadata, env, [], {})[1], versions))
    except RunError as error:
        raise click.BadParameter(str(error), param_hint="VERSIONS") from error
