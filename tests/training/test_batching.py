import numpy as np
import pytest

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.training.batching import batch_rows, in_epochs


@pytest.mark.parametrize(
    ("steps", "batch_size", "negatives", "epochs"),
    [(400, 128, 0, 134), (400, 10, 1, 7), (1, 128, 0, 1), (3, 10**9, 0, 2)],
)
def test_a_length_in_steps_becomes_the_fewest_epochs_with_so_many_steps(
    steps: int, batch_size: int, negatives: int, epochs: int
) -> None:
    lengths = {"steps": steps, "batch_size": batch_size, "negatives_per_positive": negatives}
    options = RankerOptions({"kind": "two_tower"}, loss="in_batch_softmax", **lengths)
    chunks = [200, 100]
    taken = in_epochs(options, chunks)
    pairs = [Pairs.grouped(np.arange(right), np.zeros((right, 1 + negatives), int)) for right in chunks]
    of_an_epoch = sum(
        len(list(batch_rows(of_chunk, np.arange(right), taken, np.random.default_rng(0))))
        for right, of_chunk in zip(chunks, pairs, strict=True)
    )
    assert taken.epochs == epochs
    assert (epochs - 1) * of_an_epoch < steps <= epochs * of_an_epoch


def test_without_a_length_in_steps_the_epochs_decide() -> None:
    options = RankerOptions({"kind": "two_tower"}, epochs=7)
    assert in_epochs(options, [200]) is options
