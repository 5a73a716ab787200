"""Commands of this project beside Kedro's own: ``kedro stale``, ``kedro prune`` and ``kedro compare``."""

import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.cli.project import PARAMS_ARG_HELP, run  # noqa: F401  (Kedro looks for `run` beside `cli`)
from kedro.framework.cli.utils import _split_params, env_option, split_string
from kedro.framework.project import pipelines as registered
from kedro.framework.session import KedroSession
from kedro.framework.startup import ProjectMetadata
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

if TYPE_CHECKING:  # Kedro imports this file before every command; pyarrow takes a second
    from multimodal_recall.staleness import Staleness


@click.group(name="multimodal_recall")
def cli() -> None:
    """See what is stale, drop old versions, and compare runs."""


def _text_and_values(context: click.Context, option: click.Parameter, text: str) -> tuple[str, dict[str, Any]]:
    return text, _split_params(context, option, text)


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
@click.pass_obj
def stale(metadata: ProjectMetadata, env: str | None, params: tuple[str, dict[str, Any]], pipelines: list[str]) -> None:
    """List what no longer follows from the present data and options, and the command that makes it anew.

    An output is stale if it is missing, if an input has a newer version, if a raw file or an option is another than
    when it was made, or if how it was made is not recorded. Give the --params that you run with. Changes of the code,
    of a model folder or of a GloVe file are not seen; an input that was pinned to an old version counts as wanted.

    The exit code is 0 where nothing is stale and 1 where something is, so that a script can ask:
    kedro stale || kedro run
    """
    from multimodal_recall.staleness import find_stale, name_briefly

    text, values = params
    found = find_stale(*_load(metadata, env, pipelines, values))
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
    from multimodal_recall.pruning import find_prunable, prune_one

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
@click.argument("versions", nargs=-1)
@click.pass_obj
def compare(metadata: ProjectMetadata, env: str | None, versions: tuple[str, ...]) -> None:
    """Put runs side by side: what differs, each ranking's nDCG@5, the trainings.

    VERSIONS are two or more time stamps of a comparison or of a model, as they stand in data/; the two newest runs that
    were evaluated, where none is named. Differences are to the oldest, with 95 % intervals paired by query. The same in
    a notebook: multimodal_recall.run_comparison.compare_runs(catalog).
    """
    from multimodal_recall.run_comparison import RunError, compare_runs

    try:
        click.echo(compare_runs(_load(metadata, env, [], {})[1], versions))
    except RunError as error:
        raise click.BadParameter(str(error), param_hint="VERSIONS") from error
