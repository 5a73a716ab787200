import re
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from multimodal_recall.config import rankers
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.ranker import Ranker
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.training import schedules
from multimodal_recall.training.batching import TrainingPairs, batch_rows, epoch_order, share_of_batch, stream
from multimodal_recall.training.loop import Recipe, Trainer, TrainingError
from multimodal_recall.training.losses import MATRIX_LOSSES, PAIR_LOSSES
from multimodal_recall.training.objective import RankerObjective
from tests.conftest import forced_hardware
from tests.tiny_rankers import MODEL, OPTIONS, SYSTEMS, TRAINED, make_arrays, make_pairs, make_ranker

pytestmark = pytest.mark.precision
CHUNKS = {"chunk_000": 0, "chunk_001": 1, "chunk_002": 2}


class Killed(Exception):
    """Stands for a SIGKILL right after a checkpoint."""


class MemoryCheckpoint:
    """Keeps what the training writes; can kill it after some writes."""

    def __init__(self, kill_after: int | None = None) -> None:
        self.kept, self.writes, self.kill_after = None, 0, kill_after

    def read(self) -> tuple[dict[str, Tensor], dict] | None:
        return self.kept

    def write(self, tensors: dict[str, Tensor], facts: dict) -> None:
        self.kept = {name: tensor.clone() for name, tensor in tensors.items()}, facts
        self.writes += 1
        if self.writes == self.kill_after:
            raise Killed


class NoProgress:
    def advance(self, pairs: int, total: int, loss: float, epoch: int) -> None:
        pass


def trainer(
    checkpoint: MemoryCheckpoint | None = None,
    options: RankerOptions = OPTIONS,
    seed: int = 0,
    ranker: Ranker | None = None,
    **changes: object,
) -> Trainer:
    """Trains a tiny ranker on three chunks of ten right pairs."""
    ranker = ranker or make_ranker(seed, options)

    def load_chunk(name: str, epoch: int) -> TrainingPairs:
        pairs = make_pairs(seed=100 * CHUNKS[name] + epoch * options.fresh_negatives)
        return TrainingPairs(make_arrays(seed=CHUNKS[name]), pairs, options)

    def measure() -> float:
        arrays, pairs = make_arrays(seed=9), make_pairs(seed=9)
        scores = ranker.score(arrays, pairs)
        return float((scores[::2] > scores[1::2]).mean())

    how = {
        "objective": RankerObjective(ranker, options),
        "recipe": replace(Recipe.of(options), seed=seed),
        "hardware": forced_hardware(),
        "chunks": list(CHUNKS),
        "load_chunk": load_chunk,
        "measure": measure,
        "checkpoint": checkpoint or MemoryCheckpoint(),
        "fingerprint": "same",
        "progress": NoProgress(),
    }
    return Trainer(**{**how, **changes})


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("kill_after", range(1, 9))
def test_a_killed_training_ends_with_the_same_bits(kill_after: int) -> None:
    # Given dropout and three chunks, killed after any of the nine checkpoints
    check_resuming(replace(OPTIONS, model=replace(MODEL, dropout=0.3)), kill_after)


@pytest.mark.parametrize("options", TRAINED, indirect=True)
def test_every_system_resumes(options: RankerOptions) -> None:
    # Given a training that is killed in its second epoch, after the first of three chunks
    check_resuming(replace(options, epochs=2), kill_after=4)


def test_nadam_resumes() -> None:
    options = replace(OPTIONS, optimiser="nadam")
    assert isinstance(trainer(options=options).optimiser.optimizer, torch.optim.NAdam)
    check_resuming(options, kill_after=4)


def check_resuming(options: RankerOptions, kill_after: int, **changes: object) -> None:
    whole = trainer(options=options, **changes)
    best, log = whole.fit()
    checkpoint = MemoryCheckpoint(kill_after)
    with pytest.raises(Killed):
        trainer(checkpoint, options, **changes).fit()
    # When a new process, with other weights to begin with, goes on
    torch.manual_seed(12345)
    resumed = trainer(checkpoint, options, ranker=make_ranker(99, options), **changes)
    best_again, log_again = resumed.fit()
    # Then the last and the best weights and the log are the same
    assert_equal(resumed._weights(), whole._weights())
    assert_equal(best_again, best)
    assert [(row.epoch, row.loss, row.valid_ndcg_at_5, row.pairs) for row in log_again] == [
        (row.epoch, row.loss, row.valid_ndcg_at_5, row.pairs) for row in log
    ]


