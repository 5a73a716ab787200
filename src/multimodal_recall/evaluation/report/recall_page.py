"""The report of a search in the whole catalogue: what each ranking finds, and how long a search takes."""

import pandas as pd

from multimodal_recall.evaluation.recall import COVERAGE, CUTS
from multimodal_recall.evaluation.report import figures
from multimodal_recall.evaluation.report.page import render

SHOWN = ("recall@10", "recall@100", "recall@1000", "RR", "nDCG@10", "judged@10", "wrong@10", COVERAGE)
WITH_INTERVAL = SHOWN[:1]


def render_recall(recall: pd.DataFrame, speed: pd.DataFrame, confidence: float) -> str:
    """Render the page as one HTML file that needs no network and no second file.

    Args:
        recall: A row a ranking and measure of one split; see ``recall.summarise_recall``, with ``split``.
        speed: A row a way to search; see ``speed_nodes.time_search``.
        confidence: Of the intervals, 0 to 1.
    """
    cells = recall.set_index(["ranking", "measure"])
    rankings = list(recall["ranking"].unique())
    ceilings = recall[recall["measure"] == "recall@10"].set_index("ranking")["ceiling"]
    curves = {name: [cells.loc[(name, f"recall@{cut}"), "value"] for cut in CUTS] for name in rankings}
    told = "; ".join(f"{name} {values[0]:.3f} at 10, {values[-1]:.3f} at {CUTS[-1]}" for name, values in curves.items())
    return render(
        "recall.html.j2",
        split=recall["split"].iloc[0],
        products=int(recall["products"].iloc[0]),
        queries=int(recall["queries"].iloc[0]),
        confidence=f"{100 * confidence:.3g} %",
        measures=SHOWN,
        with_interval=WITH_INTERVAL,
        rows=[(name, cells.loc[name].to_dict("index"), ceilings[name]) for name in rankings],
        speed=speed.to_dict("records"),
        curves=figures.to_svg(figures.plot_recall(curves, CUTS), "recall", f"Curves of recall: {told}"),
        plot_colours=figures.PAGE_COLOURS,
    )
