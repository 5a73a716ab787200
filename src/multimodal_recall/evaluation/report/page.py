"""From content to one HTML page: the report of a split, and the products that a search found."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from multimodal_recall.evaluation.calibration import calibration_error
from multimodal_recall.evaluation.metrics import K
from multimodal_recall.evaluation.rankings import LEAK_FREE
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

TEMPLATE, FOUND_TEMPLATE = "report.html.j2", "search.html.j2"


def render_page(content: ReportContent) -> str:
    """Render the report as one HTML file that needs nothing else: no network, no second file.

    Args:
        content: What is to be shown.

    Returns:
        The file's text; the same content always gives the same text.
    """
    ordered = order_queries(content)
    worst, best = extremes(ordered)
    cards = _cards(content, pd.concat([worst, best]))
    return _template(TEMPLATE).render(
        content=content,
        k=K,
        groups=_headline_groups(content),
        breakdowns=[(by, group.to_dict("records")) for by, group in content.breakdown.groupby("by", sort=False)],
        scale=Scale.around(content.headline),
        breakdown_scale=None if content.breakdown.empty else Scale.around(content.breakdown),
        tiles=_tiles(content, ordered),
        ordered=ordered.to_dict("records"),
        worst=[cards[query_id] for query_id in worst["query_id"]],
        best=[cards[query_id] for query_id in best["query_id"]],
        **_plots(content),
    )


def render_found(found: pd.DataFrame, title: str, photos: Path | None) -> str:
    """Render products found for queries as one HTML file that needs nothing else.

    Args:
        found: What ``commands.search`` gives.
        title: Of the page.
        photos: Folder of ``<product_id>.jpg``, or ``None``.

    Returns:
        The file's text.
    """
    colours = box_colours(found["labels"])
    cards = [
        {
            "query": query,
            "unknown_words": products["unknown_words"].iloc[0],
            "products": [
                {**product, "right": False, "drawing": draw_product(product, colours, photos)}
                for product in products.to_dict("records")
            ],
        }
        for query, products in found.groupby("query", sort=False)
    ]
    return _template(FOUND_TEMPLATE).render(title=title, cards=cards)


def _template(name: str) -> Template:
    loader = PackageLoader("multimodal_recall.evaluation.report", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)


@dataclass(frozen=True)
class Scale:
    """Where a measure stands on a row's interval plot."""

    low: float
    high: float
    ticks: list[float]

    @classmethod
    def around(cls, table: pd.DataFrame) -> "Scale":
        """The tenths around all intervals of a table with ``low`` and ``high``."""
        first = min(math.floor(table["low"].min() * 10 + 1e-9), 9)  # 3 * 0.1 * 10 is 3.0000000000000004
        last = max(math.ceil(table["high"].max() * 10 - 1e-9), first + 1)
        step = 1 if last - first <= 4 else 2
        return cls(first / 10, last / 10, [tenth / 10 for tenth in range(first, last + 1) if tenth % step == 0])

    def place(self, value: float) -> str:
        """A value's place from left to right, in per cent."""
        return f"{100 * (value - self.low) / (self.high - self.low):.1f}%"


def _headline_groups(content: ReportContent) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Name, meaning and rankings, best first, of each kind there is."""
    meanings = dict(KIND_MEANINGS)
    if content.split == "valid" and content.training_logs:
        meanings[LEAK_FREE] += CHOSEN_ON_VALID
    ordered = content.headline.sort_values(["ndcg_at_5", "ranking"], ascending=[False, True])
    kinds = [(kind, meaning, ordered[ordered["kind"] == kind]) for kind, meaning in meanings.items()]
    return [(kind, meaning, rows.to_dict("records")) for kind, meaning, rows in kinds if len(rows)]


def _tiles(content: ReportContent, ordered: pd.DataFrame) -> list[tuple[str, str]]:
    """Figures of the shown ranking in large type, each with what it is."""
    ndcg, ranks = ordered["ndcg_at_5"], ordered["right_ranks"]
    first = sum(found[:1] == [1] for found in ranks)
    none = int((ndcg == 0).sum())
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
    """The plots as SVG and the figures told with them; ``None`` or empty for what this content cannot show."""
    scores = figures.plot_score_distributions(content.candidates)
    medians = content.candidates.groupby("right")["score"].median()
    told = ", ".join(f"{'right' if right else 'wrong'} {median:.3g}" for right, median in medians.items())
    plots: dict[str, Any] = {
        "distributions": figures.to_svg(scores, "scores", f"Histograms of the scores; medians: {told}"),
        "medians": told,
        "learning": [],
        "calibration": None,
        "calibration_error": None,
    }
    if content.training_logs:
        plots["learning"] = [_learning(content, "loss"), _learning(content, "valid_ndcg_at_5")]
    if content.calibration is not None:
        error = calibration_error(content.calibration)
        described = f"Reliability curve; calibration error {error:.3f}"
        plots["calibration"] = figures.to_svg(figures.plot_calibration(content.calibration), "calibration", described)
        plots["calibration_error"] = error
    return plots


def _learning(content: ReportContent, column: str) -> Markup:
    """The learning curves of one column, described by the best epoch of each ranker."""
    told = []
    for ranker, log in content.training_logs.items():
        best = log.loc[log["valid_ndcg_at_5"].idxmax()]
        told.append(f"{ranker} is best after epoch {best['epoch'] + 1:.0f} with nDCG@5 {best['valid_ndcg_at_5']:.3f}")
    curves = figures.plot_learning_curves(content.training_logs, column)
    return figures.to_svg(curves, column, f"{figures.LEARNING[column]} by epoch; {'; '.join(told)}")


def _cards(content: ReportContent, queries: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """What is drawn of each of some queries: its row, its first candidates, and the right ones after them."""
    shown = shown_candidates(content, queries["query_id"])
    drawings = dict(_draw(content, shown["product_id"])) if content.products is not None else {}
    cards = {query["query_id"]: {**query, "first": [], "missed": []} for query in queries.to_dict("records")}
    for candidate in shown.to_dict("records"):
        card = cards[candidate["query_id"]]
        part = "first" if candidate["rank"] <= K else "missed"
        card[part].append({**candidate, "drawing": drawings.get(candidate["product_id"])})
    return cards


def _draw(content: ReportContent, product_ids: pd.Series) -> Iterator[tuple[int, Drawing]]:
    """Each of some products, by its id."""
    products = content.products[content.products["product_id"].isin(product_ids)].drop_duplicates("product_id")
    colours = box_colours(products["labels"])
    for product in track(products.to_dict("records"), "draw products", "products"):
        yield product["product_id"], draw_product(product, colours, content.photos)
