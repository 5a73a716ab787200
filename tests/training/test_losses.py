from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import CosFaceLoss, MultiSimilarityLoss
from torch import Tensor, nn
from torch.nn import functional

from multimodal_recall.data.batch import Batch, ChunkArrays
from multimodal_recall.data.pairs import Pairs, RightAnswers
from multimodal_recall.training import losses
from tests.tiny_rankers import make_arrays


def in_batch(queries: list[int], products: list[int], also_right: tuple[tuple[int, int], ...] = ()) -> Batch:
    """A batch of right pairs, whose chunk holds further right pairs."""
    pairs = Pairs(np.array(queries), np.array(products), np.ones(len(queries), np.int8))
    known = np.array([*zip(queries, products, strict=True), *also_right])
    return make_arrays().batch(pairs, RightAnswers(*known.T, products=12))


def test_cross_entropy_of_each_pair() -> None:
    # as of two logits whose difference is the score
    logits, relevance = torch.tensor([[0.0, 2.0], [1.0, 1.0], [3.0, -1.0]]), torch.tensor([1, 0, 1])
    expected = functional.cross_entropy(logits, relevance, reduction="none")
    torch.testing.assert_close(losses.cross_entropy(logits[:, 1] - logits[:, 0], relevance), expected)


def test_focal_loss_weighs_by_what_is_missing_to_the_truth() -> None:
    scores, relevance = torch.tensor([2.0, 2.0, -1.0]), torch.tensor([1, 0, 0])
    truth = torch.tensor([2.0, -2.0, 1.0]).sigmoid()
    torch.testing.assert_close(losses.focal(scores, relevance), -((1 - truth) ** 2) * truth.log())


def test_hinge_compares_each_wrong_pair_with_its_right_one() -> None:
    scores = torch.tensor([1.0, 0.5, 2.0, 0.0, -3.0, -0.1])
    torch.testing.assert_close(losses.hinge(scores, 2, 0.9), torch.tensor([0.4, 1.9, 0.0, 0.8]))


def test_in_batch_softmax_is_additive_margin_softmax_over_the_batch() -> None:
    # Given each query and product once: equal to CosFace with the other side's vectors as classes
    torch.manual_seed(0)
    queries, products = (functional.normalize(torch.randn(6, 5)) for _ in range(2))
    batch = in_batch(list(range(6)), [3, 1, 0, 5, 2, 4])
    product_rows = torch.tensor([3, 1, 0, 5, 2, 4])
    scale, margin = 14.0, 0.05
    own = losses.in_batch_softmax(scale * queries @ products.T, batch, scale * margin)

    def cosface(vectors: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
        loss = CosFaceLoss(6, 5, margin=margin, scale=scale)
        loss.W = nn.Parameter(classes.T)
        return loss(vectors, labels)

    expected = cosface(queries, products, product_rows) + cosface(products[product_rows], queries, torch.arange(6))
    torch.testing.assert_close(own.mean(), expected / 2)


def test_multi_similarity_equals_the_librarys() -> None:
    torch.manual_seed(1)
    cosines = torch.rand(5, 5) * 2 - 1
    batch = in_batch(list(range(5)), [0, 1, 2, 3, 4], also_right=((0, 1), (3, 2)))
    own = losses.multi_similarity(cosines, batch, margin=10.0)  # a margin at which every pair is hard
    library = MultiSimilarityLoss(alpha=2, beta=50, base=0.5)
    expected = library._compute_loss(cosines, batch.right.float(), (~batch.right).float())["loss"]["losses"]
    torch.testing.assert_close(own, expected[:, 0])


def test_multi_similarity_counts_hard_pairs_only() -> None:
    easy = torch.tensor([[0.9, -0.5], [-0.5, 0.9]])
    hard = torch.tensor([[0.9, 0.95], [-0.5, 0.9]])
    batch = in_batch([0, 1], [0, 1])
    assert losses.multi_similarity(easy, batch, 0.1).tolist() == [0, 0]
    assert losses.multi_similarity(hard, batch, 0.1)[0] > 0.4


def test_in_batch_hinge_takes_the_hardest_both_ways() -> None:
    matrix = torch.tensor([[1.0, 0.9, 0.2], [0.3, 2.0, 0.1], [0.95, 0.0, 1.0]])
    own = losses.in_batch_hinge(matrix, in_batch([0, 1, 2], [0, 1, 2]), 0.2)
    # hardest product, then hardest query, of each
    torch.testing.assert_close(own, torch.tensor([0.1 + 0.15, 0.0 + 0.0, 0.15 + 0.0]))


@pytest.mark.parametrize("name", losses.MATRIX_LOSSES)
def test_another_right_answer_in_the_batch_is_never_pushed_away(name: str) -> None:
    # Given query 0 with products 0 and 1, product 2 of query 1 known from elsewhere to be right for query 0 too
    batch = in_batch([0, 0, 1], [0, 1, 2], also_right=((0, 2),))
    matrix = torch.zeros(2, 3, requires_grad=True)
    losses.MATRIX_LOSSES[name](matrix, batch, 0.1).sum().backward()
    pushed_away = matrix.grad > 0
    assert not pushed_away[batch.right].any()
    assert pushed_away[1, :2].all()


@pytest.mark.parametrize("name", losses.MATRIX_LOSSES)
def test_a_batch_without_a_wrong_pair_teaches_nothing_wrong(name: str) -> None:
    batch = in_batch([0, 0], [0, 1])
    matrix = torch.zeros(1, 2, requires_grad=True)
    loss = losses.MATRIX_LOSSES[name](matrix, batch, 0.1).sum()
    loss.backward()
    assert loss.isfinite()
    assert (matrix.grad <= 0).all()


def test_repeated_pairs_count_each_time(arrays: ChunkArrays) -> None:
    once, twice = in_batch([0, 1], [0, 1]), in_batch([0, 1, 1], [0, 1, 1])
    matrix = torch.tensor([[1.0, 0.5], [0.2, 0.1]])
    for name, loss in losses.MATRIX_LOSSES.items():
        values = loss(matrix, twice, 0.1)
        assert values.shape == (3,), name
        assert values[1] == values[2], name
    assert replace(once, right=twice.right).right.equal(once.right)
