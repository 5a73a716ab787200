"""Learning-rate factors by training progress (0 to 1), so that a checkpoint needs no scheduler state."""

import math


def constant(_progress: float) -> float:
    """Give 1 throughout."""
    return 1.0


def linear_warmup(progress: float, warmup: float = 0.1) -> float:
    """Rise linearly from 0 to 1 over the first ``warmup`` share, then fall linearly to 0."""
    return min(progress / warmup, (1 - progress) / (1 - warmup))


def wavy_linear_warmup(progress: float) -> float:
    """Multiply ``linear_warmup`` by |1 + 0.3 sin(2 pi 6 u)|, u from 0 to 1 over the decay (first place)."""
    decayed = max(progress - 0.1, 0) / 0.9
    return linear_warmup(progress) * abs(1 + 0.3 * math.sin(2 * math.pi * 6 * decayed))


SCHEDULES = {"constant": constant, "linear_warmup": linear_warmup, "wavy_linear_warmup": wavy_linear_warmup}
