"""The options of ``import_shop``, which ``kedro import-shop`` writes into an environment."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from multimodal_recall.config.options import STRICT, Count, Positive, Share

ProductColumn = Literal["sku", "photo", "title", "category"]
ClickColumn = Literal["query", "sku", "count", "date", "relevance"]


@dataclass(frozen=True, config=STRICT)
class ImportOptions:
    """A shop's own tables and photos, from which the raw files are made; ``null`` where these exist already."""

    photos: str = ""
    """Folder of the photos that the table of products names, relative to the project."""
    product_columns: dict[ProductColumn, str] = field(default_factory=dict)
    """Headers of the table of products by what they hold: ``sku``, ``photo``, ``title``, ``category``."""
    click_columns: dict[ClickColumn, str] = field(default_factory=dict)
    """Headers of the table of clicks by what they hold: ``query``, ``sku``, ``count``, ``date``; with ``relevance``
    the table holds judgements."""
    chunks: Positive = 1
    """Pieces of the products; the photos of a piece are described by a node of its own."""
    min_clicks: Positive = 1
    """A product is right for a query with at least so many clicks."""
    min_click_share: Share = 0.01
    """A product is right for a query with at least this share of the query's clicks: a stray click on a frequent
    query makes nothing right."""
    min_relevance: float = 1.0
    """A product is right for a query from this judgement on."""
    split_by: Literal["query", "date"] = "query"
    """Which queries are valid and testA: drawn ones, or those that were first clicked last, the newest in testA."""
    held_out_share: Annotated[float, Field(gt=0, le=0.4)] = 0.15
    """Share of the queries in valid, and the same in testA."""
    most_queries: Positive = 500
    """Most queries of valid, and of testA."""
    most_right: Positive = 6
    """Most right products in a candidate list: those with the most clicks, or of judgements the highest; the others
    are left out of the list."""
    candidates_per_right: Annotated[int, Field(ge=2)] = 20
    """Candidates for each right product of a list, itself counted; fewer in a small shop."""
    hard_share: Share = 0.5
    """Share of the wrong candidates that look right: same category, similar title, clicked for neighbouring queries."""
    seed: Count = 0
    """Seed of the draws."""
