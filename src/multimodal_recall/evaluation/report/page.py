"""HTML pages: the report of a split, and the products that a search found."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from multimodal_recall.data.text import vocabulary_note
from multimodal_recall.evaluation.calibration import calibration_error
from multimodal_recall.evaluation.metrics import K
from multimodal_recall.evaluation.rankings import LEAK, LEAK_FREE
from multimodal_recall.evaluation.report import figures
from multimodal_recall.evaluation.report.content import (
    CHOSEN_ON_VALID,
    KIND_MEANINGS,
    ReportContent,
    extremes,
    order_queries,
    shown_candidates,
)
from multimodal_recall.evaluation.report.drawings import Drawing, box_colours, draw_product
from multimodal_recall.runtime.progress import track


def render_page(content: ReportContent) -> str:
    """Render the report as one HTML file that needs no network and no second file.

    The same content always gives the same text.
    """
    ordered = order_queries(content)
    worst, best = extremes(ordered)
    cards = _cards(content, pd.concat([worst, best]))
    return render(
        "report.html.j2",
        content=content,
        k=K,
        groups=_headline_groups(content),
        leak=LEAK,
        photographed=any(candidate["drawing"].has_photo for candidate in _drawn(cards.values())),
        plot_colours=figures.PAGE_COLOURS,
        breakdowns=[(by, group.to_dict("records")) for by, group in content.breakdown.groupby("by", sort=False)],
        scale=Scale.around(content.headline),
        breakdown_scale=Scale.around(content.breakdown),
        tiles=_tiles(content, ordered),
        ordered=ordered.to_dict("records"),
        worst=[cards[query_id] for query_id in worst["query_id"]],
        best=[cards[query_id] for query_id in best["query_id"]],
        **_plots(content),
    )


def render_found(found: pd.DataFrame, title: str, photos: Path | None) -> str:
    """Render the table of ``commands.search`` as one HTML file that needs no network and no second file.

    ``photos`` is the absolute path of the folder of photos, or ``None``; see ``drawings.find_photo``.
    """
    colours = box_colours(found["labels"])
    cards = [
        {
            "query": query,
            "note": vocabulary_note(query, products["unknown_words"].iloc[0]),
            "products": [
                {**product, "right": False, "drawing": draw_product(product, colours, photos)}
                for product in products.to_dict("records")
            ],
        }
        for query, products in found.groupby("query", sort=False)
    ]
    drawings = [product["drawing"] for card in cards for product in card["products"]]
    photographed = any(drawing.has_photo for drawing in drawings)
    return render("search.html.j2", title=title, cards=cards, photographed=photographed)


def render(template: str, **variables: Any) -> str:
    """Fill a template of this folder; every text is escaped."""
    loader = PackageLoader("multimodal_recall.evaluation.report", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(variables)


@dataclass(frozen=True)
class Scale:
    """The axis of a table's interval plots."""

    low: float
    high: float
    ticks: list[float]

    @classmethod
    def around(cls, table: pd.DataFrame) -> Self:
        """Span the intervals ``low`` to ``high`` of a table, in tenths."""
        first = min(math.floor(table["low"].min() * 10 + 1e-9), 9)  # 3 * 0.1 * 10 is 3.0000000000000004
        last = max(math.ceil(table["high"].max() * 10 - 1e-9), first + 1)
        step = 1 if last - first <= 4 else 2
        return cls(first / 10, last / 10, [tenth / 10 for tenth in range(first, last + 1) if tenth % step == 0])

    def place(self, value: float) -> str:
        """Place a value on the axis, in per cent from the left."""
        return f"{100 * (value - self.low) / (self.high - self.low):.1f}%"


