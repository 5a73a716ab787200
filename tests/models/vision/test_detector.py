"""Boxes of small random detectors, beside what transformers' own pipelines find."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoImageProcessor,
    AutoModelForZeroShotObjectDetection,
    AutoTokenizer,
    GroundingDinoProcessor,
    pipeline,
)

from multimodal_recall.models.pretrained import CheckpointError
from multimodal_recall.models.vision.checkpoint import REMEDY
from multimodal_recall.models.vision.detector import SMALLEST, Detection, Detector, overlap
from multimodal_recall.runtime.device import Hardware
from tests.conftest import forced_hardware
from tests.models.vision.test_embedder import noise
from tests.tiny_vision import OWN_LABELS, SHOP_LABELS, Part, clip, dfine, grounding_dino, owlv2, save_checkpoint

LABELS = ("red shirt", "bag")
PICTURES = noise([(80, 60), (60, 80), (90, 90), (60, 80), (200, 60)])


def detector(folder: Path, labels: tuple[str, ...] = (), threshold: float = 0.0) -> Detector:
    return Detector("detector", str(folder), labels, threshold, forced_hardware(), local_files_only=True)


def sides_of(found: list[Detection]) -> np.ndarray:
    return np.array([detection.sides for detection in found]).reshape(-1, 4)


def rounded(found: list[Detection]) -> set[tuple[object, ...]]:
    return {(*map(int, detection.sides), detection.label) for detection in found}


@pytest.mark.precision
@pytest.mark.parametrize("kind", [*OWN_LABELS, *SHOP_LABELS], ids=lambda kind: kind.__name__)
def test_one_batch_finds_what_many_find(tmp_path: Path, kind: Callable[[], list[Part]]) -> None:
    model = detector(save_checkpoint(kind, tmp_path), LABELS if kind in SHOP_LABELS else ())
    together, alone = model.detect(PICTURES), [found for picture in PICTURES for found in model.detect([picture])]
    assert len(together) == len(PICTURES)
    assert sum(map(len, together)) > 0
    for one, other, picture in zip(together, alone, PICTURES, strict=True):
        assert [found.label for found in one] == [found.label for found in other]
        np.testing.assert_allclose(sides_of(one), sides_of(other), atol=0.01)
        np.testing.assert_allclose([found.score for found in one], [found.score for found in other], atol=1e-4)
        assert [found.score for found in one] == sorted((found.score for found in one), reverse=True)
        top, left, bottom, right = sides_of(one).T
        assert min(top.min(initial=0), left.min(initial=0)) == 0
        assert bottom.max(initial=0) <= picture.height
        assert right.max(initial=0) <= picture.width
        assert (np.minimum(bottom - top, right - left) >= SMALLEST).all()


@pytest.mark.parametrize("kind", OWN_LABELS, ids=lambda kind: kind.__name__)
def test_boxes_are_those_of_transformers(tmp_path: Path, kind: Callable[[], list[Part]]) -> None:
    folder = save_checkpoint(kind, tmp_path)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    reference = pipeline("object-detection", model=str(folder), image_processor=processor)
    for picture, found in zip(PICTURES, detector(folder).detect(PICTURES), strict=True):
        wanted = {
            (box["ymin"], box["xmin"], box["ymax"], box["xmax"], result["label"])
            for result in reference(picture, threshold=0.0)
            for box in [result["box"]]
        }
        assert rounded(found) <= wanted


def test_owlv2_finds_the_shops_labels(tmp_path: Path) -> None:
    """Its boxes are shares of a padded square, and the shorter side of the photo is none."""
    folder = save_checkpoint(owlv2, tmp_path)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    reference = pipeline(
        "zero-shot-object-detection", model=str(folder), tokenizer=tokenizer, image_processor=processor
    )
    found = detector(folder, LABELS).detect(PICTURES)
    assert {detection.label for each in found for detection in each} <= {*LABELS}
    for picture, each in zip(PICTURES, found, strict=True):
        corners = [result["box"] for result in reference(picture, candidate_labels=LABELS, threshold=0.0)]
        wanted = np.array([[box["ymin"], box["xmin"], box["ymax"], box["xmax"]] for box in corners])
        wanted = wanted.clip(0, [picture.height, picture.width] * 2)
        assert all((np.abs(wanted - sides) <= 1).all(axis=1).any() for sides in sides_of(each))


def test_grounding_dino_finds_the_shops_labels(tmp_path: Path) -> None:
    folder = save_checkpoint(grounding_dino, tmp_path)
    image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    processor = GroundingDinoProcessor(image_processor, AutoTokenizer.from_pretrained(folder))
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    inputs = processor(images=PICTURES[0], text=[list(LABELS)], return_tensors="pt")
    with torch.inference_mode():
        [wanted] = processor.post_process_grounded_object_detection(
            model(**inputs), inputs["input_ids"], threshold=0.0, target_sizes=[PICTURES[0].size[::-1]]
        )
    boxes = wanted["boxes"][:, [1, 0, 3, 2]].numpy().clip(0, [80, 60, 80, 60])
    [found] = detector(folder, LABELS).detect(PICTURES[:1])
    assert found
    assert {detection.label for detection in found} <= {*LABELS}
    assert all((np.abs(boxes - sides) < 0.01).all(axis=1).any() for sides in sides_of(found))


def test_the_threshold_keeps_the_best(tmp_path: Path) -> None:
    folder = save_checkpoint(dfine, tmp_path)
    every = detector(folder).detect(PICTURES)
    scores = sorted(found.score for each in every for found in each)
    middle = scores[len(scores) // 2]
    kept = detector(folder, threshold=middle).detect(PICTURES)
    assert [found.score for each in kept for found in each] == pytest.approx(
        [found.score for each in every for found in each if found.score > middle], abs=1e-4
    )


def test_a_box_that_repeats_a_better_one_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The boxes of a random detector hardly touch each other: these are given."""
    finder = detector(save_checkpoint(dfine, tmp_path))
    best, repeated, other = (9, 5, 50, 40), (9, 5, 50, 42), (9, 5, 30, 40)  # left, top, right, bottom
    flat, outside = (9, 5, 50, 6), (-5, 50, 20, 90)
    boxes = torch.tensor([repeated, best, other, flat, outside], dtype=torch.float32)
    scores = torch.tensor([0.5, 0.9, 0.4, 0.8, 0.3])
    given = {"scores": scores, "labels": torch.zeros(5, dtype=torch.int64), "boxes": boxes}
    monkeypatch.setattr(finder.processor, "post_process_object_detection", lambda *_, **__: [given])
    [found] = finder.detect([PICTURES[0]])  # 80 high, 60 wide
    assert [detection.score for detection in found] == pytest.approx([0.9, 0.4, 0.3])
    assert sides_of(found).tolist() == [[5, 9, 40, 50], [5, 9, 40, 30], [50, 0, 80, 20]]


