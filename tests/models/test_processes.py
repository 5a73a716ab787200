from dataclasses import replace

import pytest
import torch

from multimodal_recall.models.processes import run_in_processes
from multimodal_recall.ranker_options import ModelOptions
from tests.models.conftest import OPTIONS, SYSTEMS
from tests.models.test_training import trainer

SUMS = ("counts", "product.mean", "product.products")


def train(seed: int) -> tuple[int, dict[str, torch.Tensor]]:
    """Train the tiny ranker in this process, which may be one of several."""
    torch.set_num_threads(1)
    trained = trainer(seed=seed)
    return trained.accelerator.num_processes, trained.fit()[0]


def train_with_running_sums(model: ModelOptions) -> torch.Tensor:
    """Train in this process; the ranker's running sums in each process, one row each."""
    torch.set_num_threads(1)
    trained = trainer(options=replace(OPTIONS, model=model))
    trained.fit()
    sums = torch.cat([buffer.flatten() for name, buffer in trained.ranker.named_buffers() if name in SUMS])
    return trained.accelerator.gather(sums[None])


@pytest.mark.parametrize("system", ["query_likelihood", "bag_of_words"])
def test_running_sums_are_those_of_all_processes(system: str) -> None:
    one, other = run_in_processes(2, train_with_running_sums, SYSTEMS[system])
    assert one.abs().sum() > 0
    assert torch.equal(one, other)


def test_two_processes_end_like_one_with_the_same_batches() -> None:
    (one, alone), (two, together) = run_in_processes(1, train, 0), run_in_processes(2, train, 0)
    assert (one, two) == (1, 2)
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=0, atol=1e-5)
