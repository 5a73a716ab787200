"""Free-text queries against all products of the catalogue or of a split, ranked by a trained model."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from kedro.io import CatalogProtocol

from multimodal_recall.commands.products import SearchError, open_products
from multimodal_recall.commands.searcher import open_searcher
from multimodal_recall.config.layout import CATALOGUE, Layout, read_layout
from multimodal_recall.data.official_format import BadRow, whole_number
from multimodal_recall.data.text import vocabulary_note
from multimodal_recall.evaluation.report.drawings import short_label
from multimodal_recall.runtime.device import choose_hardware


def search(
    catalog: CatalogProtocol,
    queries: Sequence[str],
    split: str | None = None,
    ranker: str | None = None,
    top: int = 10,
    labels: Sequence[str] = (),
    product_ids: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Rank all products of the catalogue or of a split for each query, by the newest or the pinned model of a ranker.

    Queries are encoded like those that the model was trained on: with the cleaning, language model, word vectors and
    lengths that the records of its training chunks name. The ranker's index is used if this model made it of the
    present products; else every product is scored. ``attrs["source"]`` of the table says which.

    Args:
        catalog: The project's; ``catalog`` in a notebook.
        queries: Free texts; texts that are equal after cleaning are searched once.
        split: Split whose products are ranked, or ``catalogue``: all. By default the catalogue if it has a file of its
            own or the ranker an index, else the last split that this environment runs.
        ranker: Name of the ranker; by default the first of ``rankers``.
        top: Products a query.
        labels: Names of labels, whole or up to their bracket: only products with a box of one of them are ranked.
        product_ids: Only these products are ranked; ``None``: all.

    Returns:
        One row a query and product, best first: ``query`` after cleaning, ``unknown_words`` (words without a vector of
        their own), ``rank`` from 1, ``product_id``, ``score`` (comparable within a query only), ``title`` and ``sku``
        (missing where the product has none), ``labels`` (names, one a box), and the image's size and the boxes' sides
        in pixels, which ``evaluation.report.drawings`` reads.

    Raises:
        SearchError: If a query is empty, if split, ranker, a label or the record of the training do not exist, or if no
            product is left to rank.
        DatasetError: If a version that the model was trained with has been dropped.
    """
    layout = read_layout()
    ranker = ranker or first_ranker(layout)
    products = open_products(catalog, split or default_split(catalog, layout, ranker))
    searcher = open_searcher(catalog, ranker, products, choose_hardware(catalog.load("params:hardware")))
    best = searcher.find(queries, top, labels, product_ids)
    best.attrs["source"] = searcher.source()
    return best


def first_ranker(layout: Layout) -> str:
    """Name the ranker that searches where none is named."""
    return next(iter(layout.rankers), "two_tower")


def default_split(catalog: CatalogProtocol, layout: Layout, ranker: str) -> str:
    """Name the split whose products are ranked where none is named."""
    indexed = ranker in layout.indexed and catalog.get(f"{ranker}.index").exists()
    return CATALOGUE if indexed or layout.catalogue else next(reversed(layout.chunks))


def known_skus(catalog: CatalogProtocol) -> dict[str, int]:
    """Give the number of each SKU of an imported shop; empty where products have numbers alone."""
    if not read_layout().import_chunks:
        return {}
    return dict(zip(*catalog.load("shop.products").to_table(["sku", "product_id"]).to_pydict().values(), strict=True))


def read_ids(file: Iterable[str], skus: Mapping[str, int]) -> list[int]:
    """Read a SKU a line, or a product id a line where there are no SKUs, for ``product_ids`` of ``search``.

    Raises:
        SearchError: If a line is no known SKU, no whole number of 64 bits, or not UTF-8.
    """
    try:
        names = [line.strip() for line in file if line.strip()]
    except UnicodeDecodeError as error:
        raise SearchError(f"the list of ids is not UTF-8: {error}. Save it as UTF-8, an id or SKU a line") from error
    if skus and (unknown := [name for name in names if name not in skus]):
        raise SearchError(f"the list of SKUs: {len(unknown)} are of no product, first {unknown[0]!r}")
    try:
        return [skus[name] if skus else whole_number("an id", name.encode()) for name in names]
    except BadRow as error:
        raise SearchError(f"the list of ids: {error}") from error


def list_products(products: pd.DataFrame) -> str:
    """Write the products that ``search`` found for a query as lines: rank, SKU or id, score, and title.

    The labels of its boxes, counted, stand in place of a title that is missing.
    """
    query, unknown = products[["query", "unknown_words"]].iloc[0]
    note = vocabulary_note(query, unknown)
    lines = [note] if note else []
    titles, skus = products["title"].fillna(""), products["sku"]
    named = "sku" if skus.notna().any() else "product_id"
    names = skus.fillna(products["product_id"].astype(str))
    width = max(12, *names.str.len())
    lines.append(f"{'rank':>4} {named:>{width}} {'score':>8}  {'title' if titles.any() else 'labels'}")
    for row, name, title in zip(products.itertuples(), names, titles, strict=True):
        counts = Counter(map(short_label, row.labels)).most_common()
        labels = ", ".join(f"{count} x {label}" for label, count in counts)
        lines.append(f"{row.rank:4} {name:>{width}} {row.score:8.3f}  {title or labels}")
    return "\n".join(lines)
