"""Tables that kedro-viz shows as plots, and the report, shown by its headline."""

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.datasets.parquet_table import ChunkParquet
from multimodal_recall.datasets.small_files import CsvFile
from multimodal_recall.runtime.kedro_private import PlotlyPreview, TablePreview

SPLIT_STYLES = (
    ("#42459f", "circle", "\N{BLACK CIRCLE}"),
    ("#c4601c", "diamond", "\N{BLACK DIAMOND}"),
    ("#2e7d32", "square", "\N{BLACK SQUARE}"),
)
"""Colour, symbol and the symbol as a letter of each split of a comparison, on kedro-viz's light and dark page."""


def _axes(**titles: str) -> dict[str, Any]:
    return {axis: {"title": {"text": title}} for axis, title in titles.items()}


def _plot(traces: list[dict[str, Any]], axes: dict[str, Any]) -> PlotlyPreview:
    """Wrap traces and axes in Plotly's JSON."""
    data = [{"type": "scatter", **trace} for trace in traces]
    return PlotlyPreview({"data": data, "layout": {"template": "none", "margin": {"l": 160, "t": 30}, **axes}})


class TrainingLogParquet(ChunkParquet):
    """A ``training_log``, drawn as learning curves."""

    def preview(self) -> PlotlyPreview:
        """Draw nDCG@5 on valid and the loss after each epoch."""
        log = self.load().to_table().to_pydict()
        epochs = [epoch + 1 for epoch in log["epoch"]]
        curves = {"nDCG@5 on valid": ("valid_ndcg_at_5", "y"), "training loss": ("loss", "y2")}
        traces = [
            {"mode": "lines+markers", "name": name, "x": epochs, "y": log[column], "yaxis": axis}
            for name, (column, axis) in curves.items()
        ]
        axes = _axes(xaxis="epoch", yaxis="nDCG@5 on valid", yaxis2="training loss")
        axes["yaxis2"] |= {"overlaying": "y", "side": "right", "tickfont": {"size": 10}}
        axes["yaxis2"]["title"]["font"] = {"size": 10}  # kedro-viz sizes the letters of the first two axes alone
        return _plot(traces, axes)


