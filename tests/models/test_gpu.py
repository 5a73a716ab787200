"""What only a GPU can show; skipped where there is none."""

import numpy as np
import pytest
import torch

from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.ranker import Ranker
from multimodal_recall.runtime.device import Hardware
from tests.training.test_loop import trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU on this machine"),
]


def test_scores_agree_with_the_cpu(ranker: Ranker, arrays: ChunkArrays, pairs: Pairs) -> None:
    on_cpu = ranker.score(arrays, pairs)
    np.testing.assert_allclose(ranker.cuda().score(arrays, pairs), on_cpu, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_runs_on_the_gpu_and_learns(precision: str) -> None:
    trained = trainer(hardware=Hardware("cuda", precision))
    _, log = trained.fit()
    assert next(trained.model.parameters()).device.type == "cuda"
    assert log[-1].loss < log[0].loss
