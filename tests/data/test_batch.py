import numpy as np

from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs


def test_a_batch_holds_each_query_and_product_once_with_its_own_boxes(arrays: ChunkArrays) -> None:
    pairs = Pairs(np.array([3, 1, 3]), np.array([7, 7, 2]), np.array([1, 0, 0]))
    batch = arrays.batch(pairs)
    assert (len(batch.query_vectors), len(batch.box_features)) == (2, 2)
    starts = np.cumsum(arrays.box_counts) - arrays.box_counts
    for place, product in zip(batch.pair_products.tolist(), pairs.product_rows, strict=True):
        own = slice(starts[product], starts[product] + arrays.box_counts[product])
        real = ~batch.box_mask[place]
        np.testing.assert_array_equal(batch.box_features[place][real].numpy(), arrays.features[own])
        np.testing.assert_array_equal(batch.box_labels[place][real].numpy(), arrays.labels[own])
        np.testing.assert_array_equal(batch.box_positions[place][real].numpy(), arrays.positions[own])
    starts = np.cumsum(arrays.word_counts) - arrays.word_counts
    for place, query in zip(batch.pair_queries.tolist(), pairs.query_rows, strict=True):
        own = slice(starts[query], starts[query] + arrays.word_counts[query])
        np.testing.assert_array_equal(batch.word_ids[place][~batch.word_mask[place]].numpy(), arrays.word_ids[own])
        np.testing.assert_array_equal(batch.query_vectors[place].numpy(), arrays.query_vectors[query])
    assert batch.relevance.tolist() == [1, 0, 0]


def test_batches_by_product_cover_every_pair_once(arrays: ChunkArrays, pairs: Pairs) -> None:
    batches = list(arrays.batches_by_product(pairs, size=7))
    assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(len(pairs.query_rows)))
    # and encode a product in as few batches as can be: 12 products, at most one split a border
    assert sum(len(batch.box_features) for _, batch in batches) <= len(np.unique(pairs.product_rows)) + len(batches) - 1