@pytest.mark.parametrize("loss", [*sorted(PAIR_LOSSES.keys() - {"likelihood"}), *MATRIX_LOSSES])
def test_every_loss_is_learnt(loss: str) -> None:
    options = replace(
        OPTIONS, model=SYSTEMS["bag_of_words"], loss=loss, epochs=20, batch_size=40, fresh_negatives=False
    )
    _, log = trainer(options=options).fit()
    assert log[-1].loss < 0.5 * log[0].loss


def test_another_fingerprint_starts_anew() -> None:
    checkpoint = MemoryCheckpoint(4)
    with pytest.raises(Killed):
        trainer(checkpoint).fit()
    best, _ = trainer(checkpoint, fingerprint="other data").fit()
    assert_equal(best, trainer().fit()[0])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"threads": 7}, r"hardware.threads \(1, now 7\)"),
        ({"precision": "other"}, r"hardware.precision \(\w+, now other\)"),
    ],
)
def test_a_training_is_not_continued_on_other_hardware_without_a_word(
    other: dict, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = MemoryCheckpoint(4)
    with pytest.raises(Killed):
        trainer(checkpoint).fit()
    again = trainer(checkpoint, hardware=replace(forced_hardware(), **other))
    again._resume()
    assert again.state.epoch == 0
    assert re.search(f"belongs to other {message}: training starts anew and replaces it", caplog.text)


@pytest.mark.parametrize("processes", range(1, 10))
@pytest.mark.parametrize("right_pairs", [1, 2, 3, 5, 8, 9])
def test_the_shares_of_a_batch_are_all_of_it(processes: int, right_pairs: int) -> None:
    # Given right pairs with two wrong ones each, also fewer than there are processes
    rows = np.arange(3 * right_pairs).reshape(right_pairs, 3)
    shares = [share_of_batch(rows, process, processes, whole=False) for process in range(processes)]
    assert all(len(share) for share, _ in shares)  # each process has something to compute
    counted = np.concatenate([share for share, weight in shares if weight])
    np.testing.assert_array_equal(counted, rows)
    assert {weight for _, weight in shares} <= {0.0, 1.0}
    wholes = [share_of_batch(rows, process, processes, whole=True) for process in range(processes)]
    assert all(share is rows for share, _ in wholes)
    assert sum(weight for _, weight in wholes) == pytest.approx(1)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    assert_equal(trainer(seed=3).fit()[0], trainer(seed=3).fit()[0])
    one, other = trainer(seed=3).fit()[0], trainer(seed=4).fit()[0]
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("options", TRAINED, indirect=True)
def test_ten_pairs_are_learnt_by_heart(options: RankerOptions) -> None:
    options = replace(options, epochs=60, batch_size=20)
    whole = trainer(
        options=options,
        chunks=["chunk_000"],
        load_chunk=lambda name, epoch: TrainingPairs(make_arrays(), make_pairs(), options),
        measure=lambda: 0.0,
    )
    whole.fit()
    scores = whole.model.score(make_arrays(), make_pairs())
    assert (scores[::2] > scores[1::2]).all()


def test_every_pair_is_seen_every_epoch_in_another_order() -> None:
    # Given 50 right pairs with two wrong ones each, in batches of 20
    pairs = Pairs.grouped(np.arange(50), np.arange(150).reshape(50, 3))
    words, options = np.zeros(50, int), replace(OPTIONS, batch_size=20)
    epochs = [list(batch_rows(pairs, words, options, stream(0, epoch, "chunk_000"))) for epoch in range(2)]
    for batches in epochs:
        assert sorted(np.concatenate(batches).ravel()) == list(range(150))
        assert max(rows.size for rows in batches) <= 20
        assert max(map(len, batches)) - min(map(len, batches)) <= 1
        for rows in batches:  # a right pair and its wrong ones stay together
            assert (rows == rows[:, :1] + np.arange(3)).all()
            assert (pairs.relevance[rows[:, 0]] == 1).all()
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))


