import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from multimodal_recall.config.options import LanguageModelOptions
from multimodal_recall.models.language_model import QueryVectors, load, train_tokenizer
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.training.masked_words import prepare
from tests.conftest import by_precision, forced_hardware
from tests.training.test_loop import Killed, MemoryCheckpoint, NoProgress

pytestmark = pytest.mark.precision

QUERIES = [
    f"{colour} {noun}{end}"
    for colour in ("red", "blue", "light green")
    for noun in ("shirt", "shoe", "hat")
    for end in ("", " for women's day", " a b c d e f g")
]
SMALL = LanguageModelOptions(hidden_size=32, layers=3, heads=2, vocabulary_size=120, pretrain_epochs=2)


def prepared(
    options: LanguageModelOptions = SMALL, seed: int = 0, checkpoint: MemoryCheckpoint | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    return prepare(
        QUERIES, options, seed, forced_hardware(), checkpoint or MemoryCheckpoint(), NoProgress(), fingerprint="same"
    )


def encoder(folder: Path, max_tokens: int = 64, tokens_per_batch: int = 40) -> QueryVectors:
    return QueryVectors(folder, max_tokens, tokens_per_batch, forced_hardware())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("language_model")
    for part in prepared():
        part.save_pretrained(path)
    return path


def reference(folder: Path, query: str) -> np.ndarray:
    """transformers' own answer: all layers, the hidden states of the second to last, averaged over the tokens."""
    model = AutoModel.from_pretrained(folder, output_hidden_states=True).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(query, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model(tokens).hidden_states[-2][0].mean(dim=0).numpy()


def test_the_second_to_last_layer_averaged_over_the_real_tokens(folder: Path) -> None:
    vectors = encoder(folder)(QUERIES)
    assert (vectors.shape, vectors.dtype) == ((len(QUERIES), 32), np.float16)
    for query, vector in zip(QUERIES, vectors, strict=True):
        np.testing.assert_allclose(vector, reference(folder, query), atol=by_precision(2e-3, 2e-2))


def test_typographic_signs_are_read_as_those_of_a_keyboard(folder: Path) -> None:
    one, other = encoder(folder)(["red shirt for women’s day", "red shirt for women's day"])
    np.testing.assert_array_equal(one, other)


def test_the_last_layer_is_not_built(folder: Path) -> None:
    assert encoder(folder).model.config.num_hidden_layers == 2


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_the_fast_ways_are_the_published_model(kernel: str, folder: Path, tmp_path: Path) -> None:
    # Given an ALBERT with the activation of the published ones, in float32
    config = AlbertConfig.from_pretrained(folder, hidden_act="gelu_new")
    torch.manual_seed(0)
    for part in (AlbertModel(config), AutoTokenizer.from_pretrained(folder)):
        part.save_pretrained(tmp_path)
    encode = QueryVectors(tmp_path, 64, 40, Hardware("cpu", "float32"))
    assert (encode.model.config.hidden_act, encode.model.config._attn_implementation) == ("gelu_pytorch_tanh", "sdpa")
    # When the layers are run with either attention
    encode.model.set_attn_implementation(kernel)
    theirs = AutoModel.from_pretrained(tmp_path).eval()
    tokens = torch.randint(5, 60, (4, 9), generator=torch.Generator().manual_seed(0))
    states = encode.model(tokens).last_hidden_state, theirs(tokens, output_hidden_states=True).hidden_states[-2]
    # Then states and gradients are transformers'
    torch.testing.assert_close(*states, atol=1e-5, rtol=1e-5)
    weights = (model.encoder.albert_layer_groups[0].albert_layers[0].ffn.weight for model in (encode.model, theirs))
    gradients = [torch.autograd.grad(s[..., 0].mean(), w)[0] for s, w in zip(states, weights, strict=True)]
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_bfloat16_on_a_cpu_takes_plain_attention(folder: Path) -> None:
    model = QueryVectors(folder, 64, 40, Hardware("cpu", "bfloat16")).model
    assert model.config._attn_implementation == "eager"


def test_a_vector_does_not_depend_on_the_other_queries(folder: Path) -> None:
    encode = encoder(folder)
    np.testing.assert_allclose(encode(QUERIES[::-1])[::-1], encode(QUERIES), atol=by_precision(2e-3, 2e-2))


def test_long_queries_are_cut(folder: Path) -> None:
    encode = encoder(folder, max_tokens=4)
    np.testing.assert_array_equal(encode(["red shirt a b c"]), encode(["red shirt d e f"]))


@pytest.mark.parametrize("query", ["grüne Füße", "हिन्दी कपड़े", "红色连衣裙", "赤いドレス", "เสื้อสีแดง"])
def test_letters_keep_their_accents_and_vowel_signs(query: str) -> None:
    tokenizer = train_tokenizer([query], 120)
    for written in (query, unicodedata.normalize("NFD", query)):
        assert read_back(tokenizer, written) == query.lower().replace(" ", "")


def test_accents_are_stripped_where_that_is_wanted() -> None:
    tokenizer = train_tokenizer(["appliqués", "appliques"], 120, strip_accents=True)
    assert read_back(tokenizer, "Appliqués") == "appliques"


def read_back(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """What the tokenizer makes of a text, without spaces."""
    return re.sub("[ ▁]", "", tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True))


def test_bfloat16_agrees_with_float32(folder: Path) -> None:
    exact = QueryVectors(folder, 64, 4096, Hardware("cpu", "float32"))(QUERIES).astype(np.float32)
    encode = QueryVectors(folder, 64, 4096, Hardware("cpu", "bfloat16"))
    assert next(encode.model.parameters()).dtype == torch.bfloat16
    rounded = encode(QUERIES).astype(np.float32)
    cosine = (exact * rounded).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosine.min() >= 0.9999


def test_a_query_longer_than_a_batch_or_than_the_model_is_read(folder: Path) -> None:
    words = " ".join(["red"] * 300)
    assert np.isfinite(encoder(folder, max_tokens=1000, tokens_per_batch=3)(["red shirt", words])).all()


def test_one_cls_and_one_sep_and_unknown_letters_survive() -> None:
    tokenizer = train_tokenizer(QUERIES, 120)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("Red shirt ☂")["input_ids"])
    assert tokens[0] == "[CLS]"
    assert (tokens.count("[CLS]"), tokens.count("[SEP]"), tokens[-1]) == (1, 1, "[SEP]")
    assert "[UNK]" in tokens


def test_the_same_seed_makes_the_same_model() -> None:
    one, other, third = (prepared(seed=seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], third[name]) for name in one)


