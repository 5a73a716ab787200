"""Confidence intervals over queries."""

import numpy as np


def bootstrap_means(values: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
    """Compute the means (draws, columns) of values (queries, columns) over resampled queries (Efron 1979).

    All columns share the resampling, so that they stay paired.
    """
    queries = len(values)
    means = [
        np.bincount(random.integers(queries, size=queries), minlength=queries) @ values / queries for _ in range(draws)
    ]
    return np.stack(means)


def interval(means: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the ends (columns,) of the percentile interval that holds ``confidence`` of the means (draws, columns)."""
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high
