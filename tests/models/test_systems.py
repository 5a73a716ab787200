"""Published sizes of the systems, as in conf/kddcup."""

from dataclasses import replace

import pytest
import torch

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.models.ranker import InputSizes, build_ranker
from tests.config.test_options import parameters_of

OFFICIAL = InputSizes(query_vector=768, box_feature=2048, words=5000, word_vector=300, labels=33)


def parameters(ranker: str, sizes: InputSizes) -> dict[str, int]:
    """How many numbers each part of a system of published size learns, without allocating them."""
    with torch.device("meta"):
        ranker = build_ranker(RankerOptions(**parameters_of("kddcup")[ranker]), sizes)
    parts = {name: sum(weight.numel() for weight in part.parameters()) for name, part in ranker.named_children()}
    return {**parts, "all": sum(weight.numel() for weight in ranker.parameters())}


@pytest.mark.parametrize(
    ("ranker", "sizes", "part", "published"),
    [
        # section 0: (4 gates x (2353 inputs + 512 states + 2 biases)) x 512 x 2 directions, and the norm
        ("two_tower", OFFICIAL, "image_encoder", 4 * (2353 + 512 + 2) * 512 * 2 + 2 * 2048),
        # first place; 0.5 M less each for the places beyond max_tokens, 1.1 M less for a pooler that nothing reads
        ("mcan", replace(OFFICIAL, tokens=50_265), "all", 451e6),
        ("mcan", replace(OFFICIAL, tokens=50_265), "tokens", 52e6),
        ("visual_bert", replace(OFFICIAL, tokens=30_522), "all", 338e6),
        # section 5: 117.5 M is four layers of graph reasoning and the GRU at 2048, 121.7 M that and a linear layer from
        # 2048. So the words' linear layer, from 300 (0.6 M), is what the query tower has more than published.
        ("graph_reasoning", OFFICIAL, "query_tower", 117.5e6),
        ("graph_reasoning", OFFICIAL, "image_tower", 121.7e6),
        ("graph_reasoning_tuned", OFFICIAL, "image_tower", 121.7e6),
        # section 3: with BERT's 30,522 tokens, 52.8 M and 54.4 M. The published image BERT, its linear layer included,
        # holds a table of words and one of 512 positions, of which one row each is left.
        ("siamese", replace(OFFICIAL, tokens=30522), "text", 52.8e6),
        ("siamese", OFFICIAL, "image", 54.4e6 - (2048 + 1) * 768 - (30521 + 511) * 768),
        # HSL's code: a linear layer, six layers, the vectors of two depths and back, one attention pooling
        (
            "hsl",
            OFFICIAL,
            "image_encoder",
            2049 * 512
            + 6 * (4 * 513 * 512 + 513 * 2048 + 2049 * 512 + 4 * 512)
            + 2 * (513 * 1024 + 1025 * 512)
            + (513 * 512 + 513 + 513 * 1024),
        ),
        # its words: a linear layer, four layers, four vectors
        (
            "hsl",
            OFFICIAL,
            "query_encoder",
            301 * 512 + 4 * (4 * 513 * 512 + 513 * 2048 + 2049 * 512 + 4 * 512) + 4 * 513 * 1024,
        ),
        # section 4: 2048 -> 512 -> 128 -> 2, from a query of 768 + 128 and an image of 1152
        ("concat_query", OFFICIAL, "head", (2048 + 1) * 512 + (512 + 1) * 128 + (128 + 1) * 2),
        # section 2
        ("word_level", OFFICIAL, "image_encoder", 71.7e6),
        ("sentence_level", OFFICIAL, "image_encoder", 71.7e6),
        ("image_tags", OFFICIAL, "image_encoder", 71.7e6),
    ],
)
def test_parameters_of_the_published_sizes(ranker: str, sizes: InputSizes, part: str, published: float) -> None:
    assert parameters(ranker, sizes)[part] == pytest.approx(published, rel=0.01)