def test_overlap_is_the_shared_area_over_the_union() -> None:
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert overlap((0, 0, 2, 2), (2, 0, 4, 2)) == overlap((0, 0, 2, 2), (5, 5, 6, 6)) == 0


def test_no_pictures_give_no_boxes(tmp_path: Path) -> None:
    assert detector(save_checkpoint(dfine, tmp_path)).detect([]) == []


def refusal(folder: str | Path, labels: tuple[str, ...] = ()) -> str:
    with pytest.raises(CheckpointError) as error:
        Detector("detector", str(folder), labels, 0.3, Hardware(), local_files_only=True)
    message = str(error.value)
    assert message.startswith(f"detector is {str(folder)!r}: ")
    assert message.endswith(REMEDY)
    return message


def test_labels_go_with_detectors_that_look_for_them(tmp_path: Path) -> None:
    own, shop = save_checkpoint(dfine, tmp_path / "own"), save_checkpoint(owlv2, tmp_path / "shop")
    assert "a model of type d_fine has labels of its own; leave labels empty" in refusal(own, LABELS)
    assert "a model of type owlv2 finds what labels names; labels is empty" in refusal(shop)


def test_too_many_labels_are_refused(tmp_path: Path) -> None:
    many = tuple(f"red {'blue ' * count}shirt" for count in range(10))
    folder = save_checkpoint(grounding_dino, tmp_path)
    assert "tokens, and the model reads 32: name fewer labels" in refusal(folder, many)


def test_a_model_that_detects_nothing_is_refused(tmp_path: Path) -> None:
    assert "a model of type clip detects no objects" in refusal(save_checkpoint(clip, tmp_path))


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(dfine, tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "enc_score_head" in name)
    save_file({key: value for key, value in weights.items() if key != name}, folder / "model.safetensors")
    assert f"(weights: 1 are missing, such as {name})" in refusal(folder)


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    assert f"there is no folder {tmp_path / 'absent'}" in refusal(tmp_path / "absent")
