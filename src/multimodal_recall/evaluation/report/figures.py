"""The report's plots. The page's style sheet replaces their colours and font, in light and dark mode."""

import io
import re
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, RIGHT, WRONG = "#1b1f24", "#0b6e4f", "#b4481e"
SERIES = ("#1f5fbf", "#a8325e", "#7a5200", "#5b3fa8", "#00707a", "#555b62")
PAGE_COLOURS: Mapping[str, str] = {
    INK: "currentColor",
    RIGHT: "var(--right)",
    WRONG: "var(--wrong)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)},
}
"""CSS colour that replaces each colour of a plot."""
LINES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)))
LEARNING = {"loss": "training loss", "valid_ndcg_at_5": "nDCG@5 on valid"}
"""Axis label of each plotted column of a training log."""
STYLE = {
    "svg.fonttype": "none",  # text stays text, not paths: small, searchable, in the page's font
    "text.parse_math": False,  # a ranking may be named a$b$
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 1,
    "legend.frameon": False,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "grid.color", "xtick.color", "ytick.color"), INK
    ),
}
SIZE = (5.0, 3.4)
"""Inches of 72 units: 360 units are a phone's width, where a font of 11 points has 11 pixels."""


def to_svg(figure: Figure, name: str, description: str) -> Markup:
    """Write a plot as an SVG element without URL and date, with a description for screen readers.

    The name begins all ids, which sets them apart from those of other plots on the page.
    """
    written = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(written, format="svg", metadata=no_metadata, transparent=True)
    width, height = (round(72 * side) for side in figure.get_size_inches())
    svg = written.getvalue().partition("<svg ")[2].partition(">")[2]  # without size, version and name spaces
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\1{name}-", svg)
    opening = Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}">').format(description, width, height)
    return opening + Markup(svg)


@mpl.rc_context(STYLE)
def plot_learning_curves(logs: Mapping[str, pd.DataFrame], column: str) -> Figure:
    """Plot a column of ``LEARNING`` over the epochs, a curve for each ranker's log (``epoch`` from 0)."""
    figure, axes = _one_plot("epoch", LEARNING[column])
    for (ranker, log), colour, line in zip(logs.items(), cycle(SERIES), cycle(LINES)):
        options = {"color": colour, "linestyle": line, "linewidth": 2, "marker": "o", "markersize": 4}
        axes.plot(log["epoch"] + 1, log[column], label=ranker, **options)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@mpl.rc_context(STYLE)
def plot_recall(curves: Mapping[str, Sequence[float]], cuts: Sequence[int]) -> Figure:
    """Plot recall@k of each ranking over the ``cuts`` k."""
    figure, axes = _one_plot("first products of the whole catalogue", "share of the right products found")
    for (ranking, recall), colour, line in zip(curves.items(), cycle(SERIES), cycle(LINES)):
        options = {"color": colour, "linestyle": line, "linewidth": 2, "marker": "o", "markersize": 4}
        axes.plot(cuts, recall, label=ranking, **options)
    axes.set_xscale("log")
    axes.set_xticks(cuts, map(str, cuts))
    axes.minorticks_off()
    axes.set_ylim(0, 1)
    figure.legend(loc="outside upper left", ncols=1)
    return figure


@mpl.rc_context(STYLE)
def plot_score_distributions(candidates: pd.DataFrame) -> Figure:
    """Plot the ``score`` of ``right`` and of wrong candidates, as shares of the right and of the wrong candidates."""
    figure, axes = _one_plot("score", "share of the candidates")
    edges = np.histogram_bin_edges(candidates["score"], bins=40)
    styles = {
        True: {"facecolor": RIGHT, "alpha": 0.45, "histtype": "stepfilled"},
        False: {"edgecolor": WRONG, "histtype": "step", "linewidth": 2, "linestyle": "--"},
    }
    for right, style in styles.items():
        scores = candidates.loc[candidates["right"] == right, "score"]
        weights = np.full(len(scores), 1 / max(len(scores), 1))
        label = f"{'right' if right else 'wrong'} ({len(scores):,})"
        axes.hist(scores, bins=edges, weights=weights, label=label, **style)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@mpl.rc_context(STYLE)
def plot_calibration(bins: pd.DataFrame) -> Figure:
    """Plot the observed share of right candidates over the predicted probability; see ``calibration.reliability``."""
    figure, axes = _one_plot("predicted probability", "share that is right")
    limit = min(1.1 * bins[["predicted", "observed"]].max(axis=None), 1)
    axes.plot([0, limit], [0, limit], color=INK, linestyle="--", linewidth=1, label="perfectly calibrated")
    axes.plot(bins["predicted"], bins["observed"], color=RIGHT, marker="o", linewidth=2, label="candidates, binned")
    axes.set_xlim(0, limit)
    axes.set_ylim(0, limit)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _one_plot(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes
