"""The pages: what was found, two rankings side by side, and why a product was found."""

import functools
import json
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from multimodal_recall.commands.products import SearchError
from multimodal_recall.commands.serve.shop import Shop, id_of_text
from multimodal_recall.commands.serve.wanted import MOST_CHARACTERS, MOST_PRODUCTS, Wanted
from multimodal_recall.data.text import vocabulary_note
from multimodal_recall.evaluation.overlap import Overlap, compare_rankings
from multimodal_recall.evaluation.report.drawings import Drawing, draw_over

PLACES = ("multimodal_recall.commands.serve", "multimodal_recall.evaluation.report")


@functools.cache
def _environment() -> Environment:
    loader = ChoiceLoader([PackageLoader(place, "") for place in PLACES])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@functools.cache
def render_file(template: str) -> str:
    """Render the style sheet or the script, which are the same for all pages."""
    return _environment().get_template(template).render()


@dataclass(frozen=True)
class Side:
    """What one ranker found for a query."""

    name: str
    source: str
    products: list[dict[str, Any]]
    """Best first; each with its ``drawing`` and a ``badge``: how it stands in the other ranking."""


def render_search(shop: Shop, wanted: Wanted, error: str = "") -> str:
    """Render the form, and below it the products if there is a query; or the error."""
    template = _environment().get_template("serve.html.j2")
    shared = {"shop": shop, "wanted": wanted, "error": error, "most": (MOST_CHARACTERS, MOST_PRODUCTS)}
    if error or not wanted.query.strip():
        return template.render(shared, sides=[])
    found = {name: shop.find(name, wanted.query, wanted.top, wanted.labels) for name in _names(wanted)}
    ids = [table["product_id"].tolist() for table in found.values()]
    overlap = compare_rankings(*ids) if len(ids) == 2 else None
    badges = [{}] if overlap is None else _badges(overlap, *ids)
    first = found[wanted.ranker].iloc[0]
    sides = [_side(shop, name, table, badge) for (name, table), badge in zip(found.items(), badges, strict=True)]
    return template.render(
        shared,
        query=first["query"],
        text_id=id_of_text(first["query"]),
        query_ids=_as_text(shop.ids_of(first["query"])),
        note=vocabulary_note(first["query"], first["unknown_words"]),
        sides=sides,
        overlap=overlap,
        photographed=any(product["drawing"].has_photo for side in sides for product in side.products),
    )


def _as_text(query_ids: dict[str, list[int]]) -> str:
    """Write ids as JSON, each as a text: JavaScript has no numbers of 64 bits."""
    return json.dumps({split: list(map(str, ids)) for split, ids in query_ids.items()})


def _names(wanted: Wanted) -> list[str]:
    """List the rankers that a page shows, each once."""
    return list(dict.fromkeys(filter(None, (wanted.ranker, wanted.beside))))


def _side(shop: Shop, name: str, found: pd.DataFrame, badges: dict[int, str]) -> Side:
    products = [
        {**product, "drawing": _draw(shop, product), "right": False, "badge": badges.get(product["product_id"], "")}
        for product in found.to_dict("records")
    ]
    return Side(name, shop.searcher(name).source(), products)


def _badges(overlap: Overlap, first: list[int], second: list[int]) -> list[dict[int, str]]:
    """Say of each product of both rankings how it stands in the other."""
    return [
        {product: "" if product in overlap.moves else "only left" for product in first},
        {product: _moved(overlap.moves[product]) if product in overlap.moves else "only right" for product in second},
    ]


def _moved(places: int) -> str:
    return f"{places:+d}".replace("-", "\N{MINUS SIGN}") if places else "="


def _draw(shop: Shop, product: dict[str, Any]) -> Drawing:
    address = f"/photos/{product['product_id']}" if shop.photo(product["product_id"]) else None
    return draw_over(product, shop.colours, address)


def describe_found(shop: Shop, wanted: Wanted) -> dict[str, Any]:
    """Give what the first ranker found as JSON values."""
    found = shop.find(wanted.ranker, wanted.query, wanted.top, wanted.labels)
    query, unknown = found[["query", "unknown_words"]].iloc[0]
    products = [
        {
            "rank": row.rank,
            "product_id": row.product_id,
            "sku": row.sku if isinstance(row.sku, str) else None,
            "score": row.score,
            "title": row.title if isinstance(row.title, str) else None,
            "labels": row.labels,
            "photo": f"/photos/{row.product_id}" if shop.photo(row.product_id) else None,
        }
        for row in found.itertuples()
    ]
    described = {"query": query, "text_id": id_of_text(query), "query_ids": shop.ids_of(query)}
    described["unknown_words"] = list(unknown)
    return {**described, **shop.choices[wanted.ranker].facts(), "products": products}


def render_why(shop: Shop, wanted: Wanted, explained: str, product_id: int) -> str:
    """Render what each word of a query adds to a product's score.

    Args:
        shop: What is served.
        wanted: The search that the page links back to.
        explained: Name of the choice whose score is explained.
        product_id: The product.

    Raises:
        SearchError: If the product is not among those that are served.
    """
    product = shop.product(product_id)
    if product is None:
        raise SearchError(f"there is no product {product_id} in {shop.products.split}")
    searcher = shop.searcher(explained)
    text, words = searcher.clean(wanted.query), searcher.explain(wanted.query, product_id)
    return (
        _environment()
        .get_template("why.html.j2")
        .render(
            shop=shop,
            wanted=wanted,
            ranker=explained,
            query=text,
            words=words,
            most=max(map(abs, (words or {}).values()), default=0.0) or 1.0,
            largest_box=searcher.reads_largest_box,
            unknown=[word for word in words or () if word not in searcher.encode.words],
            product={**product, "drawing": _draw(shop, product), "right": False},
        )
    )
