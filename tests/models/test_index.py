"""Exact search: what scoring every pair with the ranker itself gives, however the products are cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from multimodal_recall.config.rankers import UNINDEXED
from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models import index
from multimodal_recall.models.index import EncodingError, IndexChunk, encode_catalogue, search_index
from multimodal_recall.models.indexable import DotRanker, IndexableRanker
from tests.tiny_rankers import OPTIONS, SYSTEMS, make_arrays, make_ranker, options_of

QUERIES, PRODUCTS = 10, 60
INDEXED = [name for name, model in SYSTEMS.items() if model.kind not in UNINDEXED]
IDS = np.random.default_rng(1).permutation(1000)[:PRODUCTS].astype(np.int64)
FLOAT16 = 4e-3  # of a score's spread over the products: float16 has 11 binary digits


@pytest.fixture(params=INDEXED)
def ranker(request: pytest.FixtureRequest) -> IndexableRanker:
    ranker = make_ranker(options=options_of(request.param))
    ranker.train()
    arrays, rows = make_arrays(QUERIES, PRODUCTS, seed=2), np.arange(QUERIES)
    ranker.observe(arrays.batch(Pairs(rows, rows, np.ones_like(rows))))  # as training does: counts of words, means
    return ranker


@pytest.fixture
def arrays() -> ChunkArrays:
    return make_arrays(QUERIES, PRODUCTS)


def every_pair(ranker: IndexableRanker, arrays: ChunkArrays) -> np.ndarray:
    """Scores of the ranker itself, (QUERIES, PRODUCTS)."""
    rows = np.repeat(np.arange(QUERIES), PRODUCTS), np.tile(np.arange(PRODUCTS), QUERIES)
    return ranker.score(arrays, Pairs(*rows, np.zeros(QUERIES * PRODUCTS))).reshape(QUERIES, PRODUCTS)


def index_of(
    ranker: IndexableRanker, arrays: ChunkArrays, dtype: type = np.float32, rows: slice = slice(None)
) -> IndexChunk:
    part = arrays.take_products(np.arange(PRODUCTS)[rows])
    return IndexChunk("x", "v", "v", *encode_catalogue(ranker, part, IDS[rows], dtype), ranker.word_major)


def ranked(scores: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The best ids and scores of each row; of equal scores the lower id first."""
    order = np.stack([np.lexsort((IDS, -row))[:top] for row in scores])
    return IDS[order], np.take_along_axis(scores, order, axis=1)


