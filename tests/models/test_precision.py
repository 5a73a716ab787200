"""bfloat16 trains what float32 trains: every system with every loss that fits the system."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import spearmanr
from torch import Tensor

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.config.systems import ModelOptions
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.ranker import Ranker
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.training.batching import TrainingPairs
from multimodal_recall.training.losses import MATRIX_LOSSES, PAIR_LOSSES
from multimodal_recall.training.objective import RankerObjective
from tests.tiny_rankers import OPTIONS, SYSTEMS, TRAINED, make_arrays, make_pairs, make_ranker
from tests.training.test_loop import trainer

BFLOAT16 = Hardware("cpu", "bfloat16")
CANDIDATES = 30


def fitting() -> list[RankerOptions]:
    """Each system with each loss that its options accept."""
    found = []
    for model in SYSTEMS.values():
        for loss in (*PAIR_LOSSES, *MATRIX_LOSSES, "tags_and_caption"):
            try:
                found.append(replace(OPTIONS, model=model, loss=loss))
            except ValidationError:
                continue
    return found


FITTING = fitting()
NAMES = {model: name for name, model in SYSTEMS.items()}


def name_of(options: RankerOptions) -> str:
    return f"{NAMES[options.model]}, {options.loss}"


@cache
def taught(model: ModelOptions) -> Ranker:
    """A ranker that knows ten queries by heart, so that its scores differ as those of a real one do."""
    options = replace(OPTIONS, model=model, epochs=40, batch_size=20)
    chunk = TrainingPairs(make_arrays(products=CANDIDATES), make_pairs(products=CANDIDATES), options)
    trained = trainer(
        options=options,
        hardware=Hardware(),
        chunks=["chunk_000"],
        load_chunk=lambda name, epoch: chunk,
        measure=lambda: 0.0,
    )
    trained.fit()
    return trained.model.eval()


def all_candidates() -> Pairs:
    """Each of the ten queries with 30 candidates."""
    queries, products = np.divmod(np.arange(10 * CANDIDATES), CANDIDATES)
    return Pairs(queries, products, np.zeros(len(queries), int))


def test_every_system_is_tried_with_every_loss_that_fits() -> None:
    assert {type(options.model) for options in FITTING} == {type(SYSTEMS[name]) for name in TRAINED}
    assert {options.loss for options in FITTING} == {*PAIR_LOSSES, *MATRIX_LOSSES, "tags_and_caption"}


def in_both(ranker: Ranker, compute: Callable[[], Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """What is computed without autocast and under autocast to bfloat16."""
    found = []
    for hardware in (Hardware(), BFLOAT16):
        with torch.no_grad(), hardware.autocast():
            found.append(compute())
    assert {values.dtype for values in found} == {torch.float32}
    return tuple(values.numpy() for values in found)


@pytest.mark.parametrize("options", FITTING, ids=name_of)
def test_losses_and_rankings_agree(options: RankerOptions, table: list[str]) -> None:
    ranker, arrays = taught(options.model), make_arrays(products=CANDIDATES)
    chunk = TrainingPairs(arrays, make_pairs(products=CANDIDATES, seed=1), replace(options, batch_size=20))
    (rows,), objective = chunk.batches(np.random.default_rng(0)), RankerObjective(ranker, options).eval()
    exact, rounded = (
        float(losses.sum() / len(losses)) for losses in in_both(ranker, lambda: objective(chunk.batch(rows)))
    )
    rankings = in_both(ranker, lambda: ranker(arrays.batch(all_candidates())))
    lists = zip(*(scores.reshape(10, CANDIDATES) for scores in rankings), strict=True)
    agreement, apart = np.mean([spearmanr(*both).statistic for both in lists]), rounded / exact - 1
    table.append(f"{name_of(options):46} {exact:10.4f} {rounded:10.4f} {apart:+9.2%} {agreement:9.4f}")
    assert rounded == pytest.approx(exact, rel=0.02)
    assert agreement >= 0.99


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> list[str]:
    """Rows of a table that stands in the test's output at the end (pytest -s)."""
    rows: list[str] = []
    yield rows
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        head = f"{'system, loss':46} {'float32':>10} {'bfloat16':>10} {'apart':>9} {'Spearman':>9}"
        print("\n" + "\n".join([head, *rows]))  # noqa: T201


def test_matrices_and_scores_are_float32_under_autocast() -> None:
    # Given scores near 1000, where bfloat16 has steps of 4
    options = replace(OPTIONS, model=SYSTEMS["bag_of_words"])
    ranker = make_ranker(options=options).eval()
    ranker.scale = 1000.0
    chunk = TrainingPairs(make_arrays(), make_pairs(), replace(options, loss="in_batch_softmax"))
    batch = chunk.batch(np.arange(20).reshape(10, 2))
    with torch.no_grad(), BFLOAT16.autocast():
        matrix = ranker.score_all(batch)
    steps = matrix - matrix.bfloat16().float()
    assert matrix.dtype == torch.float32
    assert steps.abs().max() > 0.1
