"""Arrays of a tiny chunk, and a ranker that fits them."""

import numpy as np
import pytest
import torch

from multimodal_recall.models.batch import ChunkArrays, Pairs
from multimodal_recall.models.ranker import InputSizes, Ranker
from multimodal_recall.options import RankerOptions

SIZES = InputSizes(query_vector=6, box_feature=10, words=20, word_vector=5, labels=33)
OPTIONS = RankerOptions(
    image_state=12, word_state=8, head_state=16, dropout=0.0, epochs=3, batch_size=8, learning_rate=0.01
)


def make_arrays(queries: int = 10, products: int = 12, seed: int = 0) -> ChunkArrays:
    random = np.random.default_rng(seed)
    box_counts, word_counts = random.integers(1, 6, products), random.integers(1, 5, queries)
    boxes = box_counts.sum()
    return ChunkArrays(
        features=random.random((boxes, SIZES.box_feature)).astype(np.float16),
        positions=random.random((boxes, 5)).astype(np.float32),
        labels=random.integers(0, SIZES.labels, boxes),
        box_counts=box_counts,
        query_vectors=random.normal(size=(queries, SIZES.query_vector)).astype(np.float16),
        word_ids=random.integers(0, SIZES.words, word_counts.sum()),
        word_counts=word_counts,
    )


def make_pairs(queries: int = 10, products: int = 12, seed: int = 0) -> Pairs:
    """Each query with a right product and a wrong one, right ones first in their groups."""
    random = np.random.default_rng(seed)
    right = random.integers(0, products, queries)
    wrong = (right + random.integers(1, products, queries)) % products
    rows = np.repeat(np.arange(queries), 2)
    return Pairs(rows, np.column_stack([right, wrong]).ravel(), np.tile([1, 0], queries))


def make_ranker(seed: int = 0, options: RankerOptions = OPTIONS) -> Ranker:
    torch.manual_seed(seed)
    ranker = Ranker(options, SIZES)
    ranker.query_encoder.word_vectors.normal_()
    ranker.image_encoder.label_vectors.normal_()
    return ranker


@pytest.fixture
def arrays() -> ChunkArrays:
    return make_arrays()


@pytest.fixture
def pairs() -> Pairs:
    return make_pairs()


@pytest.fixture
def ranker() -> Ranker:
    return make_ranker()
