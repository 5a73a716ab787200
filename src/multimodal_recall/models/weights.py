"""Copy trained weights into a module, or say which weights do not fit."""

from collections.abc import Mapping

from torch import Tensor, nn


def take_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy a text model's weights into all weights of a module.

    Raises:
        ValueError: If a weight has another shape, is missing or is left over.
    """
    problems = misfits(weights, module.state_dict())
    if problems:
        raise ValueError(
            f"text_model does not fit the ranker's sizes: {'; '.join(problems[:3])} ({len(problems)} in all). Give the "
            "ranker's model its sizes, or name another text_model"
        )
    module.load_state_dict(weights)


def misfits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Describe each weight that is missing, left over or of another shape."""
    shapes, wanted_shapes = (
        {name: tuple(weight.shape) for name, weight in weights.items()} for weights in (found, wanted)
    )
    return [
        f"{name} is {shapes.get(name, 'missing')}, wanted {wanted_shapes.get(name, 'none')}"
        for name in {**wanted_shapes, **shapes}
        if shapes.get(name) != wanted_shapes.get(name)
    ]
