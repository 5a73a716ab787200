"""Scores for readers that break ties in another way."""

from itertools import chain

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from multimodal_recall.data.trec import LARGEST_WRITTEN, decreasing_scores

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0, 1e-46, -1e-46, 1e300])


@given(st.lists(st.lists(NUMBERS, max_size=8), max_size=4))
def test_scores_decrease_strictly_and_move_as_little_as_float32_allows(lists: list[list[float]]) -> None:
    lists = [sorted(scores, reverse=True) for scores in lists]
    queries = [query for query, scores in enumerate(lists) for _ in scores]
    ranked = pd.DataFrame({"query_id": queries, "score": np.array([*chain(*lists)], float)})
    written = decreasing_scores(ranked)
    assert written.dtype == np.float32
    assert np.isfinite(written).all()
    for query, scores in enumerate(lists):
        own = written[np.array(queries, int) == query]
        assert (np.diff(own.astype(float)) < 0).all()
        expected = np.clip(scores, -float(LARGEST_WRITTEN), float(LARGEST_WRITTEN)).astype(np.float32)
        for place in range(1, len(own)):  # the definition, one after the other
            expected[place] = min(expected[place], np.nextafter(expected[place - 1], np.float32(-np.inf)))
        np.testing.assert_array_equal(own, expected)
