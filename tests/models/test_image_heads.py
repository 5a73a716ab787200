"""The tenth place's image encoder and what matches words with it, against loops over the published formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from multimodal_recall.models.batch import Batch, ChunkArrays, Pairs
from multimodal_recall.models.image_heads import HeadWords, ImageHeads
from multimodal_recall.models.systems import word_level
from multimodal_recall.models.systems.sentence_level import SentenceLevel
from multimodal_recall.models.systems.word_level import WordLevel
from tests.models.conftest import IMAGE_HEADS, OPTIONS, SIZES, SYSTEMS, make_ranker


def ranker_of(system: str, **image_encoder: int) -> nn.Module:
    """With random numbers in place of all weights that start at 0 or 1."""
    model = replace(SYSTEMS[system], image_encoder=replace(IMAGE_HEADS, **image_encoder))
    ranker = make_ranker(options=replace(OPTIONS, model=model))
    for weight in ranker.parameters():
        nn.init.normal_(weight, std=0.3)
    return ranker.eval()


def heads_of(encoder: ImageHeads, batch: Batch, product: int) -> Tensor:
    """(1 + tag heads, head_size) of one product, without padding, box after box."""
    boxes = int((~batch.box_mask[product]).sum())
    features, positions = batch.box_features[product, :boxes].float(), batch.box_positions[product, :boxes, :5]
    inputs = encoder.norm(features + encoder.positions(positions))
    query, key, value = (inputs @ encoder.attention.in_proj_weight.T + encoder.attention.in_proj_bias).chunk(3, dim=1)
    size, attended = query.shape[1] // encoder.attention.num_heads, []
    for head in range(encoder.attention.num_heads):
        part = slice(head * size, (head + 1) * size)
        shares = (query[:, part] @ key[:, part].T / size**0.5).softmax(dim=1)
        attended.append(shares @ value[:, part])
    attended = encoder.attention.out_proj(torch.cat(attended, dim=1))
    inputs = encoder.feed_forward(encoder.activation(inputs + attended))
    weights = encoder.weights(inputs).softmax(dim=0)
    return (weights * encoder.heads(encoder.values(inputs))).sum(dim=0).reshape(-1, encoder.head_size)


def test_image_heads_are_weighted_means_of_what_attention_makes_of_the_boxes(arrays: ChunkArrays, pairs: Pairs) -> None:
    encoder, batch = ranker_of("word_level").image_encoder, arrays.batch(pairs)
    found = encoder(batch)
    assert found.shape == (len(batch.box_mask), 5, 12)
    for product, heads in enumerate(found):
        torch.testing.assert_close(heads, heads_of(encoder, batch, product), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def word_level_score(ranker: WordLevel, batch: Batch, query: int, product: int) -> float:
    sentence, *tags = heads_of(ranker.image_encoder, batch, product)
    word_ids = batch.word_ids[query][~batch.word_mask[query]]
    states, _ = ranker.word_states.gru(ranker.word_norm(ranker.words.word_vectors(word_ids)))
    logits, scores = [], []
    for word, state in zip(ranker.words(word_ids), states, strict=True):
        hidden = ranker.word_part(state) + ranker.image_part(sentence)  # W [state, image] + b
        logits.append(ranker.weight(hidden))
        scores.append(max(word @ tag for tag in tags))
    return float((torch.cat(logits).softmax(dim=0) * torch.stack(scores)).sum())


@pytest.mark.parametrize("head_size", [SIZES.word_vector, 12])
def test_word_level_is_the_weighted_sum_of_each_words_best_head(
    head_size: int, arrays: ChunkArrays, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given heads as wide as the word vectors and wider ones, and fewer numbers at once than one word has
    monkeypatch.setattr(word_level, "NUMBERS_AT_ONCE", 1)
    ranker, batch = ranker_of("word_level", head_size=head_size), arrays.batch(pairs)
    matrix, scores = ranker(batch, every_pair=True), ranker(batch)
    for query, product in np.ndindex(*matrix.shape):
        expected = word_level_score(ranker, batch, query, product)
        assert float(matrix[query, product]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    torch.testing.assert_close(scores, matrix[batch.pair_queries, batch.pair_products], rtol=1e-4, atol=1e-5)


def test_gradients_do_not_depend_on_how_much_is_computed_at_once(
    arrays: ChunkArrays, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker, batch = ranker_of("word_level"), arrays.batch(pairs)
    gradients = []
    for numbers in (1 << 24, 1):
        monkeypatch.setattr(word_level, "NUMBERS_AT_ONCE", numbers)
        ranker.zero_grad()
        ranker(batch, every_pair=True).sin().sum().backward()
        gradients.append([weight.grad for weight in ranker.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_word_vectors_as_wide_as_a_head_are_taken_as_they_are() -> None:
    assert list(HeadWords(20, 5, 5).parameters()) == []
    assert [weight.shape for weight in HeadWords(20, 5, 12).parameters()] == [(12, 5)]


def test_sentence_level_reads_each_query_with_its_image_in_mind(arrays: ChunkArrays, pairs: Pairs) -> None:
    ranker, batch = ranker_of("sentence_level"), arrays.batch(pairs)
    assert isinstance(ranker, SentenceLevel)
    for score, query, product in zip(ranker(batch), batch.pair_queries, batch.pair_products, strict=True):
        start = heads_of(ranker.image_encoder, batch, product)[0]
        word_ids = batch.word_ids[query][~batch.word_mask[query]]
        words = ranker.word_norm(ranker.word_vectors(word_ids))
        _, last = ranker.sentence.gru(words, start.expand(4, -1).contiguous())
        torch.testing.assert_close(score, ranker.last((last[2] + last[3]) / 2)[0], rtol=1e-4, atol=1e-5)
