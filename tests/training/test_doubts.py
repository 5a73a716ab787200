import pytest

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.training.checkpoint import EpochLog
from multimodal_recall.training.doubts import doubts


def log_of(losses: list[float], scores: list[float], pairs: int = 1000) -> list[EpochLog]:
    rows = enumerate(zip(losses, scores, strict=True))
    return [EpochLog(epoch, loss, [loss], score, pairs, 1.0) for epoch, (loss, score) in rows]


@pytest.mark.parametrize(
    ("log", "batch_size", "said"),
    [
        (log_of([0.7, 0.6, 0.5], [0.2, 0.4, 0.3], pairs=10_000), 100, []),
        (log_of([0.7, 0.6, 0.5], [0.2, 0.4, 0.3]), 100, ["30 training steps are few: raise epochs"]),
        (log_of([0.7, 0.6] * 60, [0.4, 0.3] * 60), 10**9, ["batch_size 1,000,000,000 is more than the 500 pairs"]),
        (log_of([0.7, 0.8], [0.4, 0.3], pairs=10_000), 100, ["the loss did not fall: 0.7 in the first epoch, 0.8 in"]),
        (log_of([0.7, 0.6], [0.3, 0.4], pairs=10_000), 100, ["the last epoch is the best on valid: more epochs"]),
        (log_of([0.7], [0.3], pairs=10_000), 100, []),
    ],
)
def test_each_doubt_is_named(log: list[EpochLog], batch_size: int, said: list[str]) -> None:
    found = doubts(log, RankerOptions({"kind": "two_tower"}, batch_size=batch_size), chunks=2)
    assert [text.startswith(start) for text, start in zip(found, said, strict=True)] == [True] * len(said)
