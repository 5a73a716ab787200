"""A feature for each crop of a photo, by a vision model of transformers."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from more_itertools import chunked
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from multimodal_recall.config.loader import folder_or_name
from multimodal_recall.data.text import normal_form
from multimodal_recall.models.language_model import load
from multimodal_recall.models.pretrained import load_reporting, refuse_missing, refusing
from multimodal_recall.models.vision.checkpoint import (
    REMEDY,
    load_config,
    load_image_processor,
    to_device,
    trial_picture,
)
from multimodal_recall.runtime.allocator import give_back_freed_memory
from multimodal_recall.runtime.device import Hardware


class Descriptor(Protocol):
    """Turns crops into features: an ``Embedder``, the ``WeakDescriptor``, or both."""

    width: int
    """Numbers of a feature."""

    def embed(self, crops: Iterable[Image.Image], batch_size: int) -> np.ndarray:
        """Describe pictures in mode RGB, (crops, width) float32, each of length 1."""


class Embedder:
    """A vision model by folder or hub name, and its text tower where it has one.

    Models that were trained to match pictures and texts (SigLIP2, CLIP) give their image features. Other models give
    their pooled output, or the state of their first token where the checkpoint has no weights for the pooling. All
    vectors have length 1: the models differ a hundredfold in length, and cosines ignore it.
    """

    def __init__(self, option: str, name: str, hardware: Hardware, local_files_only: bool = False) -> None:
        """Load the checkpoint and let it see a picture.

        Args:
            option: The option that names it, for messages.
            name: Folder, relative to the project, or name on the hub.
            hardware: Device, and precision of matrix products; weights stay float32.
            local_files_only: Whether the hub is not asked.

        Raises:
            CheckpointError: With the option and what to put there.
        """
        self.name, self.option, self.hardware = name, option, hardware
        self.local_files_only = local_files_only
        load_config(option, name, local_files_only)
        self.processor = load_image_processor(option, name, local_files_only)
        if getattr(self.processor, "do_center_crop", False):  # it would cut off what stands at a crop's sides
            self.processor.do_center_crop, self.processor.size = False, self.processor.crop_size
        with refusing(option, name, "weights", REMEDY):
            model, missing = load_reporting(AutoModel, folder_or_name(name), local_files_only=local_files_only)
            refuse_missing([weight for weight in missing if "pooler" not in weight])
            # On a CPU, MobileNetV2 computes 1.5 times as many pictures a second with channels last; ViTs as many.
            self.model = model.to(hardware.device, memory_format=torch.channels_last).eval()
            self.pools = not missing
            self.reads_text = hasattr(model, "get_image_features") and hasattr(model, "get_text_features")
            if not self.reads_text and model.main_input_name != "pixel_values":
                raise ValueError(f"a model of type {model.config.model_type} sees no pictures")
        with refusing(option, name, "a trial picture", REMEDY):
            vector = self.embed([trial_picture()], 1)
            self.width = vector.shape[1]
            if not np.isclose(np.linalg.norm(vector), 1, atol=1e-3):  # also of weights that hold a NaN
                raise ValueError("its feature holds no numbers, or zeros alone")

    def facts(self) -> str:
        """Say what the features are."""
        return f"{type(self.model).__name__}: features of {self.width} numbers" + ", and texts" * self.reads_text

    def embed(self, crops: Iterable[Image.Image], batch_size: int) -> np.ndarray:
        """Describe pictures in mode RGB, (crops, width) float32, each of length 1; a batch is held at a time."""
        batches = []
        for batch in chunked(crops, batch_size):
            batches.append(self._embed(batch))
            give_back_freed_memory(2**30)  # photos of many sizes break up the heap: it grew to 2.9 GB on 8,000
        return np.concatenate(batches) if batches else np.empty((0, self.width), np.float32)

    def embed_text(self, texts: Sequence[str], batch_size: int) -> np.ndarray:
        """Encode texts, (texts, width) float32, each of length 1: a product with image features is their cosine.

        Raises:
            CheckpointError: If the checkpoint has no tokenizer.
            TypeError: Unless ``reads_text``.
        """
        if not self.reads_text:
            raise TypeError(f"{self.name} has no text tower; ask reads_text first")
        with refusing(self.option, self.name, "tokenizer", REMEDY):
            tokenizer = load(AutoTokenizer, folder_or_name(self.name), local_files_only=self.local_files_only)
        longest = self.model.config.text_config.max_position_embeddings
        # SigLIP and SigLIP2 were trained on lower-case texts that are padded to the end, and read others worse.
        texts = [normal_form(text).lower() for text in texts]
        padding = {"padding": "max_length", "truncation": True, "max_length": longest, "return_tensors": "pt"}
        batches = [self._read(tokenizer(batch, **padding)) for batch in chunked(texts, batch_size)]
        return np.concatenate(batches) if batches else np.empty((0, self.width), np.float32)

    @torch.inference_mode()
    def _embed(self, crops: list[Image.Image]) -> np.ndarray:
        inputs = self.processor(images=list(map(on_square, crops)), return_tensors="pt")
        with self.hardware.autocast():
            return _unit(self._pooled(to_device(inputs, self.model.device)))

    def _pooled(self, inputs: dict[str, Tensor]) -> Tensor:
        """Give a vector for each picture, (n, width) or (n, width, 1, 1)."""
        if self.reads_text:
            return self.model.get_image_features(**inputs).pooler_output
        output = self.model(**inputs)
        return output.pooler_output if self.pools else output.last_hidden_state[:, 0]

    @torch.inference_mode()
    def _read(self, tokens: dict[str, Tensor]) -> np.ndarray:
        with self.hardware.autocast():
            return _unit(self.model.get_text_features(**to_device(tokens, self.model.device)).pooler_output)


def on_square(crop: Image.Image) -> Image.Image:
    """Set a crop into the middle of a white square: models read squares, and would squeeze it or cut off its ends."""
    side = max(crop.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(crop, ((side - crop.width) // 2, (side - crop.height) // 2))
    return square


def _unit(vectors: Tensor) -> np.ndarray:
    return functional.normalize(vectors.flatten(1).float(), dim=1).cpu().numpy()
