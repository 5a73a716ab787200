"""Checkpoints that ``language_model.start_from`` names: what is taken, and what is refused with what to do."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
    RobertaPreLayerNormConfig,
    T5Config,
    XLMRobertaConfig,
)

from multimodal_recall.config.options import LanguageModelOptions
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.config.systems import SiameseOptions
from multimodal_recall.models import pretrained
from multimodal_recall.models.language_model import QueryVectors, train_tokenizer
from multimodal_recall.models.pretrained import CheckpointError, asks_hub, load_checkpoint
from multimodal_recall.models.ranker import Ranker
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.training.masked_words import prepare
from multimodal_recall.training.ranker import RankerTraining
from tests.conftest import PROJECT, forced_hardware
from tests.tiny_rankers import make_arrays
from tests.training.test_loop import MemoryCheckpoint, NoProgress

TOKENIZER = train_tokenizer(["red shirt", "blue hat for women"], 60)
SIZES = {"vocab_size": len(TOKENIZER), "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
BERT = BertConfig(**SIZES, intermediate_size=32, max_position_embeddings=40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small BERT with its tokenizer."""
    for part in (BertForMaskedLM(BERT), TOKENIZER):
        part.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refusal(start_from: str | Path, trained: bool = True) -> str:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint("language_model.start_from", str(start_from), trained, local_files_only=True)
    message = str(error.value)
    assert message.startswith(f"language_model.start_from is {str(start_from)!r}: ")
    assert message.endswith(pretrained.REMEDY)
    assert "\n" not in message
    return message


def test_a_sound_checkpoint_is_loaded_in_float32(folder: Path) -> None:
    start = BertForMaskedLM.from_pretrained(folder).half()
    start.save_pretrained(folder)
    model, tokenizer = load_checkpoint("language_model.start_from", str(folder), trained=True)
    assert isinstance(model, BertForMaskedLM)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert tokenizer("red shirt")["input_ids"] == TOKENIZER("red shirt")["input_ids"]


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def drop_weight(folder: Path) -> None:
    model = BertForMaskedLM.from_pretrained(folder)
    weights = model.state_dict()
    del weights["bert.encoder.layer.1.output.dense.weight"]
    model.save_pretrained(folder, state_dict=weights)


def drop_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def grow_tokenizer(folder: Path) -> None:
    train_tokenizer([f"word{number}" for number in range(99)], 200).save_pretrained(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"\((config\.json|weights): "),
        (lambda folder: (folder / "config.json").write_text("{"), r"\(config\.json: .*is not a valid JSON file"),
        (lambda folder: change_json(folder / "config.json", model_type="mine"), r"\(config\.json: .*type `mine`"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"\(weights: Error no file named model\.safetensors"),
        (cut_weights, r"\(weights: "),
        (drop_weight, r"\(weights: 1 are missing, such as bert\.encoder\.layer\.1\.output\.dense\.weight"),
        (drop_tokenizer, r"\(tokenizer: it knows no words; tokenizer\.json is missing"),
        (grow_tokenizer, r"\(a trial query: (the tokenizer has \d+ tokens, the model \d+|index out of range)"),
    ],
    ids=["no config", "torn config", "unknown", "no weights", "torn weights", "a weight", "no tokenizer", "tokenizer"],
)
def test_a_folder_that_is_not_whole_is_refused(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    assert re.search(rf"the checkpoint in {folder} cannot be used {message}", refusal(folder))


def test_a_path_that_is_no_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for name in (folder / "none", "models/none/1", folder / "config.json"):
        assert f"there is no folder {PROJECT / name}. Name a folder with config.json" in refusal(name)


def test_a_hub_name_without_a_network_says_how_to_bring_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda *_: None)
    assert asks_hub("nobody/nothing-at-all")
    monkeypatch.setattr(pretrained, "HF_HUB_OFFLINE", True)
    assert not asks_hub("nobody/nothing-at-all")
    message = refusal("nobody/nothing-at-all")
    assert "and the hub gives no such checkpoint (config.json: We couldn't connect to" in message
    assert "on another machine, `hf download NAME --local-dir FOLDER`; then copy the folder here" in message