def _headline_groups(content: ReportContent) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Name, meaning and rankings, best first, of each kind that has rankings."""
    meanings = dict(KIND_MEANINGS)
    if content.split == "valid" and content.training_logs:
        meanings[LEAK_FREE] += CHOSEN_ON_VALID
    ordered = content.headline.sort_values(["ndcg_at_5", "ranking"], ascending=[False, True])
    kinds = [(kind, meaning, ordered[ordered["kind"] == kind]) for kind, meaning in meanings.items()]
    return [(kind, meaning, rows.to_dict("records")) for kind, meaning, rows in kinds if len(rows)]


def _tiles(content: ReportContent, ordered: pd.DataFrame) -> list[tuple[str, str]]:
    """Key figures of the shown ranking, each with its meaning."""
    ndcg, ranks = ordered["ndcg_at_5"], ordered["right_ranks"]
    first, none = sum(found[:1] == [1] for found in ranks), (ndcg == 0).sum()
    tiles = [
        (f"{ndcg.mean():.3f}", f"nDCG@{K} of {content.ranking}"),
        (f"{len(ordered):,}", f"queries, {len(content.candidates):,} candidates"),
        (f"{first / len(ordered):.0%}", "of the queries have a right product first"),
        (f"{none / len(ordered):.0%}", f"of the queries have no right product among the first {K}"),
    ]
    if content.rejected_rows is not None:
        tiles.append((f"{content.rejected_rows:,}", f"rows of the {content.split} file could not be read"))
    return tiles


def _plots(content: ReportContent) -> dict[str, Any]:
    """Draw the plots as SVG, with the figures in the text beside them."""
    medians = content.candidates.groupby("right")["score"].median()
    named_medians = ", ".join(f"{'right' if right else 'wrong'} {median:.3g}" for right, median in medians.items())
    scores = figures.plot_score_distributions(content.candidates)
    calibration, error = figures.plot_calibration(content.calibration), calibration_error(content.calibration)
    columns = figures.LEARNING if content.training_logs else ()
    return {
        "distributions": figures.to_svg(scores, "scores", f"Histograms of the scores; medians: {named_medians}"),
        "medians": named_medians,
        "learning": [_learning(content, column) for column in columns],
        "calibration": figures.to_svg(calibration, "calibration", f"Reliability curve; calibration error {error:.3f}"),
        "calibration_error": error,
    }


def _learning(content: ReportContent, column: str) -> Markup:
    """Draw the learning curves of a column, described by the best epoch of each ranker."""
    described = []
    for ranker, log in content.training_logs.items():
        best = log.loc[log["valid_ndcg_at_5"].idxmax()]
        epoch, ndcg = best["epoch"] + 1, best["valid_ndcg_at_5"]
        described.append(f"{ranker} is best after epoch {epoch:.0f} with nDCG@5 {ndcg:.3f}")
    curves = figures.plot_learning_curves(content.training_logs, column)
    return figures.to_svg(curves, column, f"{figures.LEARNING[column]} by epoch; {'; '.join(described)}")


def _cards(content: ReportContent, queries: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """By query id: the query's row, its ``first`` candidates, and right candidates after these as ``missed``."""
    shown = shown_candidates(content, queries["query_id"])
    drawings = {} if content.products is None else dict(_draw(content, shown["product_id"]))
    cards = {query["query_id"]: {**query, "first": [], "missed": []} for query in queries.to_dict("records")}
    for candidate in shown.to_dict("records"):
        part = "first" if candidate["rank"] <= K else "missed"
        drawing = drawings.get(candidate["product_id"])
        cards[candidate["query_id"]][part].append({**candidate, "drawing": drawing})
    return cards


def _drawn(cards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give the candidates of all cards that have a drawing."""
    for card in cards:
        yield from (candidate for candidate in (*card["first"], *card["missed"]) if candidate["drawing"])


def _draw(content: ReportContent, product_ids: pd.Series) -> Iterator[tuple[int, Drawing]]:
    products = content.products[content.products["product_id"].isin(product_ids)].drop_duplicates("product_id")
    colours = box_colours(products["labels"])
    for product in track(products.to_dict("records"), "draw products", "products"):
        yield product["product_id"], draw_product(product, colours, content.photos)
