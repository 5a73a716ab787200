"""Tables that kedro-viz shows as plots, and the report, shown by its headline."""

import html
import re
from pathlib import Path
from typing import Any

from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.datasets.parquet_table import ChunkParquet
from multimodal_recall.datasets.small_files import CsvFile
from multimodal_recall.runtime.kedro_private import PlotlyPreview, TablePreview


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
        """Draw a series for each split and kind."""
        traces = []
        for (split, kind), rows in self.load().groupby(["split", "kind"], sort=False):
            ends = {"array": rows["high"] - rows["nDCG@5"], "arrayminus": rows["nDCG@5"] - rows["low"]}
            interval = {"type": "data", "symmetric": False, **{side: list(widths) for side, widths in ends.items()}}
            points = {"x": rows["nDCG@5"].tolist(), "y": rows["ranking"].tolist(), "error_x": interval}
            traces.append({"mode": "markers", "name": f"{split}, {kind}", **points})
        return _plot(traces, {**_axes(xaxis="nDCG@5"), "yaxis": {"automargin": True}})


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
