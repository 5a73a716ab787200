"""Tables that kedro-viz shows as plots, and the report, shown by its headline."""

import html
import re
from typing import Any

from kedro_datasets._typing import PlotlyPreview, TablePreview

from multimodal_recall.datasets.parquet_table import ChunkParquet
from multimodal_recall.datasets.small_files import CsvFile, HtmlFile

LAYOUT = {"template": "none", "margin": {"l": 160, "t": 30}}


class TrainingLogParquet(ChunkParquet):
    """A ``training_log``, drawn as learning curves."""

    def preview(self) -> PlotlyPreview:
        """Plot nDCG@5 on valid and the loss after each epoch."""
        log = self.load().to_table().to_pydict()
        epochs = [epoch + 1 for epoch in log["epoch"]]
        curves = {"nDCG@5 on valid": ("valid_ndcg_at_5", "y"), "training loss": ("loss", "y2")}
        data: list[dict[str, Any]] = [
            {"type": "scatter", "mode": "lines+markers", "name": name, "x": epochs, "y": log[column], "yaxis": axis}
            for name, (column, axis) in curves.items()
        ]
        titles = {"xaxis": "epoch", "yaxis": "nDCG@5 on valid", "yaxis2": "training loss"}
        axes: dict[str, Any] = {axis: {"title": {"text": title}} for axis, title in titles.items()}
        axes["yaxis2"] |= {"overlaying": "y", "side": "right", "tickfont": {"size": 10}}
        axes["yaxis2"]["title"]["font"] = {"size": 10}  # kedro-viz sizes the other axes' letters alone
        return PlotlyPreview({"data": data, "layout": {**LAYOUT, **axes}})


class ComparisonCsv(CsvFile):
    """A ``comparison``, drawn as nDCG@5 of each ranking with its interval."""

    def preview(self) -> PlotlyPreview:
        """Plot a series for each split and kind."""
        data: list[dict[str, Any]] = []
        for (split, kind), rows in self.load().groupby(["split", "kind"], sort=False):
            ends = {"array": rows["high"] - rows["nDCG@5"], "arrayminus": rows["nDCG@5"] - rows["low"]}
            interval = {"type": "data", "symmetric": False, **{side: list(widths) for side, widths in ends.items()}}
            points = {"x": rows["nDCG@5"].tolist(), "y": rows["ranking"].tolist(), "error_x": interval}
            data.append({"type": "scatter", "mode": "markers", "name": f"{split}, {kind}", **points})
        axes = {"xaxis": {"title": {"text": "nDCG@5"}}, "yaxis": {"automargin": True}}
        return PlotlyPreview({"data": data, "layout": {**LAYOUT, **axes}})


class NegativesCsv(CsvFile):
    """A ranker's ``negatives``, drawn as how false each kind is against how hard."""

    def preview(self) -> PlotlyPreview:
        """Plot a point for each kind."""
        rows = self.load()
        points = {"x": rows["beaten"].tolist(), "y": rows["false_share"].tolist(), "text": rows["kind"].tolist()}
        titles = {"xaxis": "share that beats the right product", "yaxis": "share right for a near-identical query"}
        axes = {axis: {"title": {"text": title}} for axis, title in titles.items()}
        data: list[dict[str, Any]] = [
            {"type": "scatter", "mode": "markers+text", "textposition": "top center", **points}
        ]
        return PlotlyPreview({"data": data, "layout": {**LAYOUT, **axes}})


class CalibrationCsv(CsvFile):
    """A calibration, drawn as the share that is right by predicted probability."""

    def preview(self) -> PlotlyPreview:
        """Plot the bins, and the diagonal of a perfectly calibrated model."""
        bins = self.load()
        limit = min(1.1 * bins[["predicted", "observed"]].max(axis=None), 1)
        counts = [f"{candidates:,} candidates" for candidates in bins["candidates"]]
        data: list[dict[str, Any]] = [
            {"type": "scatter", "mode": "lines", "name": "perfectly calibrated", "x": [0, limit], "y": [0, limit]},
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": "candidates, binned",
                "x": bins["predicted"].tolist(),
                "y": bins["observed"].tolist(),
                "text": counts,
            },
        ]
        titles = {"xaxis": "predicted probability", "yaxis": "share that is right"}
        axes = {axis: {"title": {"text": title}} for axis, title in titles.items()}
        return PlotlyPreview({"data": data, "layout": {**LAYOUT, **axes}})


class ReportFile(HtmlFile):
    """The report, shown as the figures of its headline and where the page lies."""

    def preview(self) -> TablePreview:
        """Show each headline figure with its meaning, then the path of the page."""
        found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", self.load())
        rows = [[html.unescape(figure), html.unescape(meaning)] for meaning, figure in found]
        rows.append([str(self._get_load_path()), "open this page in a browser"])
        return TablePreview({"index": list(range(len(rows))), "columns": ["figure", "meaning"], "data": rows})
