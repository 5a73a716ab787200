"""What embedder and detector share: a vision checkpoint that an option names, loaded or refused."""

from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, PreTrainedConfig

from multimodal_recall.config.loader import folder_or_name
from multimodal_recall.models.language_model import load
from multimodal_recall.models.pretrained import refusing

REMEDY = (
    "Name a folder with config.json, model.safetensors and preprocessor_config.json, relative to the project, or a "
    "name of the hub, or null. Without a network: on another machine, `hf download NAME --local-dir FOLDER`; then copy "
    "the folder here and name it"
)


def load_config(option: str, name: str, local_files_only: bool) -> PreTrainedConfig:
    """Load the configuration of a checkpoint.

    Raises:
        CheckpointError: If there is none, or its model comes with code of its own.
    """
    with refusing(option, name, "config.json", REMEDY):
        config = load(AutoConfig, folder_or_name(name), local_files_only=local_files_only)
        if getattr(config, "auto_map", None):
            raise ValueError("the model comes with code of its own, which this project does not run")
    return config


def load_image_processor(option: str, name: str, local_files_only: bool) -> Any:
    """Load what turns pictures into a model's input, in the version that needs Pillow alone.

    Raises:
        CheckpointError: If the checkpoint has none, as text models have not.
    """
    with refusing(option, name, "preprocessor_config.json", REMEDY):
        return load(AutoImageProcessor, folder_or_name(name), backend="pil", local_files_only=local_files_only)


def trial_picture() -> Image.Image:
    """Draw a picture that a loaded model is tried on; of an even one, a network without biases sees nothing."""
    return Image.linear_gradient("L").convert("RGB")


def to_device(inputs: dict[str, Any], device: torch.device) -> dict[str, torch.Tensor]:
    """Move the tensors of a processor's output."""
    return {name: value.to(device) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
