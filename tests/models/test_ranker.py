import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.batch import Batch, ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.datasets.model_folders import RankerFolder
from multimodal_recall.models.indexable import TowerRanker
from multimodal_recall.models.layers.heads import ConcatMlp
from multimodal_recall.models.layers.kernel_features import KernelFeatures
from multimodal_recall.models.layers.largest_box import LargestBox
from multimodal_recall.models.layers.padding import Packing
from multimodal_recall.models.layers.recurrent import BiLstm
from multimodal_recall.models.ranker import Ranker, build_ranker
from multimodal_recall.models.saved import SavedRankerError, TrainedRanker, read_ranker
from tests.tiny_rankers import MODEL, OPTIONS, SIZES, SYSTEMS, make_ranker

JOINT = {"mcan", "visual_bert", "word_level", "image_tags", "sentence_level"}
"""Systems that read a query and a product together: their products have no vectors of their own."""
TOWERS = [name for name, model in SYSTEMS.items() if model.kind not in JOINT]


def padded(batch: Batch, extra: int) -> Batch:
    """The same batch with more padding, filled with rubbish."""

    def widen(tensor: torch.Tensor, value: float) -> torch.Tensor:
        rubbish = torch.full((len(tensor), extra, *tensor.shape[2:]), value).to(tensor.dtype)
        return torch.cat([tensor, rubbish], dim=1)

    return replace(
        batch,
        word_ids=widen(batch.word_ids, 3),
        word_mask=widen(batch.word_mask, True),
        token_ids=widen(batch.token_ids, 3),
        token_mask=widen(batch.token_mask, True),
        box_features=widen(batch.box_features, 99.0),
        box_positions=widen(batch.box_positions, 99.0),
        box_labels=widen(batch.box_labels, 2),
        box_mask=widen(batch.box_mask, True),
    )


def test_padding_never_changes_a_score_in_training_or_evaluation(
    ranker: Ranker, arrays: ChunkArrays, pairs: Pairs
) -> None:
    batch = arrays.batch(pairs)
    for mode in (ranker.train, ranker.eval):
        mode()
        # copies, since some count what they see in training
        wide, narrow = deepcopy(ranker)(padded(batch, 4)), deepcopy(ranker)(batch)
        torch.testing.assert_close(wide, narrow, rtol=0, atol=1e-6)


def test_a_score_does_not_depend_on_the_rest_of_its_batch(ranker: Ranker, arrays: ChunkArrays, pairs: Pairs) -> None:
    whole = ranker.score(arrays, pairs)
    alone = [ranker.score(arrays, pairs.take(np.array([row])))[0] for row in range(len(whole))]
    np.testing.assert_allclose(alone, whole, atol=1e-5)


def test_the_summary_of_a_bilstm_is_the_last_state_of_each_direction() -> None:
    # Given sequences of any order of lengths, equal to torch run on each without padding
    torch.manual_seed(0)
    encoder, data, lengths = BiLstm(4, 6), torch.randn(5, 3, 4), torch.tensor([2, 3, 1, 3, 2])
    packed = Packing(torch.arange(3) >= lengths[:, None])
    vectors = encoder(data.flatten(0, 1)[packed.places], packed, *encoder.input_layer())
    for sequence, length, vector in zip(data, lengths, vectors, strict=True):
        outputs, _ = encoder.lstm(sequence[:length, None])
        expected = torch.cat([outputs[-1, 0, :3], outputs[0, 0, 3:]])
        torch.testing.assert_close(vector, expected)
    # and not the first position's output, whose forward half has seen one box
    outputs, _ = encoder.lstm(data[0, :2, None])
    assert not torch.allclose(vectors[0], outputs[0, 0])


