"""The language model behind the query vectors: made, pre-trained, and read out."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from multimodal_recall.config.options import LanguageModelOptions
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.runtime.processes import ONE_AT_A_TIME

logger = logging.getLogger(__name__)

# Its reports of unused masked-word heads and its own progress bars drown ours.
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def train_tokenizer(queries: list[str], vocabulary_size: int, strip_accents: bool = False) -> PreTrainedTokenizerFast:
    """Learn lower-case sub-words from the queries; a query is read as ``[CLS] ... [SEP]``.

    Byte-pair encoding and not WordPiece, whose training numbers its pieces in a random order.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.BertNormalizer(lowercase=True, strip_accents=strip_accents)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=list(SPECIAL_TOKENS.values()), show_progress=False
    )
    tokenizer.train_from_iterator(queries, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def new_albert(options: LanguageModelOptions, tokenizer: PreTrainedTokenizerFast) -> AlbertForMaskedLM:
    """Build an untrained ALBERT of the options' sizes; the caller has set torch's seed."""
    return AlbertForMaskedLM(
        AlbertConfig(
            vocab_size=len(tokenizer),
            embedding_size=options.hidden_size,
            hidden_size=options.hidden_size,
            num_hidden_layers=options.layers,
            num_attention_heads=options.heads,
            intermediate_size=4 * options.hidden_size,
            max_position_embeddings=128,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
    )


def load_tokenizer(source: str, max_tokens: int) -> Tokenizer:
    """The fast tokenizer of a folder or hub name, without padding, cut to so many tokens, special ones included."""
    tokenizer = AutoTokenizer.from_pretrained(source).backend_tokenizer
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def load_text_model(source: str) -> PreTrainedModel:
    """The weights of a folder or hub name, without a head."""
    return load(AutoModel, source)


def load(kind: type, source: str | Path, **options: Any) -> PreTrainedModel:
    """``kind.from_pretrained``, one at a time.

    While it loads, transformers puts empty functions in the place of its own, for all threads. Of two threads, one may
    keep them for good: the next model's tied weights are then never made (seen after a ``ThreadRunner`` run).
    """
    with ONE_AT_A_TIME:
        return kind.from_pretrained(source, **options)


class QueryVectors:
    """Reads a query's vector out of a language model: its second-to-last hidden layer, averaged over its tokens.

    Only the layers up to that one are built, so the last is never run. Queries of one length make a batch, so there
    is no padding and no mask. Weights and states have the hardware's precision; the mean over tokens is float32.
    """

    def __init__(self, folder: Path, max_tokens: int, tokens_per_batch: int, hardware: Hardware) -> None:
        """Load a transformers folder.

        Args:
            folder: What ``save_pretrained`` wrote.
            max_tokens: Longer queries are cut to so many tokens, special ones included, or to what the model can read.
            tokens_per_batch: Tokens that one batch holds, more or less; a longer query is a batch of its own.
            hardware: Where the model computes, and in which precision.
        """
        config = AutoConfig.from_pretrained(folder)
        self.device = torch.device(hardware.device)
        self.model = (
            load(
                AutoModel,
                folder,
                num_hidden_layers=config.num_hidden_layers - 1,
                add_pooling_layer=False,
                dtype=hardware.dtype,
            )
            .to(self.device)
            .eval()
        )
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.max_tokens = min(max_tokens, config.max_position_embeddings)
        self.tokens_per_batch = tokens_per_batch

    @torch.inference_mode()
    def __call__(self, queries: list[str], tell: Callable[[int], None] = lambda _: None) -> np.ndarray:
        """Give the vectors (queries, hidden size) of distinct queries as float16.

        Args:
            queries: The texts.
            tell: Is told how many queries a batch was.
        """
        vectors = np.empty((len(queries), self.model.config.hidden_size), np.float16)
        for rows, tokens in self._batches(queries):
            hidden = self.model(torch.from_numpy(tokens).to(self.device)).last_hidden_state  # (batch, length, H)
            vectors[rows] = hidden.float().mean(dim=1).half().cpu().numpy()
            tell(len(rows))
        return vectors

    def _batches(self, queries: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        encoded = self.tokenizer(queries, truncation=True, max_length=self.max_tokens, return_attention_mask=False)[
            "input_ids"
        ]
        lengths = np.array([len(ids) for ids in encoded], np.int64)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            batches = min(len(rows), -(-len(rows) * length // self.tokens_per_batch))
            for part in np.array_split(rows, batches):
                yield part, np.array([encoded[row] for row in part], np.int64)
