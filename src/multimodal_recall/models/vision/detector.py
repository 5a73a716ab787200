"""Boxes of the objects on a photo, by a detector of transformers."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING,
    AutoModelForObjectDetection,
    AutoModelForZeroShotObjectDetection,
    AutoTokenizer,
    PreTrainedConfig,
)

from multimodal_recall.config.loader import folder_or_name
from multimodal_recall.data.boxes import Sides
from multimodal_recall.models.language_model import load
from multimodal_recall.models.pretrained import load_reporting, refuse_missing, refusing
from multimodal_recall.models.vision.checkpoint import (
    REMEDY,
    load_config,
    load_image_processor,
    to_device,
    trial_picture,
)
from multimodal_recall.runtime.device import Hardware

SMALLEST = 2
"""Pixels of a box's shorter side at least."""
SAME = 0.8
"""Overlap from which on two boxes are one object: detectors without non-maximum suppression give several labels to a
box, and OWLv2 gives several boxes to an object."""


class Detection(NamedTuple):
    """An object that was found."""

    sides: Sides  # pixels, inside the photo
    label: str
    score: float


class Detector:
    """A detector by folder or hub name: D-FINE, RT-DETR and their kin, or OWLv2 and Grounding DINO for given labels.

    It computes in float32: steps of bfloat16 are four pixels wide at the side of a photo of 1,000 pixels.
    """

    def __init__(
        self,
        option: str,
        name: str,
        labels: Sequence[str],
        threshold: float,
        hardware: Hardware,
        local_files_only: bool = False,
    ) -> None:
        """Load the checkpoint and let it see a picture.

        Args:
            option: The option that names it, for messages.
            name: Folder, relative to the project, or name on the hub.
            labels: What OWLv2 or Grounding DINO looks for; empty for other detectors, which have labels of their own.
            threshold: Lowest score of a box that is kept.
            hardware: Device.
            local_files_only: Whether the hub is not asked.

        Raises:
            CheckpointError: With the option and what to put there.
        """
        self.name, self.threshold = name, threshold
        config = load_config(option, name, local_files_only)
        with refusing(option, name, "config.json", REMEDY):
            kind = _kind(config, labels)
        self.processor = load_image_processor(option, name, local_files_only)
        with refusing(option, name, "weights", REMEDY):
            model, missing = load_reporting(kind, folder_or_name(name), local_files_only=local_files_only)
            refuse_missing(missing)
            self.model = model.to(hardware.device).eval()
        self.tokens, self.labels = dict[str, Tensor](), config.id2label
        if labels:
            with refusing(option, name, "tokenizer", REMEDY):
                tokenizer = load(AutoTokenizer, folder_or_name(name), local_files_only=local_files_only)
                self.tokens, self.labels = _read_labels(config, tokenizer, labels)
        with refusing(option, name, "a trial picture", REMEDY):
            self.detect([trial_picture()])

    def facts(self) -> str:
        """Say what is found."""
        return f"{type(self.model).__name__}: {len({*self.labels.values()})} labels"

    def detect(self, photos: Sequence[Image.Image]) -> list[list[Detection]]:
        """Find the objects on pictures in mode RGB, best score first.

        Pictures are batched where the model reads them at the same size: padding would change what it finds.
        """
        inputs = [to_device(self.processor(images=[photo], return_tensors="pt"), self.model.device) for photo in photos]
        found: list[list[Detection]] = []
        for _, group in groupby(inputs, key=lambda tensors: tensors["pixel_values"].shape):
            batch = list(group)
            joined = {name: torch.cat([tensors[name] for tensors in batch]) for name in batch[0]}
            found += self._detect(joined, photos[len(found) : len(found) + len(batch)])
        return found

    @torch.inference_mode()
    def _detect(self, inputs: dict[str, Tensor], photos: Sequence[Image.Image]) -> list[list[Detection]]:
        texts = {name: rows.repeat(len(photos), 1) for name, rows in self.tokens.items()}
        output = self.model(**inputs, **to_device(texts, self.model.device))
        output = SimpleNamespace(logits=output.logits.cpu(), pred_boxes=output.pred_boxes.cpu())
        sizes = [(photo.height, photo.width) for photo in photos]
        results = self.processor.post_process_object_detection(output, threshold=self.threshold, target_sizes=sizes)
        return [list(self._kept(result, *size)) for result, size in zip(results, sizes, strict=True)]

    def _kept(self, result: dict[str, Tensor], height: int, width: int) -> Iterator[Detection]:
        """Yield a photo's detections without those that repeat a better one, and those too small to be seen."""
        kept: list[Sides] = []
        for place in result["scores"].argsort(descending=True, stable=True).tolist():
            name = self.labels.get(int(result["labels"][place]))
            left, top, right, bottom = result["boxes"][place].tolist()
            sides = max(0.0, top), max(0.0, left), min(float(height), bottom), min(float(width), right)
            large = min(sides[2] - sides[0], sides[3] - sides[1]) >= SMALLEST
            if name is not None and large and all(overlap(sides, other) < SAME for other in kept):
                kept.append(sides)
                yield Detection(sides, name, float(result["scores"][place]))


def overlap(box: Sides, other: Sides) -> float:
    """Give the intersection of two boxes over their union, 0 to 1."""
    height = min(box[2], other[2]) - max(box[0], other[0])
    width = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(height, 0) * max(width, 0)
    areas = [(sides[2] - sides[0]) * (sides[3] - sides[1]) for sides in (box, other)]
    return shared / (sum(areas) - shared)


def _kind(config: PreTrainedConfig, labels: Sequence[str]) -> type:
    """Choose the class that detects with a model.

    Raises:
        ValueError: If the model detects nothing, or the labels do not suit it.
    """
    if type(config) in MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING:
        if not labels:
            raise ValueError(f"a model of type {config.model_type} finds what labels names; labels is empty")
        return AutoModelForZeroShotObjectDetection
    if type(config) not in MODEL_FOR_OBJECT_DETECTION_MAPPING:
        raise ValueError(f"a model of type {config.model_type} detects no objects")
    if labels:
        raise ValueError(f"a model of type {config.model_type} has labels of its own; leave labels empty")
    return AutoModelForObjectDetection


def _read_labels(
    config: PreTrainedConfig, tokenizer: Any, labels: Sequence[str]
) -> tuple[dict[str, Tensor], dict[int, str]]:
    """Turn labels into the tokens of a zero-shot detector.

    Returns:
        The tokens by name, and the label of each number that the detector gives to a box: for OWLv2 the number of a
        text, for Grounding DINO the place of a token in the one text of all labels. Other tokens have no label.

    Raises:
        ValueError: If the labels have more tokens than the model reads.
    """
    if not hasattr(config, "max_text_len"):
        longest = config.text_config.max_position_embeddings
        padding = {"padding": "max_length", "truncation": True, "max_length": longest, "return_tensors": "pt"}
        return dict(tokenizer(list(labels), **padding)), dict(enumerate(labels))
    text = "".join(f"{label.lower()}. " for label in labels).rstrip()
    tokens = tokenizer(text, return_tensors="pt")
    length = tokens["input_ids"].shape[1]
    if length > config.max_text_len:
        raise ValueError(f"labels has {length} tokens, and the model reads {config.max_text_len}: name fewer labels")
    places, start = dict[int, str](), 0
    for label in labels:
        found = {tokens.char_to_token(place) for place in range(start, start + len(label))}
        places |= dict.fromkeys(found - {None}, label)
        start += len(label) + 2
    return dict(tokens), places
