"""Learning-rate factors as functions of how far training is, so that resuming needs no scheduler state."""

import math


def constant(progress: float) -> float:
    """Give 1 throughout; ``progress`` runs from 0 to 1."""
    del progress
    return 1.0


def linear_warmup(progress: float, warmup: float = 0.1) -> float:
    """Rise linearly from 0 to 1 over the ``warmup`` share, then fall linearly to 0."""
    return min(progress / warmup, (1 - progress) / (1 - warmup))


def wavy_linear_warmup(progress: float) -> float:
    """``linear_warmup`` times |1 + 0.3 sin(2 pi 6 u)|, u from 0 to 1 over the decay (first place)."""
    decayed = max(progress - 0.1, 0) / 0.9
    return linear_warmup(progress) * abs(1 + 0.3 * math.sin(2 * math.pi * 6 * decayed))


SCHEDULES = {"constant": constant, "linear_warmup": linear_warmup, "wavy_linear_warmup": wavy_linear_warmup}
