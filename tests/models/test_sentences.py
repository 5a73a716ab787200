"""Which rankers read the language model's vectors of the queries, and so need it to search."""

from dataclasses import replace

import numpy as np
import pytest

from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from tests.tiny_rankers import SYSTEMS, make_ranker, options_of


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_ranker_says_whether_it_reads_sentences(system: str, arrays: ChunkArrays, pairs: Pairs) -> None:
    ranker = make_ranker(options=options_of(system))
    none = replace(arrays, query_vectors=np.zeros((len(arrays.query_vectors), 1), np.float16))
    other = replace(arrays, query_vectors=arrays.query_vectors[::-1].copy())
    if ranker.reads_sentences:
        assert not np.array_equal(ranker.score(other, pairs), ranker.score(arrays, pairs))
    else:
        np.testing.assert_array_equal(ranker.score(none, pairs), ranker.score(arrays, pairs))


def test_rankers_of_words_alone_read_no_sentences() -> None:
    built = {system: make_ranker(options=options_of(system)) for system in SYSTEMS}
    reading = {system for system, ranker in built.items() if ranker.reads_sentences}
    assert {"two_tower", "two_tower_transformer"} <= reading
    assert not {"bag_of_words", "query_likelihood"} & reading