@pytest.fixture(params=[False, True], ids=["one block", "small blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(index, "ENCODED_AT_ONCE", 7)
        monkeypatch.setattr(index, "BLOCK_NUMBERS", 100)
        monkeypatch.setattr(index, "BLOCK_PAIR_NUMBERS", 300)
        monkeypatch.setattr(index, "QUERIES_AT_ONCE", 4)
    return


def test_the_systems_without_an_index_are_those_that_encode_no_product() -> None:
    found = {name: make_ranker(options=options_of(name)) for name in SYSTEMS}
    assert {name for name in SYSTEMS if isinstance(found[name], IndexableRanker)} == {*INDEXED}
    assert {*INDEXED} > {"two_tower", "bag_of_words", "query_likelihood", "kernel_words", "graph_reasoning", "siamese"}


@pytest.mark.usefixtures("_blocks")
def test_float32_gives_order_and_scores_of_every_pair(ranker: IndexableRanker, arrays: ChunkArrays) -> None:
    ids, scores = search_index(ranker, ranker.query_vectors(arrays), [(index_of(ranker, arrays), None)], 20)
    expected_ids, expected = ranked(every_pair(ranker, arrays), 20)
    np.testing.assert_allclose(scores, expected, atol=2e-5, rtol=1e-5)
    # but for products that differ by the rounding of float32
    differing = ids != expected_ids
    near = np.abs(np.diff(expected, axis=1, prepend=np.inf)) < 1e-5
    assert not (differing & ~(near | np.roll(near, -1, axis=1))).any()
    assert differing.mean() < 0.05


@pytest.mark.usefixtures("_blocks")
def test_float16_moves_a_score_by_its_rounding(ranker: IndexableRanker, arrays: ChunkArrays) -> None:
    chunk, expected = index_of(ranker, arrays, np.float16), every_pair(ranker, arrays)
    assert chunk.values.dtype == np.float16
    ids, scores = search_index(ranker, ranker.query_vectors(arrays), [(chunk, None)], PRODUCTS)
    places = {product: place for place, product in enumerate(IDS.tolist())}
    own = np.stack([row[[places[product] for product in found]] for row, found in zip(expected, ids, strict=True)])
    np.testing.assert_allclose(scores, own, atol=FLOAT16 * max(1, np.abs(expected).max()))


@pytest.mark.usefixtures("_blocks")
def test_chunks_that_share_products_give_what_the_whole_gives(ranker: IndexableRanker, arrays: ChunkArrays) -> None:
    queries = ranker.query_vectors(arrays)
    parts = [index_of(ranker, arrays, rows=rows) for rows in (slice(0, 25), slice(15, 50), slice(50, 60), slice(0, 5))]
    for top in (1, 20, PRODUCTS, 1000):
        whole = search_index(ranker, queries, [(index_of(ranker, arrays), None)], top)
        found = search_index(ranker, queries, [(part, None) for part in parts], top)
        assert found[0].shape == (QUERIES, min(top, PRODUCTS))
        assert all(len(set(row)) == len(row) for row in found[0].tolist())
        np.testing.assert_allclose(found[1], whole[1], atol=2e-5, rtol=1e-5)


@pytest.mark.usefixtures("_blocks")
def test_a_mask_leaves_products_out(ranker: IndexableRanker, arrays: ChunkArrays) -> None:
    chunk, queries = index_of(ranker, arrays), ranker.query_vectors(arrays)
    mask = chunk.product_ids % 3 == 0
    ids, scores = search_index(ranker, queries, [(chunk, mask)], 1000)
    assert {*ids.ravel().tolist()} == {*chunk.product_ids[mask].tolist()}
    expected_ids, expected = search_index(ranker, queries, [(chunk, None)], 1000)
    np.testing.assert_allclose(scores, expected[np.isin(expected_ids, ids)].reshape(scores.shape), atol=2e-5)
    empty = search_index(ranker, queries, [(chunk, np.zeros_like(mask))], 5)
    assert empty[0].shape == empty[1].shape == (QUERIES, 0)


class Equal(DotRanker):
    """Gives every product the score that its only number says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))


@pytest.mark.usefixtures("_blocks")
def test_of_equal_scores_the_lower_ids_come_first() -> None:
    values = np.array([[1.0]] * 5 + [[2.0]] * 3 + [[1.0]] * 80, np.float32)
    ids = np.arange(len(values)) * 2
    chunk = IndexChunk("x", "v", "v", ids, values, word_major=False)
    found, scores = search_index(Equal(), np.ones((3, 1), np.float32), [(chunk, None)], 6)
    assert found.tolist() == [[10, 12, 14, 0, 2, 4]] * 3
    assert scores.tolist() == [[2, 2, 2, 1, 1, 1]] * 3


def test_a_query_reads_the_rows_of_its_words_alone() -> None:
    ranker = make_ranker(options=replace(OPTIONS, model=SYSTEMS["query_likelihood"]))
    chunk = index_of(ranker, make_arrays(QUERIES, PRODUCTS))
    queries = np.zeros((1, len(chunk.values)), np.float32)
    queries[0, [2, 5]] = 0.5
    chunk.values[[0, 1, 3]] = np.nan
    _, scores = search_index(ranker, queries, [(chunk, None)], 3)
    assert np.isfinite(scores).all()
    assert scores.shape == (1, 3)


def test_numbers_that_cannot_be_compared_are_refused(arrays: ChunkArrays) -> None:
    ranker = make_ranker(options=replace(OPTIONS, model=SYSTEMS["bag_of_words"]))
    ids, values = encode_catalogue(ranker, arrays, IDS)
    queries = ranker.query_vectors(arrays)
    queries[1, 0] = np.nan
    chunk = IndexChunk("bag_of_words", "m", "p", ids, values, ranker.word_major)
    with pytest.raises(EncodingError, match="encodes a query as NaN or infinite"):
        search_index(ranker, queries, [(chunk, None)], 5)
    ranker.product_vectors = lambda *_: np.full((PRODUCTS, 4), 1e6, np.float32)
    with pytest.raises(EncodingError, match="some of 60 products as NaN or beyond float16"):
        encode_catalogue(ranker, arrays, IDS)
