"""Titles and SKUs, from ``titles.parquet`` or an own table: people read them, rankers do not."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from multimodal_recall.data.official_format import RawFileError

TITLES_FILE = "titles.parquet"
PRODUCTS_NAMED = 3


def add_titles(new: pa.Table, old: ds.Dataset | None) -> pa.Table:
    """Put new titles before those of the other products that ``old`` holds; a new null takes the old title away."""
    titles = new.filter(new["title"].is_valid())
    if old is None:
        return titles
    others = ~ds.field("product_id").isin(new["product_id"].combine_chunks())
    return pa.concat_tables([titles, old.to_table(filter=others)])


def titles_of(titles: ds.Dataset, product_ids: pa.Array) -> pa.Array:
    """Look up the titles (n,) of products (n,), null where a product has none; no other rows are kept in memory.

    Raises:
        RawFileError: If one of the products has two different titles.
    """
    rows = titles.to_table(filter=ds.field("product_id").isin(product_ids))
    return names_of(rows, "title", product_ids, lambda: titles.files[0])


def names_of(names: pa.Table, kind: str, product_ids: pa.Array, file: Callable[[], Any]) -> pa.Array:
    """Look up ``kind``, title or sku, of products (n,) in a table of ``file()``; null where a product has none.

    Raises:
        RawFileError: If one of the products has two different titles or SKUs.
    """
    rows = names.filter(names[kind].is_valid())
    distinct = rows.group_by(["product_id", kind]).aggregate([]).combine_chunks()
    counts = pc.value_counts(distinct["product_id"])
    if differing := sorted(count["values"].as_py() for count in counts if count["counts"].as_py() > 1):
        raise RawFileError(
            f"{file()}: {len(differing):,} products have two different {kind}s, such as "
            f"{differing[:PRODUCTS_NAMED]}. Keep one row of each"
        )
    return distinct[kind].combine_chunks().take(pc.index_in(product_ids, value_set=distinct["product_id"]))
