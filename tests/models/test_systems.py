"""Published sizes of the systems, and what sets one apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from multimodal_recall.models.batch import ChunkArrays, Pairs
from multimodal_recall.models.encoders import BiGru, packing
from multimodal_recall.models.ranker import InputSizes, build_ranker
from multimodal_recall.models.systems.graph_reasoning import GraphReasoning
from multimodal_recall.ranker_options import GraphReasoningOptions, ModelOptions, RankerOptions, TwoTowerOptions
from tests.models.conftest import OPTIONS, SYSTEMS, make_ranker

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
        # section 5: 117.5 M is four layers of graph reasoning and the GRU at 2048, 121.7 M that and a linear layer from
        # 2048. So the words' linear layer, from 300 (0.6 M), is what the query tower has more than published.
        (GraphReasoningOptions(), OFFICIAL, "query_tower", 117.5e6),
        (GraphReasoningOptions(), OFFICIAL, "image_tower", 121.7e6),
    ],
)
def test_parameters_of_the_published_sizes(model: ModelOptions, sizes: InputSizes, part: str, published: float) -> None:
    assert parameters(model, sizes)[part] == pytest.approx(published, rel=0.01)


def test_graph_reasoning_equals_vsrns_formula_on_each_sequence_alone() -> None:
    # Given sequences of 2, 3 and 1 entries, and a norm that has seen some batches
    torch.manual_seed(0)
    layer, data, lengths = GraphReasoning(4), torch.randn(3, 3, 4), torch.tensor([2, 3, 1])
    nn.init.normal_(layer.norm.weight)
    mask = torch.arange(3) >= lengths[:, None]
    places = packing(mask).places
    entries = data.flatten(0, 1)[places]
    layer(entries, places, mask)
    found = torch.zeros(9, 4).index_copy(0, places, layer.eval()(entries, places, mask)).unflatten(0, (3, 3))
    for sequence, length, own in zip(data, lengths, found, strict=True):
        theta, phi, g = layer.theta_phi_g(sequence[:length]).chunk(3, dim=1)
        told = layer.back(theta @ phi.T / length @ g)
        torch.testing.assert_close(own[:length], sequence[:length] + layer.norm(told))


def test_the_states_of_a_bigru_are_torchs() -> None:
    torch.manual_seed(0)
    encoder, data, lengths = BiGru(4, 6), torch.randn(5, 3, 4), torch.tensor([2, 3, 1, 3, 2])
    packed = packing(torch.arange(3) >= lengths[:, None])
    states = encoder(data.flatten(0, 1)[packed.places], packed)
    for number, (sequence, length) in enumerate(zip(data, lengths, strict=True)):
        _, last = encoder.gru(sequence[:length, None])
        torch.testing.assert_close(states[:, number], last[:, 0])


def test_graph_reasoning_scores_are_scaled_cosines(arrays: ChunkArrays, pairs: Pairs) -> None:
    ranker, batch = make_ranker(options=replace(OPTIONS, model=SYSTEMS["graph_reasoning"])).eval(), arrays.batch(pairs)
    queries, products = ranker.encode_queries(batch), ranker.encode_products(batch)
    cosines = functional.cosine_similarity(queries[batch.pair_queries], products[batch.pair_products])
    torch.testing.assert_close(ranker(batch), 14 * cosines)
    assert np.ptp(cosines.detach().numpy()) > 0.1