def test_a_killed_masked_word_training_ends_with_the_same_bits() -> None:
    # Given a training of two epochs that is killed after the first
    whole, checkpoint = prepared()[0].state_dict(), MemoryCheckpoint(kill_after=1)
    with pytest.raises(Killed):
        prepared(checkpoint=checkpoint)
    resumed = prepared(checkpoint=checkpoint)[0].state_dict()
    assert all(torch.equal(resumed[name], weights) for name, weights in whole.items())


def test_masked_words_are_learnt() -> None:
    # Given epochs enough to know these few texts: the loss falls below that of guessing by frequency
    checkpoint = MemoryCheckpoint()
    prepared(replace(SMALL, pretrain_epochs=60, batch_size=9), checkpoint=checkpoint)
    losses = [row["loss"] for row in checkpoint.kept[1]["state"]["log"]]
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


def test_a_named_checkpoint_is_taken_as_it_is_or_kept_in_training(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    start = AutoModel.from_pretrained(folder).state_dict()["embeddings.word_embeddings.weight"]
    model, _ = prepared(LanguageModelOptions(start_from=str(folder)))
    assert torch.equal(model.state_dict()["embeddings.word_embeddings.weight"], start)
    assert f"language model: {folder} is taken as it is" in caplog.text
    moved = {}
    for rate in (None, 1e-3):
        options = LanguageModelOptions(start_from=str(folder), pretrain_epochs=2, batch_size=8, learning_rate=rate)
        weights = prepared(options)[0].albert.state_dict()["embeddings.word_embeddings.weight"]
        moved[rate] = (weights - start).abs().max()
    assert 0 < moved[None] < moved[1e-3] / 10
    assert f"{folder} is trained on the queries, 2 epochs at a peak rate of 5e-05" in caplog.text


def test_threads_that_load_at_once_leave_transformers_as_it_was(folder: Path) -> None:
    before = PreTrainedModel.tie_weights, PreTrainedModel.init_weights
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: load(AutoModelForMaskedLM, folder), range(64)))
    assert (PreTrainedModel.tie_weights, PreTrainedModel.init_weights) == before
    load(AutoModelForMaskedLM, folder).cpu()
