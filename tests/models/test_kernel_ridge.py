"""Sums over chunks give scikit-learn's kernel ridge regression, however the pairs are cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF, Matern
from sklearn.kernel_ridge import KernelRidge

from multimodal_recall.config.baselines import KernelWordsOptions
from multimodal_recall.data.batch import Batch, ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models import kernel_ridge
from multimodal_recall.models.kernel_ridge import Regression, WordSums, add_up, solve, sum_pairs
from multimodal_recall.models.layers.kernel_features import KernelFeatures
from multimodal_recall.models.layers.largest_box import describe_largest
from multimodal_recall.models.ranker import build_ranker
from tests.tiny_rankers import SIZES, make_arrays, options_of

QUERIES, PRODUCTS, PAIRS = 40, 60, 150
KERNELS = {
    "rbf": (KernelWordsOptions(kernel="rbf", gamma=0.7, ridge=0.3), RBF(length_scale=1 / 1.4**0.5)),
    "laplace": (KernelWordsOptions(kernel="laplace", gamma=0.7, ridge=0.3), Matern(length_scale=1 / 0.7, nu=0.5)),
}


@pytest.fixture
def arrays() -> ChunkArrays:
    return make_arrays(QUERIES, PRODUCTS)


@pytest.fixture
def pairs() -> Pairs:
    random = np.random.default_rng(0)
    rows = (random.integers(0, most, PAIRS) for most in (QUERIES, PRODUCTS))
    return Pairs(*rows, np.ones(PAIRS, np.int8))


def all_products(arrays: ChunkArrays) -> Batch:
    rows = np.arange(PRODUCTS)
    return arrays.batch(Pairs(np.zeros_like(rows), rows, np.zeros_like(rows)))


def features_of(options: KernelWordsOptions, arrays: ChunkArrays, landmarks: int = PRODUCTS) -> KernelFeatures:
    return KernelFeatures(options, describe_largest(all_products(arrays))[:landmarks]).double()


def contained(arrays: ChunkArrays, pairs: Pairs) -> np.ndarray:
    """0/1 words of each pair's query, (pairs, words)."""
    matrix, ends = np.zeros((len(pairs.query_rows), SIZES.words)), np.cumsum(arrays.word_counts)
    for row, query in enumerate(pairs.query_rows):
        matrix[row, arrays.word_ids[ends[query] - arrays.word_counts[query] : ends[query]]] = 1
    return matrix


def part_of(features: KernelFeatures, arrays: ChunkArrays, pairs: Pairs) -> WordSums:
    return WordSums({}, len(pairs.query_rows), 0.0, **sum_pairs(features, arrays, pairs))


