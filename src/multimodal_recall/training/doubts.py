"""What makes a finished training doubtful, each with what to change."""

from collections.abc import Sequence

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.training.checkpoint import EpochLog

FEW_STEPS = 100


def doubts(log: Sequence[EpochLog], options: RankerOptions, chunks: int) -> list[str]:
    """Name what speaks against a training.

    Args:
        log: All epochs; a step is at most ``options.batch_size`` pairs of one chunk.
        options: Of the ranker.
        chunks: Training chunks.

    Returns:
        A sentence for each doubt.
    """
    pairs = log[-1].pairs
    steps = len(log) * max(chunks, -(-pairs // options.batch_size))
    best = max(log, key=lambda row: row.valid_ndcg_at_5)
    found = []
    if options.batch_size > pairs / chunks:
        found.append(
            f"batch_size {options.batch_size:,} is more than the {pairs / chunks:,.0f} pairs of a chunk, so that an "
            "epoch has one step a chunk: lower batch_size"
        )
    if steps < FEW_STEPS:
        found.append(f"{steps} training steps are few: raise epochs or lower batch_size, to {FEW_STEPS} steps or more")
    if len(log) > 1 and log[-1].loss >= log[0].loss:
        found.append(
            f"the loss did not fall: {log[0].loss:.4g} in the first epoch, {log[-1].loss:.4g} in the last. Try another "
            "learning_rate, or a ranker that learns from little data, such as bag_of_words"
        )
    if len(log) > 1 and best is log[-1]:
        found.append("the last epoch is the best on valid: more epochs may be better")
    return found
