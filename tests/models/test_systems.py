"""Published sizes of the systems, and what sets one apart."""

import pytest
import torch

from multimodal_recall.models.ranker import InputSizes, build_ranker
from multimodal_recall.ranker_options import (
    ModelOptions,
    RankerOptions,
    SentenceLevelOptions,
    TwoTowerOptions,
    WordLevelOptions,
)

OFFICIAL = InputSizes(query_vector=768, box_feature=2048, words=5000, word_vector=300, labels=33)


def parameters(model: ModelOptions, sizes: InputSizes) -> dict[str, int]:
    """How many numbers each part of a system of published size learns, without allocating them."""
    with torch.device("meta"):
        ranker = build_ranker(RankerOptions(model=model), sizes)
    parts = {name: sum(weight.numel() for weight in part.parameters()) for name, part in ranker.named_children()}
    return {**parts, "all": sum(weight.numel() for weight in ranker.parameters())}


@pytest.mark.parametrize(
    ("model", "sizes", "part", "published"),
    [
        # section 0: (4 gates x (2353 inputs + 512 states + 2 biases)) x 512 x 2 directions, and the norm
        (TwoTowerOptions(), OFFICIAL, "image_encoder", 4 * (2353 + 512 + 2) * 512 * 2 + 2 * 2048),
        # section 2
        (WordLevelOptions(), OFFICIAL, "image_encoder", 71.7e6),
        (SentenceLevelOptions(), OFFICIAL, "image_encoder", 71.7e6),
    ],
)
def test_parameters_of_the_published_sizes(model: ModelOptions, sizes: InputSizes, part: str, published: float) -> None:
    assert parameters(model, sizes)[part] == pytest.approx(published, rel=0.01)