def estimates(features: KernelFeatures, arrays: ChunkArrays, solved: Regression) -> np.ndarray:
    return features(all_products(arrays)).numpy() @ solved.coefficients + solved.mean


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_products_as_landmarks_give_scikit_learns_kernel_ridge(
    kernel: str, arrays: ChunkArrays, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given several batches, queries with a word twice, products without a pair, and equal landmarks
    monkeypatch.setattr(kernel_ridge, "PAIRS_AT_ONCE", 16)
    options, reference = KERNELS[kernel]
    assert any(len(set(row)) < len(row) for row in np.split(arrays.word_ids, np.cumsum(arrays.word_counts)[:-1]))
    assert len(set(pairs.product_rows)) < PRODUCTS
    features = features_of(options, arrays)
    features.landmarks = torch.cat([features.landmarks, features.landmarks[:5]])
    solved = solve(
        add_up([part_of(features, arrays, pairs)], SIZES.words), features.between_landmarks().numpy(), options.ridge
    )
    described, words = describe_largest(all_products(arrays)).double().numpy(), contained(arrays, pairs)
    of_pairs = described[pairs.product_rows]
    regression = KernelRidge(alpha=options.ridge, kernel="precomputed")
    regression.fit(reference(of_pairs), words - words.mean(axis=0))
    expected = regression.predict(reference(described, of_pairs)) + words.mean(axis=0)
    np.testing.assert_allclose(estimates(features, arrays, solved), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(solved.counts, words.sum(axis=0))
    error = ((expected[pairs.product_rows] - words) ** 2).sum() / PAIRS
    assert solved.error == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize("boxes", ["largest", "all"])
def test_landmarks_give_the_least_penalised_squares(boxes: str, arrays: ChunkArrays, pairs: Pairs) -> None:
    # Given fewer landmarks than products: the gradient of the penalised squared error is zero
    options = KernelWordsOptions(kernel="laplace", gamma=2.0, ridge=0.1, boxes=boxes)
    features = features_of(options, arrays, landmarks=10)
    between = features.between_landmarks().numpy()
    solved = solve(add_up([part_of(features, arrays, pairs)], SIZES.words), between, options.ridge)
    phi, words = features(all_products(arrays)).numpy()[pairs.product_rows], contained(arrays, pairs)
    off = phi @ solved.coefficients + solved.mean - words
    np.testing.assert_allclose(phi.T @ off + options.ridge * between @ solved.coefficients, 0, atol=1e-9)


def test_all_boxes_of_a_product_count_alike(arrays: ChunkArrays) -> None:
    options = KernelWordsOptions(boxes="all")
    features, batch = features_of(options, arrays, landmarks=9), all_products(arrays)
    found, largest = features(batch).numpy(), replace(options, boxes="largest")
    alone = KernelFeatures(largest, features.landmarks)
    for product, start in enumerate(np.cumsum(arrays.box_counts) - arrays.box_counts):
        count = arrays.box_counts[product]
        boxes = torch.from_numpy(arrays.features[start : start + count]).unsqueeze(1)
        mask = torch.zeros(count, 1, dtype=torch.bool)
        each = alone(replace(batch, box_features=boxes, box_positions=batch.box_positions[:count, :1], box_mask=mask))
        np.testing.assert_allclose(found[product], each.mean(dim=0).numpy(), atol=1e-12)


@pytest.mark.parametrize("chunks", [3, 10])
def test_the_sum_of_chunks_is_the_whole(chunks: int, arrays: ChunkArrays, pairs: Pairs) -> None:
    options = KERNELS["rbf"][0]
    features = features_of(options, arrays, landmarks=20)
    whole = add_up([part_of(features, arrays, pairs)], SIZES.words)
    rows = np.array_split(np.random.default_rng(1).permutation(PAIRS), chunks)
    # chunks hold the words of their own queries alone
    parts = [part_of(features, *cut(arrays, pairs.take(part))) for part in rows]
    assert any(len(part.words) < len(parts[0].words) for part in parts)
    total, between = add_up(parts, SIZES.words), features.between_landmarks().numpy()
    assert total.pairs == PAIRS
    for name in ("phi_phi", "phi", "word_counts", "word_phi"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name), rtol=1e-12)
    found, expected = (estimates(features, arrays, solve(one, between, options.ridge)) for one in (total, whole))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    # and a chunk that is summed anew changes its share alone
    changed = part_of(features, *cut(arrays, pairs.take(rows[0][:-1])))
    again = add_up([changed, *parts[1:]], SIZES.words)
    np.testing.assert_allclose(again.phi_phi - total.phi_phi, changed.phi_phi - parts[0].phi_phi, atol=1e-10)


def cut(arrays: ChunkArrays, pairs: Pairs) -> tuple[ChunkArrays, Pairs]:
    """A chunk with the queries and products of some pairs alone, in another order."""
    random = np.random.default_rng(2)
    queries, products = (random.permutation(np.unique(rows)) for rows in (pairs.query_rows, pairs.product_rows))
    starts = np.cumsum(arrays.word_counts) - arrays.word_counts
    words = [arrays.word_ids[starts[row] : starts[row] + arrays.word_counts[row]] for row in queries]
    part = replace(arrays.take_products(products), word_ids=np.concatenate(words), max_boxes=None)
    part = replace(part, word_counts=arrays.word_counts[queries], query_vectors=arrays.query_vectors[queries])
    part = replace(part, token_ids=None, token_counts=None)
    places = (
        np.argsort(rows)[np.searchsorted(np.sort(rows), wanted)]
        for rows, wanted in ((queries, pairs.query_rows), (products, pairs.product_rows))
    )
    return part, Pairs(*places, pairs.relevance)


def test_the_score_is_the_weighted_sum_of_the_words_logarithms(arrays: ChunkArrays, pairs: Pairs) -> None:
    # field.md: share^.25 log(max(p, 0) + .01 share / mean share), with a count of one more for each word
    ranker = build_ranker(options_of("kernel_words"), SIZES).eval()
    ranker.counts.copy_(torch.arange(SIZES.words))
    batch = arrays.batch(pairs)
    shares = (np.arange(SIZES.words) + 1) / (np.arange(SIZES.words).sum() + 1)
    logs = np.log(ranker.estimate(batch).numpy().clip(min=0) + 0.01 * shares / shares.mean())
    products = np.unique(pairs.product_rows, return_inverse=True)[1]
    expected = (contained(arrays, pairs) * shares**0.25 * logs[products]).sum(axis=1)
    np.testing.assert_allclose(ranker.score(arrays, pairs), expected, rtol=1e-5)
