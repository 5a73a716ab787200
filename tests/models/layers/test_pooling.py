"""Generalised pooling has mean, maximum and k-max as special cases, and weighs as the published formula does."""

import math

import pytest
import torch
from torch import Tensor, nn

from multimodal_recall.models.layers.padding import Packing, Padding
from multimodal_recall.models.layers.pooling import GeneralisedPooling, pool_sorted, sinusoids

LENGTHS = torch.tensor([3, 5, 1, 2, 5, 4])
MASK = torch.arange(5) >= LENGTHS[:, None]
SIZE = 7


def sequences() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(length, SIZE) for length in LENGTHS.tolist()]


def entries_of(given: list[Tensor], padding: Padding) -> Tensor:
    return padding.remove(nn.utils.rnn.pad_sequence(given, batch_first=True))


@pytest.mark.parametrize("kind", [Padding, Packing])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_the_mean_of_the_highest_values_is_a_special_case_and_so_are_mean_and_maximum(
    kind: type[Padding], k: int
) -> None:
    padding, counts = kind(MASK), LENGTHS.clamp(max=k)
    weights = (torch.arange(5) < counts[:, None]) / counts[:, None]
    pooled = pool_sorted(entries_of(sequences(), padding), padding, weights)
    expected = [sequence.topk(min(k, len(sequence)), dim=0).values.mean(dim=0) for sequence in sequences()]
    torch.testing.assert_close(pooled, torch.stack(expected))
    if k in (1, 5):
        ends = [sequence.amax(dim=0) if k == 1 else sequence.mean(dim=0) for sequence in sequences()]
        torch.testing.assert_close(pooled, torch.stack(ends))


def test_without_learnt_weights_it_is_the_mean() -> None:
    torch.manual_seed(0)
    pooling, padding = GeneralisedPooling(), Padding(MASK)
    nn.init.zeros_(pooling.weigh.weight)
    expected = torch.stack([sequence.mean(dim=0) for sequence in sequences()])
    torch.testing.assert_close(pooling(entries_of(sequences(), padding), padding), expected)


def pooled_one_by_one(pooling: GeneralisedPooling, sequence: Tensor) -> Tensor:
    """The published formula for one sequence, without padding."""
    ranks = len(sequence)
    codes = torch.zeros(ranks, 32)
    for rank in range(ranks):
        for pair in range(16):
            angle = rank * math.exp(-math.log(10_000) * 2 * pair / 32)
            codes[rank, 2 * pair], codes[rank, 2 * pair + 1] = math.sin(angle), math.cos(angle)
    states, _ = pooling.gru.gru(codes[None])
    states = (states[0, :, :32] + states[0, :, 32:]) / 2
    weights = (states @ pooling.weigh.weight[0] / 0.1).softmax(dim=0)
    assert ranks == 1 or weights.std() > 1e-3  # the weights differ, or the test would see no order
    return weights @ sequence.sort(dim=0, descending=True).values


def test_it_equals_the_published_formula_on_each_sequence_with_its_gradients() -> None:
    torch.manual_seed(1)
    pooling, padding = GeneralisedPooling(), Padding(MASK)
    for weight in pooling.parameters():
        nn.init.normal_(weight, std=0.5)
    given = [sequence.requires_grad_() for sequence in sequences()]
    found = pooling(entries_of(given, padding), padding)
    expected = torch.stack([pooled_one_by_one(pooling, sequence) for sequence in given])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    inputs = [*given, *pooling.parameters()]
    both = [torch.autograd.grad(pooled.sin().sum(), inputs, retain_graph=True) for pooled in (found, expected)]
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wanted", ["maximum", "mean", "two highest"])
def test_it_learns_the_pooling_that_the_task_wants(wanted: str) -> None:
    pool = {
        "maximum": lambda sequence: sequence.amax(dim=0),
        "mean": lambda sequence: sequence.mean(dim=0),
        "two highest": lambda sequence: sequence.topk(min(2, len(sequence)), dim=0).values.mean(dim=0),
    }[wanted]
    pooling, padding = GeneralisedPooling(), Padding(MASK)
    entries, expected = entries_of(sequences(), padding), torch.stack([*map(pool, sequences())])
    optimiser = torch.optim.Adam(pooling.parameters(), lr=0.01)
    for _ in range(200):
        optimiser.zero_grad()
        loss = (pooling(entries, padding) - expected).square().mean()
        loss.backward()
        optimiser.step()
    assert loss < 1e-3


def test_the_codes_of_ranks_start_from_zero_and_differ() -> None:
    codes = sinusoids(30, 32)
    assert codes[0].tolist() == [0, 1] * 16
    assert torch.cdist(codes, codes).fill_diagonal_(1).min() > 0.1
