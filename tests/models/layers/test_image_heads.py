"""The tenth place's image encoder and what matches words with it, against loops over the published formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from multimodal_recall.data.batch import Batch, ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.layers.image_heads import HeadWords, ImageHeads
from multimodal_recall.models.ranker import build_ranker
from multimodal_recall.models.systems import word_level
from multimodal_recall.models.systems.image_tags import UNKNOWN_ROW, ImageTags, tag_losses
from multimodal_recall.models.systems.sentence_level import SentenceLevel
from multimodal_recall.models.systems.word_level import WordLevel
from multimodal_recall.training.batching import TrainingPairs
from tests.models.test_ranker import padded
from tests.tiny_rankers import IMAGE_HEADS, OPTIONS, SIZES, SYSTEMS, make_arrays, make_pairs, make_ranker
from tests.training.test_loop import CHUNKS, check_resuming, trainer


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
    matrix, scores = ranker.score_all(batch), ranker(batch)
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
        ranker.score_all(batch).sin().sum().backward()
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


def test_a_word_is_a_tag_by_its_best_head_against_the_hardest_other_words() -> None:
    # Given 6 words, of which the first is the unknown one, and 2 hard negatives
    logits = torch.tensor([[9.0, 1.0, -2.0, 3.0, 0.5, -1.0], [9.0, 0.0, 1.0, 2.0, 3.0, 4.0]])
    tags = torch.tensor([[3, 2, 3], [4, UNKNOWN_ROW, UNKNOWN_ROW]])
    chance = logits.sigmoid()
    first = chance[0, 3].log() + chance[0, 2].log() + (1 - chance[0, 1]).log() + (1 - chance[0, 4]).log()
    second = chance[1, 4].log() + (1 - chance[1, 5]).log() + (1 - chance[1, 3]).log()
    torch.testing.assert_close(tag_losses(logits, tags, 2), -torch.stack([first, second]))
    assert (tag_losses(logits, tags, 1000) > tag_losses(logits, tags, 2)).all()


def test_pre_training_scores_all_words_as_tags_and_writes_the_query(arrays: ChunkArrays, pairs: Pairs) -> None:
    ranker, batch = ranker_of("image_tags"), arrays.batch(pairs)
    assert isinstance(ranker, ImageTags)
    found, right = ranker.own_losses(batch), (batch.relevance == 1).nonzero().squeeze(1)
    assert found.shape == (10, 2)
    table, captioner = ranker.words(torch.arange(SIZES.words)), ranker.captioner
    classes = torch.cat([table, captioner.end])
    for losses, pair in zip(found, right, strict=True):
        query, product = batch.pair_queries[pair], batch.pair_products[pair]
        sentence, *tags = heads_of(ranker.image_encoder, batch, product)
        word_ids = batch.word_ids[query][~batch.word_mask[query]]
        logits = torch.stack([table @ tag for tag in tags]).amax(dim=0)
        torch.testing.assert_close(losses[:1], tag_losses(logits[None], word_ids[None], 1000), rtol=1e-4, atol=1e-4)
        # and the caption word after word: each is said before it is read
        state, said, caption = sentence[None], captioner.start[0], []
        for word in [*word_ids.tolist(), len(table)]:
            _, state = captioner.gru(said[None], state)
            chances = (captioner.dense(state) @ classes.T).log_softmax(dim=1)[0]
            caption += [] if word == UNKNOWN_ROW else [-chances[word]]
            said = classes[word]
        torch.testing.assert_close(losses[1], torch.stack(caption).sum(), rtol=1e-4, atol=1e-4)


def test_padding_changes_no_loss_of_pre_training(arrays: ChunkArrays, pairs: Pairs) -> None:
    ranker, batch = ranker_of("image_tags"), arrays.batch(pairs)
    torch.testing.assert_close(ranker.own_losses(padded(batch, 4)), ranker.own_losses(batch))


PRETRAINING = replace(OPTIONS, model=SYSTEMS["image_tags"], loss="tags_and_caption", negatives_per_positive=0)


def right_alone(name: str, epoch: int) -> TrainingPairs:
    pairs = make_pairs(seed=100 * CHUNKS[name] + epoch)
    right = Pairs.grouped(pairs.query_rows[::2], pairs.product_rows[::2, None])
    return TrainingPairs(make_arrays(seed=CHUNKS[name]), right, PRETRAINING)


@pytest.mark.slow
def test_pre_training_learns_tags_and_captions_by_heart() -> None:
    # Given ten products with a query each, no unknown words, and room enough for any set of tags
    arrays, pairs = make_arrays(), Pairs.grouped(np.arange(10), np.arange(10)[:, None])
    arrays = replace(arrays, word_ids=np.maximum(arrays.word_ids, 1))
    torch.manual_seed(0)
    ranker = build_ranker(PRETRAINING, replace(SIZES, word_vector=SIZES.words))
    ranker.start(np.eye(SIZES.words, dtype=np.float32), np.zeros((SIZES.labels, SIZES.words), np.float32))
    whole = trainer(
        ranker=ranker,
        options=replace(PRETRAINING, epochs=100),
        chunks=["chunk_000"],
        load_chunk=lambda *_: TrainingPairs(arrays, pairs, PRETRAINING),
        measure=lambda: 0.0,
    )
    _, log = whole.fit()
    assert log[-1].loss == pytest.approx(sum(log[-1].loss_parts))
    assert all(last < 0.2 * first for first, last in zip(log[0].loss_parts, log[-1].loss_parts, strict=True))
    batch = arrays.batch(pairs)
    with torch.no_grad():
        chosen = (ranker.image_encoder(batch)[:, 1:] @ ranker.words.all()[1:].T).amax(dim=1) > 0
    for product, words in enumerate(chosen):
        tags = set(batch.word_ids[product][~batch.word_mask[product]].tolist())
        assert {int(word) + 1 for word in words.nonzero()} == tags


def test_a_killed_pre_training_ends_with_the_same_bits() -> None:
    check_resuming(PRETRAINING, kill_after=4, load_chunk=right_alone)


@pytest.mark.parametrize("system", ["word_level", "sentence_level"])
def test_a_ranker_starts_from_the_pre_trained_image_encoder(system: str) -> None:
    pretrained = ranker_of("image_tags").state_dict()
    ranker, fresh = (make_ranker(options=replace(OPTIONS, model=SYSTEMS[system])) for _ in range(2))
    ranker.start_from(pretrained)
    for name, weight in ranker.state_dict().items():
        taken = name.startswith(("image_encoder.", "words."))
        assert torch.equal(weight, (pretrained if taken else fresh.state_dict())[name])
    assert not torch.equal(ranker.image_encoder.heads.weight, fresh.image_encoder.heads.weight)


def test_a_start_that_does_not_fit_is_refused() -> None:
    pretrained = make_ranker(options=PRETRAINING).state_dict()
    wider = replace(SYSTEMS["word_level"], image_encoder=replace(IMAGE_HEADS, feed_forward=32))
    ranker = make_ranker(options=replace(OPTIONS, model=wider))
    message = r"WordLevel cannot start .*: image_encoder.feed_forward.0.weight is \(16, 10\), wanted \(32, 10\); "
    with pytest.raises(ValueError, match=message):
        ranker.start_from(pretrained)
    with pytest.raises(ValueError, match=r"image_encoder.label_vectors.vectors is missing, wanted \(33, 5\)"):
        make_ranker().start_from(pretrained)
    ranker = make_ranker(options=replace(OPTIONS, model=SYSTEMS["word_level"]))
    with pytest.raises(ValueError, match=r"words.word_vectors.vectors holds other vectors"):
        ranker.start_from({**pretrained, "words.word_vectors.vectors": torch.ones(20, 5)})
    with pytest.raises(ValueError, match="no part in common"):
        ranker.start_from({"other.weight": torch.ones(1)})


def test_only_a_ranker_with_a_loss_of_its_own_pre_trains(arrays: ChunkArrays, pairs: Pairs) -> None:
    with pytest.raises(NotImplementedError, match="WordLevel has no loss of its own"):
        ranker_of("word_level").own_losses(arrays.batch(pairs))
