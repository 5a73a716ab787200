"""A ranker's ``text_model`` is tried before anything runs: what fits is taken, other sizes are told."""

from pathlib import Path

import pytest
import torch
from transformers import BertModel

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.config.systems import McanOptions, ModelOptions, SiameseOptions, VisualBertOptions
from multimodal_recall.models.pretrained import CheckpointError, load_checkpoint
from multimodal_recall.models.ranker import InputSizes, build_ranker
from multimodal_recall.models.text_model import try_text_model
from tests.tiny_text import save_sentence_encoder

PAIRWISE = {"loss": "cross_entropy"}
FITTING: dict[str, ModelOptions] = {
    "siamese": SiameseOptions(text_model="x", state=16, layers=2, heads=2),
    "mcan": McanOptions(text_model="x", width=16, layers=1, heads=4, feed_forward=8),
    "visual_bert": VisualBertOptions(text_model="x", width=16, layers=3, heads=2, feed_forward=64),
}


def tried(folder: Path, model: ModelOptions) -> None:
    loaded = load_checkpoint(f"{model.kind}.model.text_model", str(folder))
    try_text_model(f"{model.kind}.model.text_model", RankerOptions(model=model, **PAIRWISE), *loaded)


@pytest.mark.parametrize("name", FITTING)
def test_a_sentence_encoder_that_fits_is_taken(name: str, tmp_path: Path) -> None:
    folder = save_sentence_encoder(tmp_path)
    tried(folder, FITTING[name])
    # and the training takes the words of the tokenizer alone, as they are
    text_model, tokenizer = load_checkpoint("text_model", str(folder))
    ranker = build_ranker(
        RankerOptions(model=FITTING[name], **PAIRWISE), InputSizes(1, 1, 1, 1, 1, len(tokenizer)), tokenizer
    )
    ranker.start_from_text_model(text_model)
    words = [weight for weight in ranker.parameters() if weight.shape == (len(tokenizer), 16)]
    assert [torch.equal(table, text_model.embeddings.word_embeddings.weight[: len(tokenizer)]) for table in words] == [
        True
    ]
    assert len(text_model.embeddings.word_embeddings.weight) > len(tokenizer)


@pytest.mark.parametrize(
    ("model", "changes", "wanted"),
    [
        (SiameseOptions(text_model="x", state=32, heads=2), {}, "state: 16, heads: 2"),
        (SiameseOptions(text_model="x", state=16, heads=4, layers=2), {}, "state: 16, heads: 2"),
        (McanOptions(text_model="x", width=32, heads=4), {}, "width: 16"),
        (VisualBertOptions(text_model="x", width=16, heads=4), {}, "width: 16, layers: 3, heads: 2, feed_forward: 64"),
        (
            VisualBertOptions(text_model="x", width=16, layers=3, heads=2, feed_forward=64),
            {"intermediate_size": 32},
            "width: 16, layers: 3, heads: 2, feed_forward: 32",
        ),
    ],
)
def test_other_sizes_are_refused_with_those_to_set(
    model: ModelOptions, changes: dict[str, int], wanted: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as error:
        tried(save_sentence_encoder(tmp_path, **changes), model)
    assert str(error.value) == (
        f"{model.kind}.model.text_model is 'x': text_model has other sizes than the ranker. Set the ranker's model to "
        f"{{{wanted}}}, or name another text_model"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intermediate_size": 32}, r"encoder.layer.0.intermediate.dense.weight is \(32, 16\), wanted \(64, 16\)"),
        ({"num_hidden_layers": 2}, r"encoder\.layer\.2\..* is missing, wanted"),
    ],
)
def test_a_siamese_names_what_no_option_of_it_can_fit(changes: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        tried(save_sentence_encoder(tmp_path, **changes), SiameseOptions(text_model="x", state=16, layers=3, heads=2))


def test_the_trial_needs_no_memory_for_the_ranker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        "multimodal_recall.models.systems.siamese.Siamese.start_from_text_model",
        lambda self, model: seen.append([*self.parameters(), *model.parameters()]),
    )
    tried(save_sentence_encoder(tmp_path), SiameseOptions(text_model="x", state=12288))
    assert {weight.device.type for weights in seen for weight in weights} == {"meta"}
    assert isinstance(load_checkpoint("text_model", str(tmp_path))[0], BertModel)
