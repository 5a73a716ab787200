import torch

from multimodal_recall.models.processes import run_in_processes
from tests.models.test_training import trainer


def train(seed: int) -> tuple[int, dict[str, torch.Tensor]]:
    """Train the tiny ranker in this process, which may be one of several."""
    torch.set_num_threads(1)
    trained = trainer(seed=seed)
    return trained.accelerator.num_processes, trained.fit()[0]


def test_two_processes_end_like_one_with_the_same_batches() -> None:
    (one, alone), (two, together) = run_in_processes(1, train, 0), run_in_processes(2, train, 0)
    assert (one, two) == (1, 2)
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=0, atol=1e-5)
