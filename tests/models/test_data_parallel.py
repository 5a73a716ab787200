"""One process, or several that share each batch, train the same model."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.models.data_parallel import BatchNorm
from multimodal_recall.runtime.processes import run_in_processes
from tests.conftest import by_precision
from tests.tiny_rankers import OPTIONS, SYSTEMS, make_arrays, make_pairs
from tests.training.test_loop import trainer

pytestmark = [pytest.mark.slow, pytest.mark.precision]

IN_BATCH = {"negatives_per_positive": 1, "loss": "in_batch_softmax", "margin": 0.1}
RECIPES: dict[str, RankerOptions] = {
    # towers and a loss of pairs, running sums, batch norm, an in-batch loss of each kind of towers, joint readers
    "two_tower": replace(OPTIONS, model=SYSTEMS["two_tower"]),
    "query_likelihood": replace(OPTIONS, model=SYSTEMS["query_likelihood"], loss="likelihood"),
    "graph_reasoning": replace(OPTIONS, model=SYSTEMS["graph_reasoning"]),
    "graph_reasoning, in the batch": replace(OPTIONS, model=SYSTEMS["graph_reasoning"], **IN_BATCH),
    "two_tower, in the batch": replace(OPTIONS, model=SYSTEMS["two_tower"], **IN_BATCH),
    "bag_of_words, in the batch": replace(OPTIONS, model=SYSTEMS["bag_of_words"], **IN_BATCH),
    "word_level, in the batch": replace(OPTIONS, model=SYSTEMS["word_level"], **IN_BATCH),
    "hsl, gpo, in the batch": replace(OPTIONS, model=SYSTEMS["hsl, gpo"], **IN_BATCH),
    "mcan": replace(OPTIONS, model=SYSTEMS["mcan"]),
    "mcan, in the batch": replace(OPTIONS, model=SYSTEMS["mcan"], **IN_BATCH),
    # three right pairs a batch: with four processes one has none
    "mcan, small batches": replace(OPTIONS, model=SYSTEMS["mcan"], batch_size=6),
    "graph_reasoning, small batches": replace(OPTIONS, model=SYSTEMS["graph_reasoning"], batch_size=6),
}


def train_all() -> dict[str, tuple[dict[str, Tensor], list[float]]]:
    """Last weights, and losses and scores, of each recipe, trained in this process, which may be one of several.

    By plain gradient descent: Adam makes steps of mere rounding where a weight has no gradient, as the bias before a
    batch norm, and so would hide what is compared here.
    """
    torch.set_num_threads(1)
    found = {}
    for name, options in RECIPES.items():
        trained = trainer(options=replace(options, learning_rate=0.01, epochs=2))
        trained.optimiser = torch.optim.SGD(trained.model.parameters())
        _, log = trained.fit()
        scores = trained.model.score(make_arrays(seed=9), make_pairs(seed=9))
        found[name] = trained._weights(), [*(row.loss for row in log), *scores.tolist()]
    return found


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[dict[str, Tensor], list[float]]]:
    return run_in_processes(1, train_all)


@pytest.fixture(scope="module", params=[2, 4])
def together(request: pytest.FixtureRequest) -> dict[str, tuple[dict[str, Tensor], list[float]]]:
    return run_in_processes(request.param, train_all)


@pytest.mark.parametrize("name", RECIPES)
def test_several_processes_train_the_model_of_one(name: str, alone: dict, together: dict) -> None:
    (weights, figures), (others, other_figures) = alone[name], together[name]
    assert other_figures == pytest.approx(figures, rel=by_precision(1e-3, 5e-2), abs=by_precision(1e-4, 5e-2))
    for part, tensor in weights.items():
        torch.testing.assert_close(others[part], tensor, rtol=0, atol=by_precision(1e-4, 2e-2), msg=part)


def normalised() -> dict[str, Tensor]:
    """Batch norm of five entries over three steps, of which each of two processes has its part, and its gradients."""
    torch.manual_seed(0)
    data, weights = torch.randn(3, 5, 4, requires_grad=True), torch.randn(5, 4)
    own = slice(0, 2) if torch.distributed.get_rank() == 0 else slice(2, 5)
    norm = BatchNorm(4)
    sum((norm(step[own]) * weights[own]).sum() for step in data).backward()
    parts = {"data": data.grad, "weight": norm.weight.grad}
    for part in parts.values():
        torch.distributed.all_reduce(part)
    return {**parts, "mean": norm.running_mean, "variance": norm.running_var}


def in_group() -> dict[str, Tensor]:
    torch.distributed.init_process_group("gloo")
    return normalised()


def test_batch_norm_of_two_processes_equals_torchs_of_all_entries() -> None:
    found = run_in_processes(2, in_group)
    torch.manual_seed(0)
    data, weights = torch.randn(3, 5, 4, requires_grad=True), torch.randn(5, 4)
    norm = nn.BatchNorm1d(4)
    sum((norm(step) * weights).sum() for step in data).backward()
    expected = {"data": data.grad, "weight": norm.weight.grad, "mean": norm.running_mean, "variance": norm.running_var}
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
