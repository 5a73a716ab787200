"""Features of crops, by small random vision models that are loaded as real ones are."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, BertForMaskedLM

from multimodal_recall.models.pretrained import CheckpointError
from multimodal_recall.models.vision.checkpoint import REMEDY
from multimodal_recall.models.vision.embedder import Embedder, on_square
from multimodal_recall.runtime.device import Hardware
from tests import tiny_vision
from tests.conftest import by_precision, forced_hardware
from tests.models.test_pretrained import BERT, TOKENIZER
from tests.tiny_vision import EMBEDDERS, Part, clip, dinov2, mobilenet, save_checkpoint, siglip2, vit

SIZES = [(80, 60), (60, 80), (100, 30), (33, 200), (64, 64)]


def noise(sizes: list[tuple[int, int]] = SIZES) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def embedder(folder: Path, hardware: Hardware | None = None) -> Embedder:
    return Embedder("embedder", str(folder), hardware or forced_hardware(), local_files_only=True)


@pytest.mark.precision
@pytest.mark.parametrize("kind", EMBEDDERS, ids=lambda kind: kind.__name__)
def test_one_batch_gives_the_features_of_many(tmp_path: Path, kind: Callable[[], list[Part]]) -> None:
    model = embedder(save_checkpoint(kind, tmp_path))
    together, alone = model.embed(noise(), 8), model.embed(noise(), 1)
    assert together.shape == (len(SIZES), model.width)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=by_precision(1e-5, 0.02))
    assert np.abs(together[0] - together[2:]).max() > 0.01  # the pictures differ, and so do their features


def test_image_features_are_those_of_the_model(tmp_path: Path) -> None:
    folder = save_checkpoint(siglip2, tmp_path)
    found = embedder(folder, Hardware()).embed(noise(), 8)
    squares = AutoImageProcessor.from_pretrained(folder, backend="pil")(
        [on_square(crop) for crop in noise()], return_tensors="pt"
    )
    wanted = AutoModel.from_pretrained(folder).get_image_features(**squares).pooler_output.detach().numpy()
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5)


def test_without_weights_for_the_pooling_the_first_token_is_the_feature(tmp_path: Path) -> None:
    """Transformers would draw the pooling at random: another feature in each process."""
    folder = save_checkpoint(vit, tmp_path)
    first = embedder(folder, Hardware()).embed(noise(), 8)
    torch.manual_seed(1)
    np.testing.assert_array_equal(embedder(folder, Hardware()).embed(noise(), 8), first)


@pytest.mark.parametrize("kind", [clip, dinov2, mobilenet], ids=lambda kind: kind.__name__)
def test_no_processor_cuts_off_the_ends_of_a_crop(tmp_path: Path, kind: Callable[[], list[Part]]) -> None:
    model = embedder(save_checkpoint(kind, tmp_path))
    with_feet = Image.new("RGB", (40, 120), "red")
    with_feet.paste("black", (0, 112, 40, 120))
    plain, other = model.embed([Image.new("RGB", (40, 120), "red"), with_feet], 2)
    assert np.abs(plain - other).max() > 1e-3


def test_a_crop_stands_in_the_middle_of_a_white_square() -> None:
    square = np.asarray(on_square(Image.new("RGB", (3, 1), "red")))
    assert square.shape == (3, 3, 3)
    assert (square[1] == (255, 0, 0)).all()
    assert (square[[0, 2]] == 255).all()


@pytest.mark.parametrize("kind", [siglip2, tiny_vision.siglip2_of_any_shape, clip], ids=lambda kind: kind.__name__)
def test_texts_and_pictures_share_a_space(tmp_path: Path, kind: Callable[[], list[Part]]) -> None:
    folder = save_checkpoint(kind, tmp_path)
    model = embedder(folder, Hardware())
    assert model.reads_text
    texts = ["red shirt", "blue bag", "shoe " * 50]
    vectors = model.embed_text(["Red shirt", "BLUE bag", "shoe " * 50], 2)
    assert vectors.shape == (3, model.width)
    longest = AutoModel.from_pretrained(folder).config.text_config.max_position_embeddings
    tokens = AutoTokenizer.from_pretrained(folder)(
        texts, padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
    )
    wanted = AutoModel.from_pretrained(folder).get_text_features(**tokens).pooler_output.detach().numpy()
    np.testing.assert_allclose(vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5)


def test_a_model_of_pictures_alone_reads_no_text(tmp_path: Path) -> None:
    model = embedder(save_checkpoint(dinov2, tmp_path))
    assert not model.reads_text
    with pytest.raises(TypeError, match="has no text tower"):
        model.embed_text(["red shirt"], 1)


def test_nothing_gives_nothing(tmp_path: Path) -> None:
    model = embedder(save_checkpoint(clip, tmp_path))
    assert model.embed([], 8).shape == model.embed_text([], 8).shape == (0, model.width)


def refusal(folder: str | Path) -> str:
    with pytest.raises(CheckpointError) as error:
        Embedder("embedder", str(folder), Hardware(), local_files_only=True)
    message = str(error.value)
    assert message.startswith(f"embedder is {str(folder)!r}: ")
    assert message.endswith(REMEDY)
    return message


def test_an_absent_folder_and_a_hub_name_without_a_network_are_refused(tmp_path: Path) -> None:
    assert f"there is no folder {tmp_path / 'absent'}" in refusal(tmp_path / "absent")
    assert "and the hub gives no such checkpoint (config.json: " in refusal("google/siglip2-base-patch16-224")


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    (save_checkpoint(clip, tmp_path) / "config.json").unlink()
    assert f"the checkpoint in {tmp_path} cannot be used (config.json: " in refusal(tmp_path)


def test_a_folder_without_processor_or_weights_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(clip, tmp_path)
    processor = (folder / "preprocessor_config.json").read_text()
    (folder / "preprocessor_config.json").unlink()
    assert "(preprocessor_config.json: " in refusal(folder)
    (folder / "preprocessor_config.json").write_text(processor)
    (folder / "model.safetensors").unlink()
    assert "(weights: " in refusal(folder)


def test_missing_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(clip, tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = "vision_model.encoder.layers.0.mlp.fc1.weight"
    save_file({key: value for key, value in weights.items() if key != name}, folder / "model.safetensors")
    assert re.search(rf"\(weights: 1 are missing, such as {re.escape(name)}\)", refusal(folder))
    save_file(weights | {name: weights[name] * torch.nan}, folder / "model.safetensors")
    assert "(a trial picture: its feature holds no numbers, or zeros alone)" in refusal(folder)


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    for part in (BertForMaskedLM(BERT), TOKENIZER):
        part.save_pretrained(tmp_path)
    assert "(preprocessor_config.json: " in refusal(tmp_path)
    siglip2()[1].save_pretrained(tmp_path)
    assert "(weights: a model of type bert sees no pictures)" in refusal(tmp_path)


def test_code_beside_a_model_is_not_run(tmp_path: Path) -> None:
    folder = save_checkpoint(clip, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "own.Model"}}))
    assert "the model comes with code of its own" in refusal(folder)