def test_the_image_tower_equals_torchs_lstm_on_label_vector_feature_and_position(
    arrays: ChunkArrays, pairs: Pairs
) -> None:
    # Given weights of the norm that are not 1 and 0: the same vectors and the same gradients
    tower, batch = make_ranker().image_encoder, arrays.batch(pairs)
    torch.manual_seed(1)
    for weight in tower.feature_norm.parameters():
        nn.init.normal_(weight)
    boxes = [tower.label_vectors(batch.box_labels), tower.feature_norm(batch.box_features.float())]
    boxes = torch.cat([*boxes, batch.box_positions[:, :, :5]], dim=2)
    lengths = (~batch.box_mask).sum(dim=1)
    sequences = nn.utils.rnn.pack_padded_sequence(boxes, lengths, batch_first=True, enforce_sorted=False)
    expected = torch.cat([*tower.boxes.lstm(sequences)[1][0]], dim=1)

    def gradients(vectors: torch.Tensor) -> list[torch.Tensor]:
        tower.zero_grad()
        vectors.sin().sum().backward()
        return [weight.grad.clone() for weight in tower.parameters()]

    torch.testing.assert_close(tower(batch), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradients(tower(batch)), gradients(expected), rtol=1e-4, atol=1e-5)


def test_every_box_moves_the_scores_of_its_product_alone(ranker: Ranker, arrays: ChunkArrays, pairs: Pairs) -> None:
    batch = arrays.batch(pairs)
    ranker.eval()
    before = ranker(batch)
    of_one_box = (LargestBox, KernelFeatures)
    one_box = any(isinstance(part, of_one_box) and getattr(part, "boxes", "") != "all" for part in ranker.modules())
    largest = batch.box_positions[:, :, 4].masked_fill(batch.box_mask, -1).argmax(dim=1)
    for product, box in (~batch.box_mask).nonzero().tolist():
        features = batch.box_features.clone()
        features[product, box] = features[product, box].flip(0)
        changed = (ranker(replace(batch, box_features=features)) - before).abs() > 1e-7
        assert (batch.pair_products[changed] == product).all()
        assert changed.any() == (not one_box or bool(largest[product] == box))


def test_the_largest_box_is_described_with_the_signs_of_its_feature(arrays: ChunkArrays, pairs: Pairs) -> None:
    batch = arrays.batch(pairs)
    whole = LargestBox(batch.box_features.shape[-1]).eval()
    described = whole(batch)
    torch.testing.assert_close(whole(replace(batch, box_features=-batch.box_features)), -described)
    assert described.any(dim=1).all()


def test_the_split_first_layer_equals_one_on_both_vectors() -> None:
    torch.manual_seed(0)
    head = ConcatMlp(3, 5, 7, dropout=0.0)
    queries, products = torch.randn(4, 3), torch.randn(6, 5)
    first, second = torch.tensor([0, 3, 3, 1]), torch.tensor([5, 0, 1, 1])
    whole = nn.Linear(8, 7)
    whole.weight.data = torch.cat([head.query_part.weight, head.product_part.weight], dim=1)
    whole.bias.data = head.query_part.bias
    expected = whole(torch.cat([queries[first], products[second]], dim=1)).relu()
    torch.testing.assert_close(head(queries, products, first, second), expected)


def test_gradients_are_the_same_bits_whatever_the_threads_do() -> None:
    # Given many pairs that share queries and products, so that their gradients are added up
    def gradient() -> torch.Tensor:
        torch.manual_seed(0)
        head = ConcatMlp(32, 32, 256, dropout=0.0)
        first, second = torch.randint(40, (20_000,)), torch.randint(40, (20_000,))
        head(torch.randn(40, 32), torch.randn(40, 32), first, second).square().sum().backward()
        return head.query_part.weight.grad

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        one = gradient()
        assert all(torch.equal(gradient(), one) for _ in range(10))
    finally:
        torch.set_num_threads(before)


def test_scores_are_the_log_odds_of_the_right_class() -> None:
    torch.manual_seed(0)
    head, hidden = ConcatMlp(3, 5, 7, dropout=0.0), torch.randn(6, 7)
    torch.testing.assert_close(head.score(hidden).sigmoid(), head.last(hidden).softmax(dim=1)[:, 1])


