"""The command ``kedro search``: products for free-text queries, on the terminal, in a file or served as pages."""

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click
from click.core import ParameterSource
from kedro.framework.cli.utils import env_option
from kedro.framework.startup import ProjectMetadata

from multimodal_recall.commands.errors import as_click_error
from multimodal_recall.commands.project import load_project
from multimodal_recall.config.loader import in_project

if TYPE_CHECKING:  # Kedro imports this file before every command; pandas takes a second
    import pandas as pd


@click.command()
@env_option
@click.argument("queries", nargs=-1)
@click.option(
    "--split",
    help="Split whose products are ranked, or catalogue: all. By default the catalogue if it has a file of its own or "
    "the ranker an index, else the last split that this environment runs.",
)
@click.option("--ranker", help="Ranker whose newest model ranks; by default the first of `rankers`.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Products a query.")
@click.option("--label", "labels", multiple=True, help="Rank only products with a box of this label; may be repeated.")
@click.option(
    "--ids",
    type=click.File(encoding="utf-8-sig"),
    help="Rank only the products of this file, an id or SKU a line.",
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Page to draw the products in, too.")
@click.option("--serve", is_flag=True, help="Answer queries in a browser, until Ctrl-C.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --serve: address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="With --serve.")
@click.pass_obj
@as_click_error
def search(
    metadata: ProjectMetadata,
    env: str | None,
    queries: tuple[str, ...],
    split: str | None,
    ranker: str | None,
    top: int,
    labels: tuple[str, ...],
    ids: TextIO | None,
    html: Path | None,
    serve: bool,
    host: str,
    port: int,
) -> None:
    """Rank all products of the catalogue or of a split for free-text QUERIES, with a trained ranker.

    The ranker's index is used if its newest model made it of the present products (kedro run --pipelines=index); else
    every product is scored, which is slow.

    Queries are cleaned and encoded like those that the ranker was trained on. Compare scores within a query only.
    Put each query in quotes: kedro search "red dress" "black shoes"

    With --serve, queries are typed into a page, which compares rankers and collects judgements; the other options are
    what the page starts with. It needs: pip install -e ".[serve]"
    """
    if serve and html is not None:
        raise click.UsageError("--serve draws its own pages: leave out --html")
    given = [f"--{name}" for name in ("host", "port") if _is_given(name)]
    if given and not serve:
        raise click.UsageError(f"{' and '.join(given)}: nothing listens without --serve. Add --serve")
    if not (serve or queries):
        raise click.MissingParameter(param_hint="'QUERIES...'", param_type="argument")
    if serve:
        return _serve(metadata, env, queries, split, ranker, top, labels, ids, (host, port))
    from multimodal_recall.commands.search import known_skus, list_products, read_ids
    from multimodal_recall.commands.search import search as rank_products

    catalog = load_project(metadata, env, [], {})[1]
    ranked = rank_products(catalog, queries, split, ranker, top, labels, ids and read_ids(ids, known_skus(catalog)))
    if len(queries) > 1 and not any(" " in query for query in queries):
        click.echo(f'These are {len(queries)} queries. For one query of {len(queries)} words: "{" ".join(queries)}"')
    click.echo(ranked.attrs["source"])
    for query, products in ranked.groupby("query", sort=False):
        click.echo(f"\n{query}\n{list_products(products)}")
    if html is not None:
        _draw(ranked, html, in_project(catalog.load("params:evaluate").photos))


def _is_given(option: str) -> bool:
    return click.get_current_context().get_parameter_source(option) is not ParameterSource.DEFAULT


def _serve(
    metadata: ProjectMetadata,
    env: str | None,
    queries: tuple[str, ...],
    split: str | None,
    ranker: str | None,
    top: int,
    labels: tuple[str, ...],
    ids: TextIO | None,
    place: tuple[str, int],
) -> None:
    from multimodal_recall.commands.serve.server import listen, serve

    with listen(*place) as listening:
        from multimodal_recall.commands.search import known_skus, read_ids
        from multimodal_recall.commands.serve.shop import open_shop
        from multimodal_recall.commands.serve.wanted import start_with

        catalog = load_project(metadata, env, [], {})[1]
        shop = open_shop(catalog, split, ranker, ids and read_ids(ids, known_skus(catalog)))
        serve(listening, place[0], shop, start_with(shop.first, top, labels, shop.products.labels), queries)


def _draw(ranked: "pd.DataFrame", html: Path, photos: Path) -> None:
    from multimodal_recall.datasets.atomic_write import write_atomically
    from multimodal_recall.evaluation.report.page import render_found

    with write_atomically(html) as unfinished:
        unfinished.write_text(render_found(ranked, "Found", photos), encoding="utf-8")
    click.echo(f"\ndrawn in {html}")
