"""The project's own commands, of which search and import-shop lie in commands; and Kedro's run with shorter errors."""

import copy
import shlex
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import env_option, split_string
from kedro.framework.startup import ProjectMetadata
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from multimodal_recall.commands.errors import as_click_error
from multimodal_recall.commands.import_shop import import_shop
from multimodal_recall.commands.project import load_project
from multimodal_recall.commands.search_command import search
from multimodal_recall.runtime.kedro_private import params_option

if TYPE_CHECKING:  # Kedro imports this file before every command; pyarrow takes a second
    import pyarrow as pa


@click.group(name="multimodal_recall")
def cli() -> None:
    """Import a shop, check raw files, write TSVs, list stale outputs, drop old versions, compare runs, and search."""


run = copy.copy(kedro_run)  # Kedro looks for `run` both in this module and in the group `cli`
run.callback = as_click_error(kedro_run.callback)
cli.add_command(run)
cli.add_command(search)
cli.add_command(import_shop)


@cli.command()
@env_option
@params_option
@click.option(
    "--pipelines",
    default="",
    callback=split_string,
    help="Pipelines to judge, comma-separated; by default those of a plain run.",
)
@click.option("--code/--no-code", default=True, show_default=True, help="Whether changed code makes an output stale.")
@click.pass_obj
@as_click_error
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
    staleness = find_stale(*load_project(metadata, env, pipelines, values), code)
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
@as_click_error
def prune(metadata: ProjectMetadata, env: str | None, keep: int, dry_run: bool) -> None:
    """Drop all but the newest versions of each output of an environment, without asking.

    Older versions stay where a kept list of examples or a kept model names them, as do the models of kept scores: all
    can still be loaded and trained on. Unfinished files of killed runs are dropped once they are an hour old. Raw files
    stay.

    Try --dry-run first. Pruning waits for the end of runs that are under way, and runs wait for the end of pruning.
    """
    from multimodal_recall.datasets.atomic import atomic_datasets
    from multimodal_recall.runs.pruning import find_prunable
    from multimodal_recall.runs.turns import claim, turn

    pipeline, catalog = load_project(metadata, env, ["all"], {})
    datasets = atomic_datasets(sorted(pipeline.datasets()), catalog).values()
    with nullcontext() if dry_run else turn(claim("kedro prune", [], datasets)):
        prunable = find_prunable(pipeline, catalog, keep)
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
@click.option("--data", is_flag=True, help="Read everything that runs have saved instead, and name what is damaged.")
@click.pass_obj
@as_click_error
def check(metadata: ProjectMetadata, env: str | None, data: bool) -> None:
    """Describe an environment's raw files, and report each faulty row with its reason.

    Rows are judged by the code that ingests them. Also reported: answers that are no candidates, queries without
    answers, features of another width than ingest.feature_size, ignored labels that the label file does not have, a
    checkpoint that cannot be used (the network is not asked), and how many words a GloVe file knows.

    The exit code is 0 without faults and 1 with faults. A run leaves faulty rows out, and stops where more than
    ingest.max_rejected_share of a chunk are faulty.

    With --data, the digests of all saved versions, records and checkpoints are compared with the files.
    """
    if data:
        return _check_saved(*load_project(metadata, env, ["all"], {}))
    from multimodal_recall.commands.check import check_raw_files
    from multimodal_recall.config.layout import read_layout

    _, catalog = load_project(metadata, env, [], {})
    layout = read_layout()
    if not layout.rankers:
        raise click.UsageError(
            "this environment trains no ranker (rankers is empty), and so reads no TSV. Name an environment "
            "with rankers as --env"
        )
    faults = 0
    for file in check_raw_files(catalog, layout):
        faults += file.counts.total()
        click.echo(file.name)
        for line in [*file.facts, *(f"! {fault}" for fault in [*file.faults, *file.unshown()])]:
            click.echo(f"  {line}")
    click.echo(f"faults: {faults:,}" if faults else "nothing is wrong")
    click.get_current_context().exit(1 if faults else 0)


def _check_saved(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    from multimodal_recall.runs.damage import find_damage

    found = list(find_damage(pipeline, catalog))
    damages = [damage for _, damage in found if damage is not None]
    for damage in damages:
        click.echo(f"! {damage}")
    click.echo(f"{len(found):,} saved files and folders were compared with their digests, faults: {len(damages):,}")
    click.get_current_context().exit(1 if damages else 0)


@cli.command("write-tsv")
@click.argument("table", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("tsv", type=click.Path(dir_okay=False, path_type=Path))
@as_click_error
def write_tsv(table: Path, tsv: Path) -> None:
    """Write TABLE, a parquet file with one row a query and product, as the TSV that ingest reads.

    Columns of TABLE: product_id, image_h, image_w, boxes (top, left, bottom, right in pixels, box after box), features,
    class_labels, query, query_id. Boxes, features and class_labels are lists or lists of lists; all features have the
    same width. A table without query and query_id is a catalogue, to be written as catalogue.tsv.

    A further column title, a text or null, goes into titles.parquet beside the TSV, and replaces the titles that the
    file has of the same products. A column sku is not written: to keep SKUs, let ingest read TABLE itself.
    """
    import pyarrow.parquet as pq

    from multimodal_recall.data.own_parquet import ParquetRows, read_own_titles
    from multimodal_recall.datasets.official_files import OfficialTsvDataset

    OfficialTsvDataset(str(tsv)).save(ParquetRows(table))
    click.echo(f"{tsv}: {pq.read_metadata(table).num_rows:,} rows")
    if "sku" in pq.read_schema(table).names:
        click.echo(f"{table}: SKUs are not written. To keep them, delete the TSV: ingest reads the table itself")
    if (titles := read_own_titles(table)) is not None:
        _save_titles(titles, tsv)


def _save_titles(titles: "pa.Table", tsv: Path) -> None:
    from multimodal_recall.data.titles import TITLES_FILE, add_titles
    from multimodal_recall.datasets.parquet_table import TitlesParquet

    file = TitlesParquet(str(tsv.with_name(TITLES_FILE)))
    file.save(add_titles(titles, file.load() if file.exists() else None))
    click.echo(f"{file.path}: titles of {titles.num_rows - titles['title'].null_count:,} products")


@cli.command()
@env_option
@click.argument("versions", nargs=-1)
@click.pass_obj
@as_click_error
def compare(metadata: ProjectMetadata, env: str | None, versions: tuple[str, ...]) -> None:
    """Put runs side by side: what differs, each ranking's nDCG@5, the trainings.

    VERSIONS are the time stamps of two or more comparisons or models, as in the folders of data/; by default those of
    the two newest evaluations. Differences are to the oldest run, with 95 % intervals paired by query.

    In a notebook: multimodal_recall.runs.compare.compare_runs(catalog)
    """
    from multimodal_recall.runs.compare import RunError, compare_runs

    try:
        click.echo(compare_runs(load_project(metadata, env, [], {})[1], versions))
    except RunError as error:
        raise click.BadParameter(str(error), param_hint="VERSIONS") from error
