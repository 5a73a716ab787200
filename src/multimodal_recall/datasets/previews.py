"""Tables that kedro-viz shows as plots."""

from typing import Any

from multimodal_recall.datasets.parquet_table import ChunkParquet
from multimodal_recall.datasets.small_files import CsvFile
from multimodal_recall.runtime.kedro_private import PlotlyPreview

LAYOUT = {"template": "none", "margin": {"l": 160, "t": 30}}


class TrainingLogParquet(ChunkParquet):
    """A ``training_log``, drawn as learning curves."""

    def preview(self) -> PlotlyPreview:
        """nDCG@5 on valid and the loss after each epoch, as Plotly's JSON."""
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
        """One series a split and kind, as Plotly's JSON."""
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
        """A point a kind, as Plotly's JSON."""
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
        """The bins and the diagonal, where they would be, as Plotly's JSON."""
        bins = self.load()
        limit = min(1.1 * bins[["predicted", "observed"]].max(axis=None), 1)
        told = [f"{candidates:,} candidates" for candidates in bins["candidates"]]
        data: list[dict[str, Any]] = [
            {"type": "scatter", "mode": "lines", "name": "perfectly calibrated", "x": [0, limit], "y": [0, limit]},
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": "candidates, binned",
                "x": bins["predicted"].tolist(),
                "y": bins["observed"].tolist(),
                "text": told,
            },
        ]
        titles = {"xaxis": "predicted probability", "yaxis": "share that is right"}
        axes = {axis: {"title": {"text": title}} for axis, title in titles.items()}
        return PlotlyPreview({"data": data, "layout": {**LAYOUT, **axes}})