def test_batches_gathered_ahead_in_a_thread_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given dropout, which draws from torch's stream while the next batch is gathered
    options = replace(OPTIONS, model=replace(MODEL, dropout=0.3))
    assert [Hardware(device).gathers_ahead for device in ("cpu", "cuda")] == [False, True]
    in_turn = trainer(options=options).fit()[0]
    monkeypatch.setattr(Hardware, "gathers_ahead", True)
    threads = threading.active_count()
    assert_equal(trainer(options=options).fit()[0], in_turn)
    # When a batch cannot be gathered, then the training stops with that error, and leaves no thread
    monkeypatch.setattr(TrainingPairs, "batch", lambda chunk, rows: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        trainer(options=options).fit()
    assert threading.active_count() == threads


def test_chunks_come_in_another_order_each_epoch_and_the_same_again() -> None:
    names = [f"chunk_{number:03d}" for number in range(10)]
    orders = [epoch_order(names, 0, epoch) for epoch in range(3)]
    assert all(sorted(order) == names for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders == [epoch_order(names, 0, epoch) for epoch in range(3)]


def test_the_best_epoch_is_kept_and_not_the_last() -> None:
    # Given a measure that is best after the second of three epochs
    measured = iter([0.1, 0.9, 0.5])
    seen, ranker = [], make_ranker()
    whole = trainer(
        ranker=ranker,
        measure=lambda: seen.append(ranker.state_dict()["head.query_part.bias"].clone()) or next(measured),
    )
    best, log = whole.fit()
    assert [row.valid_ndcg_at_5 for row in log] == [0.1, 0.9, 0.5]
    assert torch.equal(best["head.query_part.bias"], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_a_loss_that_is_no_number_stops_with_advice() -> None:
    ranker = make_ranker()
    ranker.head.query_part.weight.data.fill_(float("nan"))
    with pytest.raises(
        TrainingError, match=r"the loss is nan in epoch 0, chunk_00., batch 0. Try a lower learning_rate"
    ):
        trainer(ranker=ranker).fit()


def test_word_and_label_vectors_stay_frozen() -> None:
    best, _ = trainer().fit()
    start = make_ranker().state_dict()
    for name in ("query_encoder.word_vectors.vectors", "image_encoder.label_vectors.vectors"):
        assert torch.equal(best[name], start[name])
    assert not torch.equal(best["head.query_part.weight"], start["head.query_part.weight"])


def test_batches_of_the_same_last_word() -> None:
    # Given 60 right pairs of 30 queries with three last words, in groups of 5
    random = np.random.default_rng(0)
    pairs = Pairs.grouped(random.integers(0, 30, 60), np.arange(60)[:, None])
    words = random.integers(0, 3, 30)
    options = replace(OPTIONS, batches="same_last_word", group_size=5, batch_size=60)
    (rows,) = batch_rows(pairs, words, options, random)
    assert sorted(rows.ravel()) == list(range(60))
    # Then each word's rows stand in runs of five, but for what is left over
    of_row = words[pairs.query_rows[rows.ravel()]]
    runs = np.diff(np.flatnonzero(np.diff(of_row, prepend=-1, append=-1)))
    leftover = np.bincount(of_row) % 5
    assert (runs % 5 == 0).sum() >= len(runs) - np.count_nonzero(leftover) * 2
    assert len(runs) > 3  # and not in one run a word
    assert sorted(np.bincount(of_row)) == sorted(np.bincount(words[pairs.query_rows]))


def test_a_group_of_the_same_last_word_holds_different_queries() -> None:
    # Given two words with eight queries of three right pairs each, in groups of 4
    pairs = Pairs.grouped(np.repeat(np.arange(16), 3), np.arange(48)[:, None])
    words = np.arange(16) // 8
    options = replace(OPTIONS, batches="same_last_word", group_size=4, batch_size=48)
    (rows,) = batch_rows(pairs, words, options, np.random.default_rng(0))
    queries = pairs.query_rows[rows.ravel()].reshape(12, 4)
    assert all(len(set(group)) == 4 for group in queries.tolist())
    assert (words[queries] == words[queries[:, :1]]).all()
    assert sorted(rows.ravel()) == list(range(48))


def test_schedules() -> None:
    assert [schedules.constant(progress) for progress in (0, 0.5, 1)] == [1, 1, 1]
    factors = [schedules.linear_warmup(progress) for progress in (0, 0.05, 0.1, 0.55, 1)]
    assert factors == pytest.approx([0, 0.5, 1, 0.5, 0])
    # first place: a quarter of a wave after a 24th of the decay, three quarters after an eighth
    crests = [schedules.wavy_linear_warmup(0.1 + 0.9 * share) for share in (0, 1 / 24, 1 / 8, 1)]
    assert crests == pytest.approx([1, 1.3 * 23 / 24, 0.7 * 7 / 8, 0])


def test_the_options_know_which_losses_and_models_go_together() -> None:
    assert set(rankers.IN_BATCH_LOSSES) == set(MATRIX_LOSSES)
    assert set(rankers.COSINES) == {model.kind for model in SYSTEMS.values() if hasattr(model, "scale")}
