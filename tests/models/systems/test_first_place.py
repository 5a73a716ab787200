"""MCAN and VisualBERT."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
    VisualBertConfig,
    VisualBertModel,
)

from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.ranker import Ranker
from tests.tiny_rankers import OPTIONS, SIZES, SYSTEMS, make_ranker


def checkpoint(folder: Path, kind: type[PreTrainedModel], **changes: int) -> PreTrainedModel:
    """A tiny checkpoint of random weights, saved and loaded by transformers."""
    torch.manual_seed(1)
    sizes = {
        "vocab_size": SIZES.tokens + 2,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 20,
    }
    config = {BertModel: BertConfig, RobertaModel: RobertaConfig}[kind](**{**sizes, **changes})
    config.layer_norm_eps = {BertModel: 1e-12, RobertaModel: 1e-5}[kind]
    model = kind(config)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return AutoModel.from_pretrained(folder).eval()


def ranker_of(system: str) -> Ranker:
    return make_ranker(options=replace(OPTIONS, model=SYSTEMS[system])).eval()


def test_mcan_starts_from_robertas_token_embeddings(tmp_path: Path) -> None:
    text_model, ranker = checkpoint(tmp_path, RobertaModel), ranker_of("mcan")
    ranker.start_from_text_model(text_model)
    token_ids = torch.tensor([[0, 7, 24, 2], [0, 11, 3, 2]])
    expected = text_model.embeddings(token_ids)
    torch.testing.assert_close(ranker.tokens(token_ids), expected, rtol=0, atol=1e-6)


def test_mcan_runs_the_text_once_a_query(arrays: ChunkArrays, pairs: Pairs) -> None:
    # Given three pairs of two queries
    batch, ranker, seen = arrays.batch(pairs.take([0, 1, 2])), ranker_of("mcan"), []
    ranker.text_layers[0].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    ranker(batch)
    assert [len(words) for words in seen] == [int((~batch.token_mask).sum())]
    assert len(batch.token_mask) == 2


def test_mcan_compares_text_and_image_in_four_ways(arrays: ChunkArrays, pairs: Pairs) -> None:
    vectors = ranker_of("mcan").pair_vectors(arrays.batch(pairs))
    text, image, product, difference = vectors.chunk(4, dim=1)
    torch.testing.assert_close(product, text * image)
    torch.testing.assert_close(difference, (text - image).abs())


def test_visual_bert_equals_transformers(tmp_path: Path, arrays: ChunkArrays, pairs: Pairs) -> None:
    # Given BERT's weights in both, in transformers' as its own initialisation has them, and our projection
    text_model, ranker = checkpoint(tmp_path, BertModel), ranker_of("visual_bert")
    ranker.start_from_text_model(text_model)
    config = VisualBertConfig(**text_model.config.to_diff_dict() | {"visual_embedding_dim": SIZES.box_feature + 6})
    reference = VisualBertModel(config, add_pooling_layer=False).eval()
    reference.load_state_dict(text_model.state_dict(), strict=False)
    theirs, batch = reference.embeddings, arrays.batch(pairs)
    theirs.visual_token_type_embeddings.weight.data = theirs.token_type_embeddings.weight.data
    theirs.visual_position_embeddings.weight.data = theirs.position_embeddings.weight.data
    theirs.visual_projection.weight.data = ranker.box_layer.weight.data
    theirs.visual_projection.bias.data.zero_()
    # When both read the same pairs
    boxes = torch.cat([batch.box_features.float(), batch.box_positions], dim=2)
    expected = reference(
        input_ids=batch.token_ids[batch.pair_queries],
        attention_mask=(~batch.token_mask).long()[batch.pair_queries],
        visual_embeds=boxes[batch.pair_products],
        visual_attention_mask=(~batch.box_mask).long()[batch.pair_products],
    ).last_hidden_state[:, 0]
    torch.testing.assert_close(ranker.pair_vectors(batch), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("system", ["mcan", "visual_bert"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 8}, r"Set the ranker's model to \{width: 8"),
        ({"vocab_size": 20}, r"words.weight is \(20, 16\), wanted \(25, 16\)"),
        ({"max_position_embeddings": 10}, r"places.weight is \(\d+, 16\), wanted \(12, 16\)"),
    ],
)
def test_a_text_model_of_other_sizes_is_refused(
    tmp_path: Path, system: str, changes: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ranker_of(system).start_from_text_model(checkpoint(tmp_path, BertModel, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intermediate_size": 8}, r"\{width: 16, layers: 1, heads: 2, feed_forward: 8\}"),
        ({"num_hidden_layers": 2}, r"\{width: 16, layers: 2, heads: 2, feed_forward: 16\}"),
        ({"num_attention_heads": 4}, r"\{width: 16, layers: 1, heads: 4, feed_forward: 16\}"),
    ],
)
def test_visual_bert_refuses_other_layers(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ranker_of("visual_bert").start_from_text_model(checkpoint(tmp_path, BertModel, **changes))


@pytest.mark.parametrize("system", ["mcan", "visual_bert"])
def test_a_text_model_of_another_kind_is_refused(system: str) -> None:
    other = T5EncoderModel(T5Config(vocab_size=5, d_model=4, d_kv=2, d_ff=4, num_layers=1, num_heads=2))
    with pytest.raises(ValueError, match=r"text_model is of the kind 't5', wanted one of .*'bert'"):
        ranker_of(system).start_from_text_model(other)
