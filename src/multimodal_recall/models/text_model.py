"""The text model that a ranker starts from, tried on a ranker without memory before any node runs."""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.models.language_model import cut_to
from multimodal_recall.models.pretrained import CheckpointError
from multimodal_recall.models.ranker import InputSizes, build_ranker


def try_text_model(
    option: str, options: RankerOptions, text_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Let a ranker of these options take the text model's weights; the text model loses them.

    Args:
        option: The option that names the text model, for the message.
        options: Of the ranker; the sizes that the data decides do not matter.
        text_model: In the hands of nobody else.
        tokenizer: The text model's.

    Raises:
        CheckpointError: If kind or sizes do not fit, with the options to set.
    """
    tokens = cut_to(tokenizer, options.model.max_tokens).get_vocab_size()
    try:
        with torch.device("meta"):
            build_ranker(options, InputSizes(1, 1, 1, 1, 1, tokens)).start_from_text_model(text_model.to("meta"))
    except ValueError as error:
        raise CheckpointError(f"{option} is {options.model.text_model!r}: {error}") from error
