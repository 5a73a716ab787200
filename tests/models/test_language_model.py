import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from multimodal_recall.models import language_model
from multimodal_recall.models.language_model import QueryVectors, load, prepare, train_tokenizer
from multimodal_recall.options import LanguageModelOptions

QUERIES = [
    f"{colour} {noun}{end}"
    for colour in ("red", "blue", "light green")
    for noun in ("shirt", "shoe", "hat")
    for end in ("", " for women's day", " a b c d e f g")
]
SMALL = LanguageModelOptions(hidden_size=32, layers=3, heads=2, vocabulary_size=120, pretrain_epochs=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("language_model")
    for part in prepare(QUERIES, SMALL, seed=0):
        part.save_pretrained(path)
    return path


def reference(folder: Path, query: str) -> np.ndarray:
    """transformers' own answer: all layers, the hidden states of the second to last, averaged over the tokens."""
    model = AutoModel.from_pretrained(folder, output_hidden_states=True).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(query, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model(tokens).hidden_states[-2][0].mean(dim=0).numpy()


def test_the_second_to_last_layer_averaged_over_the_real_tokens(folder: Path) -> None:
    vectors = QueryVectors(folder, max_tokens=64, tokens_per_batch=40)(QUERIES)
    assert (vectors.shape, vectors.dtype) == ((len(QUERIES), 32), np.float16)
    for query, vector in zip(QUERIES, vectors, strict=True):
        np.testing.assert_allclose(vector, reference(folder, query), atol=2e-3)


def test_the_last_layer_is_not_built(folder: Path) -> None:
    assert QueryVectors(folder, 64, 40).model.config.num_hidden_layers == 2


def test_a_vector_does_not_depend_on_the_other_queries(folder: Path) -> None:
    encode = QueryVectors(folder, 64, 40)
    np.testing.assert_allclose(encode(QUERIES[::-1])[::-1], encode(QUERIES), atol=2e-3)


def test_long_queries_are_cut(folder: Path) -> None:
    encode = QueryVectors(folder, max_tokens=4, tokens_per_batch=40)
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


def test_bfloat16_agrees_with_float32(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = QueryVectors(folder, 64, 4096)(QUERIES).astype(np.float32)
    monkeypatch.setattr(language_model, "half_precision", lambda device: torch.bfloat16)
    encode = QueryVectors(folder, 64, 4096)
    assert next(encode.model.parameters()).dtype == torch.bfloat16
    rounded = encode(QUERIES).astype(np.float32)
    cosine = (exact * rounded).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosine.min() >= 0.9999


def test_a_query_longer_than_a_batch_or_than_the_model_is_read(folder: Path) -> None:
    words = " ".join(["red"] * 300)
    assert np.isfinite(QueryVectors(folder, max_tokens=1000, tokens_per_batch=3)(["red shirt", words])).all()


def test_one_cls_and_one_sep_and_unknown_letters_survive() -> None:
    tokenizer = train_tokenizer(QUERIES, 120)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("Red shirt ☂")["input_ids"])
    assert tokens[0] == "[CLS]"
    assert (tokens.count("[CLS]"), tokens.count("[SEP]"), tokens[-1]) == (1, 1, "[SEP]")
    assert "[UNK]" in tokens


def test_the_same_seed_makes_the_same_model() -> None:
    one, other, third = (prepare(QUERIES, SMALL, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], third[name]) for name in one)


def test_pre_training_goes_on_from_a_folder(folder: Path) -> None:
    start = AutoModel.from_pretrained(folder).state_dict()
    as_it_is = LanguageModelOptions(start_from=str(folder), pretrain_epochs=0)
    model, _ = prepare(QUERIES, as_it_is, seed=0)
    assert torch.equal(
        model.albert.state_dict()["embeddings.word_embeddings.weight"], start["embeddings.word_embeddings.weight"]
    )
    model, _ = prepare(QUERIES, LanguageModelOptions(start_from=str(folder), pretrain_epochs=2, batch_size=8), seed=0)
    moved = model.albert.state_dict()["embeddings.word_embeddings.weight"]
    assert not torch.equal(moved, start["embeddings.word_embeddings.weight"])
    torch.testing.assert_close(moved, start["embeddings.word_embeddings.weight"], rtol=0, atol=0.1)


def test_threads_that_load_at_once_leave_transformers_as_it_was(folder: Path) -> None:
    before = PreTrainedModel.tie_weights, PreTrainedModel.init_weights
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: load(AutoModelForMaskedLM, folder), range(64)))
    assert (PreTrainedModel.tie_weights, PreTrainedModel.init_weights) == before
    load(AutoModelForMaskedLM, folder).cpu()
