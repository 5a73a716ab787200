"""Calibration: predicted probabilities against the share of right candidates."""

import numpy as np
import pandas as pd


def reliability(candidates: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Compare predicted probabilities with the share of right candidates, in bins of equally many candidates.

    Candidates have ``score`` (log-odds) and ``right`` (bool). Fewer bins come back where scores are equal.

    Returns:
        One row a bin: ``predicted`` (mean of sigmoid(score)), ``observed`` (share of right candidates), ``candidates``.
    """
    probability = np.exp(-np.logaddexp(0, -candidates["score"].to_numpy(np.float64)))
    table = pd.DataFrame({"predicted": probability, "observed": candidates["right"].to_numpy(), "candidates": 1})
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1]))
    binned = table.groupby(np.searchsorted(edges, probability, side="right"))
    return binned.agg({"predicted": "mean", "observed": "mean", "candidates": "sum"}).reset_index(drop=True)


def calibration_error(bins: pd.DataFrame) -> float:
    """Compute the expected calibration error: mean over the candidates of abs(predicted - observed), 0 to 1."""
    return float(np.average((bins["predicted"] - bins["observed"]).abs(), weights=bins["candidates"]))
