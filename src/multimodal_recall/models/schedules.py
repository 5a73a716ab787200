"""Learning-rate factors as functions of how far training is, so that resuming needs no scheduler state."""


def constant(progress: float) -> float:
    """Give 1 throughout; ``progress`` runs from 0 to 1."""
    del progress
    return 1.0


def linear_warmup(progress: float, warmup: float = 0.1) -> float:
    """Rise linearly from 0 to 1 over the ``warmup`` share, then fall linearly to 0."""
    return min(progress / warmup, (1 - progress) / (1 - warmup))
