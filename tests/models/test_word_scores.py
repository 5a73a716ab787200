"""What each word of a query adds to a score, for the rankers whose score is a sum over words."""

from dataclasses import replace

import numpy as np
import pytest

from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.ranker import Ranker
from tests.tiny_rankers import SYSTEMS, make_ranker, options_of

BUILT = {name: make_ranker(options=options_of(name)) for name in SYSTEMS}
SUMS = {name for name, ranker in BUILT.items() if ranker.sums_words}


@pytest.fixture
def ranker(request: pytest.FixtureRequest, arrays: ChunkArrays) -> Ranker:
    ranker = BUILT[request.param]
    ranker.observe(arrays.batch(Pairs(np.arange(10), np.arange(10), np.zeros(10))))
    return ranker


@pytest.mark.parametrize("ranker", sorted(SUMS), indirect=True)
def test_the_words_of_a_query_add_up_to_the_score(ranker: Ranker, arrays: ChunkArrays, pairs: Pairs) -> None:
    words = np.where(np.arange(len(arrays.word_ids)) % 3, arrays.word_ids, 4)  # some queries have a word twice
    arrays = replace(arrays, word_ids=words)
    parts, scores = ranker.explain(arrays, pairs), ranker.score(arrays, pairs)
    np.testing.assert_allclose(parts.sum(axis=1), scores, atol=1e-5)
    counts = arrays.word_counts[pairs.query_rows]
    assert (parts[np.arange(parts.shape[1]) >= counts[:, None]] == 0).all()
    assert np.abs(parts).max() > 0


@pytest.mark.parametrize("ranker", ["two_tower"], indirect=True)
def test_a_ranker_that_reads_all_words_together_says_so(ranker: Ranker, arrays: ChunkArrays, pairs: Pairs) -> None:
    assert not ranker.sums_words
    with pytest.raises(NotImplementedError, match="TwoTower reads all words together: its score is no sum over words"):
        ranker.explain(arrays, pairs)


def test_rankers_whose_score_is_a_sum() -> None:
    assert {"query_likelihood", "bag_of_words", "word_level", "image_tags", "kernel_words"} <= SUMS
    assert not {"two_tower", "siamese", "sentence_level"} & SUMS
