"""Arrays of a tiny chunk, and a ranker of every system that fits them."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from multimodal_recall.config.baselines import BagOfWordsOptions, KernelWordsOptions, QueryLikelihoodOptions
from multimodal_recall.config.rankers import SUMMED, RankerOptions
from multimodal_recall.config.systems import (
    ConcatQueryOptions,
    GraphReasoningOptions,
    HslOptions,
    ImageHeadsOptions,
    ImageTagsOptions,
    McanOptions,
    ModelOptions,
    SentenceLevelOptions,
    SiameseOptions,
    TwoTowerOptions,
    VisualBertOptions,
    WordLevelOptions,
)
from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.ranker import InputSizes, Ranker, build_ranker
from multimodal_recall.models.systems.kernel_words import KernelWords

SIZES = InputSizes(query_vector=6, box_feature=10, words=20, word_vector=5, labels=33, tokens=25, landmarks=7)
IMAGE_HEADS = ImageHeadsOptions(
    head_size=12, position_state=4, attention_heads=2, feed_forward=16, weight_states=(6,), dropout=0.0
)
SYSTEMS: dict[str, ModelOptions] = {
    "two_tower": TwoTowerOptions(image_state=12, word_state=8, head_state=16, dropout=0.0),
    "query_likelihood": QueryLikelihoodOptions(hidden=16, feature_dropout=0, hidden_dropout=0),
    "kernel_words": KernelWordsOptions(),
    "kernel_words, all boxes": KernelWordsOptions(kernel="laplace", boxes="all"),
    "bag_of_words": BagOfWordsOptions(size=8, hidden=16, feature_dropout=0, hidden_dropout=0),
    "mcan": McanOptions(
        max_tokens=12,
        width=16,
        layers=1,
        heads=2,
        feed_forward=16,
        label_state=4,
        box_state=16,
        pooling_state=8,
        pooled=8,
        head_state=16,
        dropout=0.0,
    ),
    "visual_bert": VisualBertOptions(
        max_tokens=12, width=16, layers=1, heads=2, feed_forward=16, head_state=16, dropout=0.0
    ),
    "two_tower_transformer": TwoTowerOptions(
        words="transformer", boxes="transformer", image_state=12, word_state=8, head_state=16, dropout=0.0
    ),
    "graph_reasoning": GraphReasoningOptions(state=12, layers=2),
    "siamese": SiameseOptions(state=12, layers=2, heads=2, dropout=0.0),
    "hsl": HslOptions(width=12, image_layers=2, text_layers=2, heads=2, feed_forward=16, size=8, dropout=0.0),
    "graph_reasoning, gpo": GraphReasoningOptions(state=12, layers=2, pooling="gpo"),
    "siamese, gpo": SiameseOptions(state=12, layers=2, heads=2, dropout=0.0, pooling="gpo"),
    "hsl, gpo": HslOptions(
        width=12, image_layers=2, text_layers=2, heads=2, feed_forward=16, size=8, dropout=0.0, pooling="gpo"
    ),
    "concat_query": ConcatQueryOptions(
        word_state=8,
        label_state=3,
        feature_state=5,
        position_state=4,
        image_state=12,
        head_state=16,
        second_head_state=8,
        dropout=0.0,
    ),
    "word_level": WordLevelOptions(image_encoder=IMAGE_HEADS, word_state=8, weight_state=6),
    "word_level, gpo": WordLevelOptions(
        image_encoder=replace(IMAGE_HEADS, pooling="gpo"), word_state=8, weight_state=6
    ),
    "image_tags": ImageTagsOptions(image_encoder=IMAGE_HEADS, dropout=0.0),
    "sentence_level": SentenceLevelOptions(image_encoder=IMAGE_HEADS, dropout=0.0),
}
"""Each system small and without dropout; the tests of rankers run on all of them."""
MODEL = SYSTEMS["two_tower"]
OPTIONS = RankerOptions(model=MODEL, epochs=3, batch_size=8, learning_rate=0.01)
TRAINED = [name for name, model in SYSTEMS.items() if model.kind not in SUMMED]
"""The systems that are trained in epochs; the tests of training run on all of them."""


def options_of(name: str) -> RankerOptions:
    """A tiny ranker of a system, trained in three epochs or solved."""
    model = SYSTEMS[name]
    return (
        replace(OPTIONS, model=model)
        if name in TRAINED
        else RankerOptions(model, negatives_per_positive=0, loss="ridge")
    )


def tiny_recipe(name: str, recipe: dict) -> dict:
    """Options that make a ranker of ``conf/base`` tiny, of one epoch if it is trained in epochs."""
    model = SYSTEMS.get(name) or SYSTEMS[recipe["model"]["kind"]]
    return {"model": asdict(model), **({} if model.kind in SUMMED else {"epochs": 1, "batch_size": 50})}


def make_arrays(queries: int = 10, products: int = 12, seed: int = 0) -> ChunkArrays:
    random = np.random.default_rng(seed)
    box_counts, word_counts = random.integers(1, 6, products), random.integers(1, 5, queries)
    boxes, token_counts = box_counts.sum(), random.integers(2, 7, queries)
    return ChunkArrays(
        features=random.random((boxes, SIZES.box_feature)).astype(np.float16),
        positions=random.random((boxes, 6)).astype(np.float32),
        labels=random.integers(0, SIZES.labels, boxes),
        box_counts=box_counts,
        query_vectors=random.normal(size=(queries, SIZES.query_vector)).astype(np.float16),
        word_ids=random.integers(0, SIZES.words, word_counts.sum()),
        word_counts=word_counts,
        last_words=random.integers(0, 4, queries),
        token_ids=random.integers(0, SIZES.tokens, token_counts.sum()),
        token_counts=token_counts,
    )


def make_pairs(queries: int = 10, products: int = 12, seed: int = 0) -> Pairs:
    """Each query with a right product, then a wrong product."""
    random = np.random.default_rng(seed)
    right = random.integers(0, products, queries)
    wrong = (right + random.integers(1, products, queries)) % products
    return Pairs.grouped(np.arange(queries), np.column_stack([right, wrong]))


def make_ranker(seed: int = 0, options: RankerOptions = OPTIONS) -> Ranker:
    torch.manual_seed(seed)
    ranker = build_ranker(options, SIZES)
    random = np.random.default_rng(seed)
    tables = (random.normal(size=(rows, SIZES.word_vector)) for rows in (SIZES.words, SIZES.labels))
    ranker.start(*(table.astype(np.float32) for table in tables))
    if isinstance(ranker, KernelWords):  # estimates above zero, as of words that occur
        ranker.mean.fill_(0.5)
    return ranker


@pytest.fixture
def arrays() -> ChunkArrays:
    return make_arrays()


@pytest.fixture
def pairs() -> Pairs:
    return make_pairs()


@pytest.fixture(params=SYSTEMS)
def options(request: pytest.FixtureRequest) -> RankerOptions:
    return options_of(request.param)


@pytest.fixture
def ranker(options: RankerOptions) -> Ranker:
    return make_ranker(options=options)
