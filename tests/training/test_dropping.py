"""What an epoch of training leaves out of boxes and words."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.batch import ChunkArrays, Reading
from multimodal_recall.data.examples import read_chunk
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.language_model import load_tokenizer
from multimodal_recall.training.batching import TrainingPairs, stream
from multimodal_recall.training.dropping import drop
from multimodal_recall.training.ranker import ChunkLoader
from tests.conftest import load
from tests.tiny_rankers import OPTIONS, SYSTEMS, make_arrays, make_pairs, make_ranker
from tests.training.test_loop import CHUNKS, assert_equal, check_resuming, trainer

HALF = replace(OPTIONS, drop_boxes=0.5, drop_words=0.5)
AROUND = [0, 1]
"""Tokens around a query."""


def dropped(arrays: ChunkArrays, options: RankerOptions = HALF, epoch: int = 0) -> ChunkArrays:
    return drop(arrays, options, AROUND, stream(0, epoch, "boxes and words of chunk_000"))


def parts(values: np.ndarray, counts: np.ndarray) -> list[list]:
    return [part.tolist() for part in np.split(values, np.cumsum(counts)[:-1])]


def boxes_of(arrays: ChunkArrays, product: int) -> np.ndarray:
    """Features of a product as a batch has them."""
    batch = arrays.batch(Pairs(np.array([0]), np.array([product]), np.array([1])))
    return batch.box_features[0][~batch.box_mask[0]].numpy()


def is_within(few: list, many: list) -> bool:
    """Whether ``few`` is what is left of ``many``, in order."""
    rest = iter(many)
    return all(any(np.array_equal(one, other) for other in rest) for one in few)


def test_a_batch_has_some_of_the_boxes_in_order_and_one_at_least() -> None:
    arrays = make_arrays(products=400)
    thinned = dropped(arrays)
    assert thinned.features is arrays.features  # 4 kB a box: never copied
    counts = [(len(boxes_of(arrays, product)), len(boxes_of(thinned, product))) for product in range(400)]
    for product, (_, left) in enumerate(counts):
        assert left >= 1
        assert is_within([*boxes_of(thinned, product)], [*boxes_of(arrays, product)])
    many = [(all_boxes, left) for all_boxes, left in counts if all_boxes == 5]
    share = sum(left for _, left in many) / sum(all_boxes for all_boxes, _ in many)
    assert share == pytest.approx(0.5 + 0.5**5 / 5, abs=0.08)  # about 80 products: 3 standard errors


def test_words_and_tokens_are_left_out_but_not_those_around_a_query() -> None:
    arrays = make_arrays(queries=300)
    thinned = dropped(arrays)
    for name in ("word", "token"):
        before, after = (
            parts(getattr(chunk, f"{name}_ids"), getattr(chunk, f"{name}_counts")) for chunk in (arrays, thinned)
        )
        assert sum(map(len, after)) < 0.8 * sum(map(len, before))
        assert all(few and is_within(few, many) for few, many in zip(after, before, strict=True))
        if name == "token":
            kept = [[token for token in tokens if token in AROUND] for tokens in before]
            assert [[token for token in tokens if token in AROUND] for tokens in after] == kept
            others = [set(tokens) - set(AROUND) for tokens in before]
            assert all(not rest or rest & set(tokens) for rest, tokens in zip(others, after, strict=True))
    np.testing.assert_array_equal(thinned.query_vectors, arrays.query_vectors)


def test_boxes_beyond_the_most_that_are_read_stay_unread() -> None:
    arrays = replace(make_arrays(products=200), max_boxes=2)
    thinned = dropped(arrays)
    for product in range(200):
        assert is_within([*boxes_of(thinned, product)], [*boxes_of(arrays, product)])
    assert set(thinned.box_counts) == {1, 2}


def test_the_same_epoch_leaves_out_the_same_and_another_epoch_does_not() -> None:
    arrays = make_arrays(products=50)
    one, again, other = (dropped(arrays, epoch=epoch).box_rows for epoch in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_nothing_is_left_out_by_default() -> None:
    arrays = make_arrays()
    assert dropped(arrays, OPTIONS) == arrays


@pytest.mark.parametrize("name", ["graph_reasoning, gpo", "siamese", "word_level", "hsl", "bag_of_words", "mcan"])
def test_a_training_that_leaves_out_resumes_to_the_same_bits(name: str) -> None:
    options = replace(HALF, model=SYSTEMS[name], epochs=2)

    def load_chunk(chunk: str, epoch: int) -> TrainingPairs:
        arrays = drop(make_arrays(seed=CHUNKS[chunk]), options, AROUND, stream(0, epoch, chunk))
        return TrainingPairs(arrays, make_pairs(seed=100 * CHUNKS[chunk] + epoch), options)

    check_resuming(options, 4, load_chunk=load_chunk)
    with pytest.raises(AssertionError):
        assert_equal(trainer(options=options, load_chunk=load_chunk).fit()[0], trainer(options=options).fit()[0])


def test_a_solved_ranker_takes_no_share_to_leave_out() -> None:
    with pytest.raises(ValueError, match="has no epochs and reads no drop_boxes"):
        RankerOptions(SYSTEMS["kernel_words"], negatives_per_positive=0, loss="ridge", drop_boxes=0.2)


def test_the_chunks_of_a_training_are_read_without_what_is_left_out(finished_project: Path) -> None:
    examples = load(finished_project, "train_examples")
    folder = load(finished_project, "language_model")
    ranker, name = make_ranker(), next(iter(examples))
    ranker.reading = Reading(load_tokenizer(str(folder), 30))
    whole, loader = read_chunk(examples[name], ranker.reading), ChunkLoader(examples, ranker, replace(HALF, seed=0))
    first, again = loader(name, 0).arrays, loader(name, 0).arrays
    for counts in ("box_counts", "word_counts", "token_counts"):
        assert getattr(first, counts).min() >= 1
        assert getattr(first, counts).sum() < getattr(whole, counts).sum()
        np.testing.assert_array_equal(getattr(again, counts), getattr(first, counts))
    ends = [(tokens[0], tokens[-1]) for tokens in parts(first.token_ids, first.token_counts)]
    assert ends == [(tokens[0], tokens[-1]) for tokens in parts(whole.token_ids, whole.token_counts)]
