"""A checkpoint that an option names (``start_from``, ``text_model``): found, loaded and tried, or refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from multimodal_recall.config.loader import folder_or_name, in_project
from multimodal_recall.models.language_model import load, most_tokens

LONGEST = 512  # tokens of the trial query
FAULTS = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, ImportError, SafetensorError)
"""What transformers raises for files that are missing, damaged, or of a model that it or this project cannot run."""
REMEDY = (
    "Name a folder with config.json, model.safetensors and tokenizer.json, relative to the project, or a name of the "
    "hub, or null for a new model. Without a network: on another machine, `hf download NAME --local-dir FOLDER`; then "
    "copy the folder here and name it"
)


class CheckpointError(Exception):
    """An option names no checkpoint that a run can use."""


def asks_hub(name: str) -> bool:
    """Say whether a run would fetch the checkpoint: it is no folder, and not in the cache of this machine."""
    if in_project(name).is_dir() or HF_HUB_OFFLINE or not _is_hub_name(name):
        return False
    return try_to_load_from_cache(name, "config.json") is None


def _is_hub_name(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def load_checkpoint(
    option: str, name: str, trained: bool = False, local_files_only: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a checkpoint in float32, and let it read a query.

    Args:
        option: The option that names it, for messages.
        name: Folder, relative to the project, or name on the hub.
        trained: Whether the model is to be trained on, for which it gets a head that predicts masked words.

    Returns:
        The model and its tokenizer.

    Raises:
        CheckpointError: With the option and what to put there.
    """
    source = folder_or_name(name)
    with refusing(option, name, "config.json"):
        config = load(AutoConfig, source, local_files_only=local_files_only)
        _refuse_config(config, trained)
    with refusing(option, name, "tokenizer"):
        tokenizer = load(AutoTokenizer, source, local_files_only=local_files_only)
        _refuse_tokenizer(tokenizer, trained)
    with refusing(option, name, "weights"):
        kind = AutoModelForMaskedLM if trained else AutoModel
        model = _load_all_weights(kind, source, local_files_only=local_files_only)
    with refusing(option, name, "a trial query"):
        _try(model, tokenizer)
        tokenizer.backend_tokenizer.no_truncation()  # it would be saved with the tokenizer
    return model, tokenizer


@contextmanager
def refusing(option: str, name: str, part: str, remedy: str = REMEDY) -> Iterator[None]:
    """Turn an error of transformers into one sentence; the error itself stays the cause.

    Raises:
        CheckpointError: With the option, the part of the checkpoint that fails, what transformers said, and ``remedy``.
    """
    try:
        yield
    except FAULTS as error:
        folder, said = in_project(name), next(iter(str(error).strip().splitlines()), type(error).__name__)
        if folder.is_dir():
            fault = f"the checkpoint in {folder} cannot be used ({part}: {said})"
        elif _is_hub_name(name):
            fault = f"there is no folder {folder}, and the hub gives no such checkpoint ({part}: {said})"
        else:
            fault = f"there is no folder {folder}"
        raise CheckpointError(f"{option} is {name!r}: {fault}. {remedy}") from error


def _refuse_config(config: PreTrainedConfig, trained: bool) -> None:
    if getattr(config, "auto_map", None):
        raise ValueError("the model comes with code of its own, which this project does not run")
    if config.is_encoder_decoder or not hasattr(config, "num_hidden_layers"):
        raise ValueError(f"a model of type {config.model_type} is no text encoder")
    if trained and type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise ValueError(
            f"a model of type {config.model_type} predicts no masked words: set language_model.pretrain_epochs to 0"
        )


def _refuse_tokenizer(tokenizer: Any, trained: bool) -> None:
    if tokenizer.init_kwargs.get("auto_map"):
        raise ValueError("it comes with code of its own, which this project does not run")
    if not tokenizer.is_fast:
        raise ValueError("tokenizer.json is missing")
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes where the files are missing
        raise ValueError("it knows no words; tokenizer.json is missing")
    if trained and None in (tokenizer.mask_token, tokenizer.pad_token):
        raise ValueError("it has no mask or no padding: set language_model.pretrain_epochs to 0")


def _load_all_weights(kind: type, source: str, **options: Any) -> PreTrainedModel:
    model, missing = load_reporting(kind, source, **options)
    encoder = "" if kind is AutoModel else f"{model.base_model_prefix}."
    refuse_missing([name for name in missing if name.startswith(encoder) and "pooler" not in name])
    return model


def load_reporting(kind: type, source: str, **options: Any) -> tuple[PreTrainedModel, list[str]]:
    """Load a model in float32, and name the weights that the files lack: transformers draws them at random."""
    model, found = load(kind, source, output_loading_info=True, dtype=torch.float32, **options)
    return model, sorted(found["missing_keys"])


def refuse_missing(weights: list[str]) -> None:
    """Raise ``ValueError`` if there are names of missing weights."""
    if weights:
        raise ValueError(f"{len(weights)} are missing, such as {weights[0]}")


@torch.inference_mode()
def _try(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    longest = most_tokens(model, tokenizer, LONGEST)
    tokens = tokenizer("red shirt " * LONGEST, truncation=True, max_length=longest, return_tensors="pt")["input_ids"]
    known, size = model.get_input_embeddings().num_embeddings, model.config.hidden_size
    if len(tokenizer) > known:
        raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, the model {known}")
    states = model.base_model(tokens, output_hidden_states=True).hidden_states
    if states[-2].shape != (*tokens.shape, size):
        raise ValueError(f"the second-to-last layer gives {tuple(states[-2].shape)}, wanted {(*tokens.shape, size)}")
