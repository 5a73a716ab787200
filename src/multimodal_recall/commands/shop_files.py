"""What a shop's own tables and photos hold, in words."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # pyarrow and pandas take seconds to import
    import pandas as pd

    from multimodal_recall.data.shop_tables import ShopTable

SHOWN_FAULTS = 5


def say_what_is_found(
    products: Path, clicks: Path, photos: Path, product_columns: dict[str, str], click_columns: dict[str, str]
) -> tuple[int, int]:
    """Read both tables, look for the photos, say what is there, and count right pairs and products."""
    from multimodal_recall.config.import_options import ImportOptions
    from multimodal_recall.data.shop_clicks import CLICK_COLUMNS, read_shop_clicks, right_pairs
    from multimodal_recall.data.shop_products import PRODUCT_COLUMNS, read_shop_products
    from multimodal_recall.data.shop_tables import ShopTable

    table, log = ShopTable(products), ShopTable(clicks)
    shop, refused = read_shop_products(table, product_columns)
    _say(table, PRODUCT_COLUMNS, product_columns, refused.to_pandas())
    titled = shop.num_rows - shop["title"].null_count
    click.echo(f"  {shop.num_rows:,} products, {titled:,} with a title, {len(shop['category'].unique()):,} categories")
    _say_photos(photos, [photo for of_product in shop["photos"].to_pylist() for photo in of_product])
    found, refused = read_shop_clicks(log, shop, click_columns)
    _say(log, CLICK_COLUMNS, click_columns, refused.to_pandas())
    right = right_pairs(found.to_pandas(), ImportOptions())
    queries, dated = (len(of["query"].unique()) for of in (found, found.filter(found["first_day"].is_valid())))
    click.echo(
        f"  {queries:,} queries, {dated:,} with a date; {len(right):,} pairs of a query and a right product, of "
        f"{right['query'].nunique():,} queries and {right['product_id'].nunique():,} products"
    )
    return len(right), shop.num_rows


def _say(table: "ShopTable", kinds: Sequence[str], chosen: dict[str, str], rejected: "pd.DataFrame") -> None:
    found = table.find(kinds, chosen)
    click.echo(f"{table.path}: {table.form}")
    named = (f"{kind} = {header!r}{'' if kind in chosen else ' (guessed)'}" for kind, header in found.items())
    click.echo(f"  columns: {', '.join(named)}")
    if unread := [name for name in table.columns if name not in found.values()]:
        click.echo(f"  not read: {', '.join(unread)}")
    for row in rejected.head(SHOWN_FAULTS).itertuples():
        click.echo(f"  ! line {row.line}: {row.reason}: {row.text[:80]!r}")
    if len(rejected) > SHOWN_FAULTS:
        click.echo(f"  ! and {len(rejected) - SHOWN_FAULTS:,} more rows are not used")


def _say_photos(folder: Path, names: list[str]) -> None:
    """Say how many of the named photos are files; they are opened only by the import.

    Raises:
        click.ClickException: If none is.
    """
    faults = [fault for name in names if (fault := _photo_fault(folder, name))]
    click.echo(f"{folder}: {len(names) - len(faults):,} of the {len(names):,} photos that the table names")
    for fault in faults[:SHOWN_FAULTS]:
        click.echo(f"  ! {fault}")
    if len(faults) > SHOWN_FAULTS:
        click.echo(f"  ! and {len(faults) - SHOWN_FAULTS:,} more")
    if len(faults) == len(names):
        raise click.ClickException("no photo is there. Name the folder that the names in the table are relative to")


def _photo_fault(folder: Path, name: str) -> str:
    """Say why a photo is not there, or nothing."""
    from multimodal_recall.data.photos import PhotoError, photo_path

    try:
        path = photo_path(folder, name)
    except PhotoError as error:
        return str(error)
    return "" if path.is_file() else f"no such file: {name}"
