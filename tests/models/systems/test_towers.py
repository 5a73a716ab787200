"""Graph reasoning, siamese BERTs, image-concat-query, and transformer layers in the seed system."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.models.layers.heads import ConcatMlp
from multimodal_recall.models.layers.padding import Packing, Padding
from multimodal_recall.models.layers.recurrent import BiGru, BiLstm
from multimodal_recall.models.layers.transformer import Transformer
from multimodal_recall.models.systems.graph_reasoning import GraphReasoning
from multimodal_recall.models.systems.siamese import Siamese
from multimodal_recall.training.batching import TrainingPairs
from multimodal_recall.training.losses import in_batch_softmax
from multimodal_recall.training.objective import RankerObjective
from tests.tiny_rankers import OPTIONS, SYSTEMS, make_ranker


def test_graph_reasoning_equals_vsrns_formula_on_each_sequence_alone() -> None:
    # Given sequences of 2, 3 and 1 entries, and a norm that has seen some batches
    torch.manual_seed(0)
    layer, data, lengths = GraphReasoning(4), torch.randn(3, 3, 4), torch.tensor([2, 3, 1])
    nn.init.normal_(layer.norm.weight)
    packed = Packing(torch.arange(3) >= lengths[:, None])
    entries = packed.remove(data)
    layer(entries, packed)
    found = packed.put_back(layer.eval()(entries, packed))
    for sequence, length, own in zip(data, lengths, found, strict=True):
        theta, phi, g = layer.theta_phi_g(sequence[:length]).chunk(3, dim=1)
        told = layer.back(theta @ phi.T / length @ g)
        torch.testing.assert_close(own[:length], sequence[:length] + layer.norm(told))


def test_the_states_of_a_bigru_are_torchs() -> None:
    torch.manual_seed(0)
    encoder, data, lengths = BiGru(4, 6), torch.randn(5, 3, 4), torch.tensor([2, 3, 1, 3, 2])
    packed = Packing(torch.arange(3) >= lengths[:, None])
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


def test_transformers_read_the_order_of_words_but_not_of_boxes(arrays: ChunkArrays, pairs: Pairs) -> None:
    ranker = make_ranker(options=replace(OPTIONS, model=SYSTEMS["two_tower_transformer"])).eval()
    (query,), (product,) = np.where(arrays.word_counts == 4)[0][:1], np.where(arrays.box_counts == 5)[0][:1]
    batch = arrays.batch(Pairs(np.array([query]), np.array([product]), np.array([1])))
    boxes = {name: getattr(batch, name).flip(1) for name in ("box_features", "box_positions", "box_labels")}
    torch.testing.assert_close(ranker(replace(batch, **boxes)), ranker(batch))
    words = replace(batch, word_ids=batch.word_ids.flip(1))
    assert (ranker.encode_queries(words) - ranker.encode_queries(batch)).abs().max() > 1e-3


def test_a_transformer_equals_its_layers_on_each_sequence_alone() -> None:
    torch.manual_seed(0)
    encoder, data, lengths = Transformer(8, 2, 2, dropout=0.0), torch.randn(3, 4, 8), torch.tensor([2, 4, 1])
    vectors = encoder(data, torch.arange(4) >= lengths[:, None])
    for sequence, length, vector in zip(data, lengths, vectors, strict=True):
        alone = nn.Sequential(*encoder.layers, encoder.norm)(sequence[None, :length])
        torch.testing.assert_close(vector, alone[0].mean(dim=0))


def test_hsl_adds_four_similarities_of_boxes_and_image(arrays: ChunkArrays, pairs: Pairs) -> None:
    # Given a query and a product, encoded layer by layer without padding
    ranker, batch = make_ranker(options=replace(OPTIONS, model=SYSTEMS["hsl"])).eval(), arrays.batch(pairs)
    query, product = batch.pair_queries[3], batch.pair_products[3]
    words = ranker.query_encoder.word_vectors(batch.word_ids[query][~batch.word_mask[query]])
    boxes = batch.box_features[product][~batch.box_mask[product]].float()
    boxes = functional.layer_norm(boxes, boxes.shape[1:])
    one = [Padding(torch.zeros(1, len(entries), dtype=torch.bool)) for entries in (words, boxes)]
    image, text = ranker.image_encoder, ranker.query_encoder
    total = 0.0
    depths = zip(text.words(words, one[0]), image.boxes(boxes, one[1]), (0.5, 1.0), range(2), strict=True)
    for of_words, of_boxes, weight, depth in depths:
        for_boxes, for_image = text.vectors[depth](of_words.mean(dim=0)).chunk(2)
        vectors = image.vectors[depth](of_boxes)
        with_boxes = (functional.normalize(vectors, dim=1) @ for_boxes).mean()
        pooled = image.pooling(image.back[depth](vectors.relu()), one[1])[0]
        total = total + weight * (with_boxes + functional.normalize(pooled, dim=0) @ for_image)
    torch.testing.assert_close(ranker(batch)[3], total)
    # and each similarity has a loss of its own
    matrices = ranker.loss_matrices(batch)
    assert [weight for weight, _ in matrices] == [0.5, 0.5, 1.0, 1.0]
    torch.testing.assert_close(sum(weight * matrix for weight, matrix in matrices), ranker.score_all(batch))
    chunk = TrainingPairs(arrays, pairs, replace(OPTIONS, loss="in_batch_softmax", model=SYSTEMS["hsl"], margin=0.0))
    rows = chunk.batches(np.random.default_rng(0))[0]
    losses = RankerObjective(ranker, chunk.options).eval()(chunk.batch(rows))
    own = ranker.loss_matrices(chunk.batch(rows))
    torch.testing.assert_close(losses, sum(w * in_batch_softmax(m, chunk.batch(rows), 0.0) for w, m in own))


def siamese() -> Siamese:
    return make_ranker(options=replace(OPTIONS, model=SYSTEMS["siamese"])).eval()


def test_the_siamese_score_is_the_dot_product_of_both_pooled_outputs(arrays: ChunkArrays, pairs: Pairs) -> None:
    ranker, batch = siamese(), arrays.batch(pairs)
    queries, products = ranker.encode_queries(batch), ranker.encode_products(batch)
    expected = torch.stack(
        [queries[q] @ products[p] for q, p in zip(batch.pair_queries, batch.pair_products, strict=True)]
    )
    torch.testing.assert_close(ranker(batch), expected)
    alone = ranker.text(batch.token_ids[:1][~batch.token_mask[:1]][None])
    torch.testing.assert_close(queries[:1], ranker.text.pooler(alone.last_hidden_state), rtol=0, atol=1e-5)


def test_the_place_of_a_box_does_not_enter_but_that_of_the_first(arrays: ChunkArrays, pairs: Pairs) -> None:
    ranker = siamese()
    product = np.flatnonzero(arrays.box_counts == 5)[:1]
    batch = arrays.batch(Pairs(np.array([0]), product, np.array([1])))
    for order, same in (([0, 4, 2, 3, 1], True), ([1, 0, 2, 3, 4], False)):
        moved = replace(batch, box_features=batch.box_features[:, order])
        assert torch.allclose(ranker.encode_products(moved), ranker.encode_products(batch), rtol=0, atol=1e-5) == same


def test_a_siamese_starts_from_the_first_layers_of_a_bert_that_fits() -> None:
    def bert(layers: int, tokens: int) -> BertModel:
        sizes = {"hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 48}
        return BertModel(BertConfig(num_hidden_layers=layers, vocab_size=tokens, **sizes))

    ranker, deeper = siamese(), bert(layers=3, tokens=25)
    ranker.start_from_text_model(deeper)
    for name, weight in ranker.text.state_dict().items():
        assert torch.equal(weight, deeper.state_dict()[name]), name
    with pytest.raises(ValueError, match=r"word_embeddings.weight is \(24, 12\), wanted \(25, 12\) \(1 in all\)"):
        ranker.start_from_text_model(bert(layers=3, tokens=24))
    with pytest.raises(ValueError, match=r"layer\.1\..* is missing, wanted"):
        ranker.start_from_text_model(bert(layers=1, tokens=25))


def test_the_average_of_a_bilstm_is_that_of_torchs_outputs() -> None:
    torch.manual_seed(0)
    encoder, data, lengths = BiLstm(4, 6, averaged=True), torch.randn(5, 3, 4), torch.tensor([2, 3, 1, 3, 2])
    packed = Packing(torch.arange(3) >= lengths[:, None])
    vectors = encoder(data.flatten(0, 1)[packed.places], packed, *encoder.input_layer())
    for sequence, length, vector in zip(data, lengths, vectors, strict=True):
        outputs, _ = encoder.lstm(sequence[:length, None])
        torch.testing.assert_close(vector, outputs[:, 0].mean(dim=0))


def test_a_head_of_two_hidden_layers_is_an_mlp_on_both_vectors() -> None:
    torch.manual_seed(0)
    head, queries, products = ConcatMlp(3, 5, 7, 0.0, 4), torch.randn(4, 3), torch.randn(6, 5)
    first = nn.Linear(8, 7)
    first.weight.data = torch.cat([head.query_part.weight, head.product_part.weight], dim=1)
    first.bias.data = head.query_part.bias
    mlp = nn.Sequential(first, nn.ReLU(), head.second, nn.ReLU(), head.last)
    wrong, right = mlp(torch.cat([queries[1], products[2]]))
    torch.testing.assert_close(head.score_all(queries, products)[1, 2], right - wrong)
