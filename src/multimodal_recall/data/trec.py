"""Rankings and judgements as TREC's files hold them, and the one rule by which their scores give our order.

trec_eval reads the score of a line as float32, ignores the rank, and puts the higher document id first where scores are
equal, compared as texts. Here the smaller product id comes first.
"""

import numpy as np
import pandas as pd

RUN_COLUMNS = ("query_id", "Q0", "product_id", "rank", "score", "tag")
QRELS_COLUMNS = ("query_id", "0", "product_id", "relevance")
LARGEST_WRITTEN = np.float32(1e38)
"""Scores beyond it are written as it: a smaller score must still fit float32."""


def decreasing_scores(ranked: pd.DataFrame) -> np.ndarray:
    """Make the scores of each query decrease strictly, so that no reader has to break a tie.

    A score that is not below the one before it, as float32, becomes the next smaller number of float32. Other scores
    stay as they are.

    Args:
        ranked: ``query_id``, ``score``; the rows of a query stand together, best first.

    Returns:
        (rows,) float32.
    """
    scores = np.clip(ranked["score"].to_numpy(np.float64), -LARGEST_WRITTEN, LARGEST_WRITTEN).astype(np.float32)
    bits = scores.view(np.int32).astype(np.int64)
    steps = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)  # counts the numbers of float32 from 0; -0.0 is 0
    row = np.arange(len(steps))
    lowest = pd.Series(steps + row).groupby(ranked["query_id"].to_numpy()).cummin().to_numpy() - row
    return np.where(lowest < 0, -lowest | 0x80000000, lowest).astype(np.uint32).view(np.float32)