@pytest.mark.parametrize(
    ("file", "auto_map"),
    [
        ("config.json", {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoModelForMaskedLM": "own.Model"}),
        ("config.json", {"AutoModel": "own.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": [None, "own.Tokenizer"]}),
    ],
)
@pytest.mark.parametrize("model_type", ["bert", "mine"])
def test_code_beside_a_checkpoint_is_never_run_and_nobody_is_asked(
    folder: Path, file: str, auto_map: dict, model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "own.py").write_text(f"from pathlib import Path\nPath({str(folder / 'ran')!r}).touch()\n")
    change_json(folder / file, auto_map=auto_map)
    change_json(folder / "config.json", model_type=model_type)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert "code" in refusal(folder) or model_type == "mine"
    assert not (folder / "ran").exists()


def test_every_loading_of_transformers_refuses_code() -> None:
    # Given that src loads by one function alone
    places = [
        (path.name, line)
        for folder in ("src", "benchmarks")
        for path in (PROJECT / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if ".from_pretrained(" in line
    ]
    assert [name for name, _ in places] == ["language_model.py", "straightforward.py"]
    assert all("trust_remote_code=False" in line for _, line in places)


@pytest.mark.parametrize(
    ("config", "trained", "message"),
    [
        (T5Config(vocab_size=80, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2), False, "is no text encoder"),
        (GPT2Config(vocab_size=80, n_embd=16, n_layer=2, n_head=2), True, "set language_model.pretrain_epochs to 0"),
    ],
)
def test_a_model_of_the_wrong_kind_is_refused(config: T5Config, trained: bool, message: str, tmp_path: Path) -> None:
    for part in (AutoModel.from_config(config), TOKENIZER):
        part.save_pretrained(tmp_path)
    assert message in refusal(tmp_path, trained)
    shutil.rmtree(tmp_path)


def small_models() -> dict[str, PreTrainedConfig]:
    """Encoders of other families, three layers each, by name."""
    bert = {**SIZES, "intermediate_size": 32, "max_position_embeddings": 40, "pad_token_id": TOKENIZER.pad_token_id}
    padded_by_1 = bert | {"pad_token_id": 1}  # as published: of 514 positions 512 are used
    distil = {"vocab_size": len(TOKENIZER), "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}
    special = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
    return {
        "distilbert": DistilBertConfig(**distil, max_position_embeddings=40),
        "electra": ElectraConfig(**bert, embedding_size=8),
        "deberta-v2": DebertaV2Config(**bert, relative_attention=True, pos_att_type=["c2p", "p2c"]),
        "modernbert": ModernBertConfig(**bert | special, global_attn_every_n_layers=2, local_attention=8),
        "roberta": RobertaConfig(**padded_by_1),
        "xlm-roberta": XLMRobertaConfig(**padded_by_1),
        "roberta-prelayernorm": RobertaPreLayerNormConfig(**padded_by_1),
        "mpnet": MPNetConfig(**padded_by_1),
        "gpt2": GPT2Config(vocab_size=len(TOKENIZER), n_embd=16, n_layer=3, n_head=2, n_positions=40),
    }


@pytest.mark.parametrize("name", small_models())
def test_any_encoder_gives_the_second_to_last_layer_and_reads_what_it_can(name: str, tmp_path: Path) -> None:
    # Given a checkpoint as it is, and one that was trained further, where transformers has a head for masked words
    torch.manual_seed(0)
    for part in (AutoModel.from_config(small_models()[name]), TOKENIZER):
        part.save_pretrained(tmp_path / "start")
    queries = ["red shirt", "blue hat for women", "red hat " * 100]
    for epochs in (0, 1)[: 1 if name == "gpt2" else 2]:
        options = LanguageModelOptions(start_from=str(tmp_path / "start"), pretrain_epochs=epochs, batch_size=2)
        made = prepare(queries, options, 0, forced_hardware(), MemoryCheckpoint(), NoProgress(), "same")
        for part in made:
            part.save_pretrained(tmp_path / "made")
        # When queries are encoded
        encode = QueryVectors(tmp_path / "made", 1000, 4096, Hardware("cpu", "float32"))
        vectors = encode(queries)
        # Then each is transformers' own second-to-last state, and the longest is cut to the model's positions
        whole = AutoModel.from_pretrained(tmp_path / "made", trust_remote_code=False).eval()
        for query, vector in zip(queries, vectors, strict=True):
            tokens = TOKENIZER(query, truncation=True, max_length=encode.max_tokens, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                wanted = whole(tokens, output_hidden_states=True).hidden_states[-2][0].mean(dim=0).numpy()
            np.testing.assert_allclose(vector, wanted, atol=2e-3)
        assert encode.max_tokens == (38 if "roberta" in name or name == "mpnet" else 40)


def test_a_rankers_text_model_is_refused_by_the_same_rules(folder: Path, tmp_path: Path) -> None:
    def build(text_model: Path) -> Ranker:
        model = SiameseOptions(text_model=str(text_model), state=16, layers=2, heads=2, max_tokens=12)
        options = RankerOptions(model=model, loss="in_batch_cross_entropy", negatives_per_positive=0, seed=0)
        vectors = np.zeros((20, 5), np.float32), np.zeros((33, 5), np.float32)
        checkpoint = MemoryCheckpoint()
        training = RankerTraining(options, {}, {}, {}, *vectors, str(text_model), forced_hardware(), checkpoint, "")
        return training._untrained(make_arrays())[0]

    BertForMaskedLM(BertConfig(**SIZES, intermediate_size=64)).save_pretrained(folder)
    ranker = build(folder)
    start = AutoModel.from_pretrained(folder, trust_remote_code=False).embeddings.word_embeddings.weight
    assert torch.equal(ranker.text.embeddings.word_embeddings.weight, start)
    with pytest.raises(CheckpointError, match=r"model\.text_model is .*: there is no folder .*/none\. Name a folder"):
        build(tmp_path / "none")