def test_the_caller_is_told_of_each_batch(arrays: ChunkArrays, pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multimodal_recall.models.ranker.SCORED_PAIRS", 8)
    ranker, told = make_ranker(), []
    for compute in (ranker.score, ranker.vectors, ranker.product_vectors):
        compute(arrays, pairs, told.append)
    assert told == [8, 8, 4] * 3


def test_scoring_leaves_the_mode_as_it_was(ranker: Ranker, arrays: ChunkArrays, pairs: Pairs) -> None:
    ranker.train()
    ranker.score(arrays, pairs)
    assert ranker.training


def test_every_query_with_every_product_scores_as_the_pairs_do(
    ranker: Ranker, arrays: ChunkArrays, pairs: Pairs
) -> None:
    batch = arrays.batch(pairs)
    ranker.eval()
    matrix = ranker.score_all(batch)
    assert matrix.shape == (10, len(set(pairs.product_rows)))
    torch.testing.assert_close(matrix[batch.pair_queries, batch.pair_products], ranker(batch), rtol=0, atol=1e-5)


def test_no_more_boxes_are_read_than_wanted(ranker: Ranker, arrays: ChunkArrays, pairs: Pairs) -> None:
    # Given products cut to their first two boxes, on reading or by hand
    kept = np.concatenate([np.arange(count) < 2 for count in arrays.box_counts])
    cut = replace(
        arrays,
        features=arrays.features[kept],
        positions=arrays.positions[kept],
        labels=arrays.labels[kept],
        box_counts=np.minimum(arrays.box_counts, 2),
    )
    scores = ranker.score(replace(arrays, max_boxes=2), pairs)
    np.testing.assert_allclose(scores, ranker.score(cut, pairs), atol=1e-6)
    assert np.abs(scores - ranker.score(arrays, pairs)).max() > 1e-6


def test_a_pairs_vector_is_what_its_score_is_made_of(ranker: Ranker, arrays: ChunkArrays, pairs: Pairs) -> None:
    vectors = ranker.vectors(arrays, pairs)
    assert vectors.dtype == np.float16
    with torch.inference_mode():
        scores = ranker.eval().score_vectors(torch.from_numpy(vectors).float()).numpy()
    np.testing.assert_allclose(scores, ranker.score(arrays, pairs), atol=2e-2)


def test_weights_alone_rebuild_the_ranker(
    ranker: Ranker, options: RankerOptions, arrays: ChunkArrays, pairs: Pairs
) -> None:
    # the word and label vectors are among them, so a model needs no other file
    rebuilt = TrainedRanker(options, SIZES, ranker.state_dict(), {}).build()
    np.testing.assert_array_equal(rebuilt.score(arrays, pairs), ranker.score(arrays, pairs))


def test_a_model_whose_weights_do_not_fit_was_made_by_another_version(tmp_path: Path) -> None:
    # Given a model whose first weight has a row less, one without it, and one with another option
    weights = make_ranker().state_dict()
    name = next(name for name, weight in weights.items() if weight.ndim == 2)
    short, few = {**weights, name: weights[name][1:].clone()}, {key: weights[key] for key in weights if key != name}
    folder = tmp_path / "model"
    again = r"\. Train the ranker again: kedro run --pipelines=train,evaluate"
    for found, fault in ((short, rf"{name} is \(.*\), wanted \("), (few, f"{name} is missing, wanted")):
        RankerFolder(str(folder)).save(TrainedRanker(OPTIONS, SIZES, found, {}))
        message = rf"{folder} was made by another version of the code: {fault}.* \(1 in all\){again}"
        with pytest.raises(SavedRankerError, match=message):
            read_ranker(folder).build()
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "options": {**card["options"], "gone": 1}}))
    with pytest.raises(SavedRankerError, match=rf"(?s)card\.json was made by another version.*gone.*{again}"):
        read_ranker(folder)


@pytest.mark.parametrize("options", TOWERS, indirect=True)
def test_product_vectors_are_those_of_each_pairs_product(
    ranker: TowerRanker, arrays: ChunkArrays, pairs: Pairs
) -> None:
    found = ranker.product_vectors(arrays, pairs)
    ranker.eval()
    for row in range(len(found)):
        with torch.no_grad():
            alone = ranker.encode_products(arrays.batch(pairs.take(np.array([row]))))
        np.testing.assert_allclose(found[row], alone[0].numpy(), atol=1e-6)


def test_published_sizes() -> None:
    # systems.md section 0: query 768 + 128 = 896, image 1024, together 1920
    published = replace(OPTIONS, model=replace(MODEL, image_state=1024, word_state=128))
    ranker = build_ranker(published, replace(SIZES, query_vector=768, box_feature=2048, word_vector=300))
    assert (ranker.query_encoder.size, ranker.image_encoder.size) == (896, 1024)
    assert ranker.image_encoder.boxes.lstm.input_size == 300 + 2048 + 5
    assert ranker.query_encoder.words.lstm.hidden_size == 64