class ComparisonCsv(CsvFile):
    """A ``comparison``, drawn as nDCG@5 of each ranking with its interval."""

    def preview(self) -> PlotlyPreview:
        """Draw a row for each ranking, below a row for its kind, with a point for each split.

        Rows are numbers, with names as their ticks: of a text axis kedro-viz leaves out names, and all splits would lie
        on one line. kedro-viz hides a small plot's legend, so that the splits are named in an annotation.
        """
        table = self.load()
        rows, splits = _ranking_rows(table), list(table["split"].unique())
        steps = 0.2 * (2 * np.arange(len(splits)) - len(splits) + 1)
        styled = list(zip(splits, steps, SPLIT_STYLES, strict=False))
        traces = [_points_of(table[table["split"] == split], rows, step, style) for split, step, style in styled]
        names = [html.escape(name) if name else f"<b>{kind}</b>" for kind, name in rows]
        ticks = {"tickvals": list(range(len(rows))), "ticktext": names, "range": [len(rows) - 0.4, -0.6]}
        axes = {**_axes(xaxis="nDCG@5"), "yaxis": {"automargin": True, "zeroline": False, **ticks}}
        named = [f"<span style='color:{colour}'>{sign} {split}</span>" for split, _, (colour, _, sign) in styled]
        place = {"xref": "paper", "yref": "paper", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"}
        legend = {"text": "   ".join(named), "showarrow": False, **place}
        return _plot(traces, {**axes, "annotations": [legend], "showlegend": False})


def _ranking_rows(table: pd.DataFrame) -> list[tuple[str, str]]:
    """List kind and name of each ranking, best of the last split first, each kind after a row without a name."""
    rows = []
    for kind, of_kind in table.groupby("kind", sort=False):
        best = of_kind.drop_duplicates("ranking", keep="last").sort_values("nDCG@5", ascending=False, kind="stable")
        rows += [(kind, ""), *((kind, name) for name in best["ranking"])]
    return rows


def _points_of(
    table: pd.DataFrame, rows: list[tuple[str, str]], step: float, style: tuple[str, str, str]
) -> dict[str, Any]:
    """Give the trace of a split, ``step`` below the middle of each row."""
    ends = {"array": table["high"] - table["nDCG@5"], "arrayminus": table["nDCG@5"] - table["low"]}
    return {
        "mode": "markers",
        "name": table["split"].iloc[0],
        "x": table["nDCG@5"].tolist(),
        "y": [rows.index(row) + step for row in zip(table["kind"], table["ranking"], strict=True)],
        "text": table["ranking"].tolist(),
        "error_x": {"type": "data", "symmetric": False, **{side: list(widths) for side, widths in ends.items()}},
        "marker": {"color": style[0], "symbol": style[1]},
    }


class RecallCsv(CsvFile):
    """A ``recall``, drawn as recall@k of each ranking with its interval."""

    def preview(self) -> PlotlyPreview:
        """Draw a series for each split and ranking."""
        traces, table = [], self.load()
        for (split, ranking), rows in table[table["measure"].str.startswith("recall")].groupby(["split", "ranking"]):
            ends = {"array": rows["high"] - rows["value"], "arrayminus": rows["value"] - rows["low"]}
            interval = {"type": "data", "symmetric": False, **{side: list(widths) for side, widths in ends.items()}}
            points = {"x": rows["measure"].tolist(), "y": rows["value"].tolist(), "error_y": interval}
            traces.append({"mode": "lines+markers", "name": f"{split}, {ranking}", **points})
        return _plot(traces, _axes(xaxis="of all products", yaxis="share of the right products found"))


class NegativesCsv(CsvFile):
    """A ranker's ``negatives``, drawn as how false each kind is against how hard."""

    def preview(self) -> PlotlyPreview:
        """Draw a point for each kind."""
        rows = self.load()
        points = {"x": rows["beaten"].tolist(), "y": rows["false_share"].tolist(), "text": rows["kind"].tolist()}
        axes = _axes(xaxis="share that beats the right product", yaxis="share right for a near-identical query")
        return _plot([{"mode": "markers+text", "textposition": "top center", **points}], axes)


class CalibrationCsv(CsvFile):
    """A calibration, drawn as the share of right products by predicted probability."""

    def preview(self) -> PlotlyPreview:
        """Draw the bins, and the diagonal of perfect calibration."""
        bins = self.load()
        limit = min(1.1 * bins[["predicted", "observed"]].max(axis=None), 1)
        points = {"x": bins["predicted"].tolist(), "y": bins["observed"].tolist()}
        sizes = [f"{candidates:,} candidates" for candidates in bins["candidates"]]
        traces = [
            {"mode": "lines", "name": "perfectly calibrated", "x": [0, limit], "y": [0, limit]},
            {"mode": "lines+markers", "name": "candidates, binned", **points, "text": sizes},
        ]
        return _plot(traces, _axes(xaxis="predicted probability", yaxis="share that is right"))


class ReportFile(AtomicDataset[str, str]):
    """The report, a page of HTML, shown as the figures of its headline and where the page lies."""

    def _write(self, path: Path, data: str) -> None:
        path.write_text(data, encoding="utf-8")

    def _read(self, path: Path) -> str:
        return path.read_text(encoding="utf-8")

    def preview(self) -> TablePreview:
        """Show each headline figure with its meaning, then the path of the page."""
        found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", self.load())
        rows = [[html.unescape(figure), html.unescape(meaning)] for meaning, figure in found]
        rows.append([str(self.load_path()), "open this page in a browser"])
        return TablePreview({"index": list(range(len(rows))), "columns": ["figure", "meaning"], "data": rows})
