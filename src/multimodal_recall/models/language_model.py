"""The language model behind the query vectors: made, pre-trained, and read out."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from more_itertools import chunked
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BatchEncoding,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from multimodal_recall.models.training import Checkpoint, Objective, Progress, Recipe, Trainer
from multimodal_recall.options import LanguageModelOptions
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.runtime.processes import ONE_AT_A_TIME

logger = logging.getLogger(__name__)

# Its reports of unused masked-word heads and its own progress bars drown ours.
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

QUERIES_PER_CHUNK = 100_000
"""Queries between two checkpoints of the masked-word training."""
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


def prepare(
    queries: list[str],
    options: LanguageModelOptions,
    seed: int,
    hardware: Hardware,
    checkpoint: Checkpoint,
    progress: Progress,
    fingerprint: str,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Fetch or make the language model, and train it on the queries with the masked-word loss.

    Args:
        queries: Distinct training queries.
        options: Where to start and how long to train.
        seed: Seed of the weights, the masks and the order.
        hardware: What the training computes with.
        checkpoint: Where the state of the training is kept.
        progress: Shows how far the training is.
        fingerprint: Stands for queries, options, seed and code; see ``Trainer``.

    Returns:
        The model and its tokenizer, ready for ``save_pretrained``.
    """
    torch.manual_seed(seed)
    if options.start_from is None:
        tokenizer = train_tokenizer(queries, options.vocabulary_size, options.strip_accents)
        model = new_albert(options, tokenizer)
    else:
        tokenizer = AutoTokenizer.from_pretrained(options.start_from)
        model = load(AutoModelForMaskedLM, options.start_from)
    if options.pretrain_epochs:
        parts = {f"queries_{place:03d}": part for place, part in enumerate(chunked(queries, QUERIES_PER_CHUNK))}
        weights, log = Trainer(
            model=model,
            objective=MaskedWords(model),
            recipe=Recipe(options.pretrain_epochs, options.learning_rate),
            hardware=hardware,
            seed=seed,
            chunks=list(parts),
            load_chunk=lambda name, _: MaskedQueries.of(parts[name], tokenizer, options.batch_size),
            checkpoint=checkpoint,
            fingerprint=fingerprint,
            progress=progress,
        ).fit()
        model.load_state_dict(weights)
        logger.info("language model: masked-word loss by epoch %s", ", ".join(f"{row.loss:.2f}" for row in log))
    return model.cpu(), tokenizer


class MaskedWords(Objective):
    """The masked-word loss (Devlin et al. 2019): guess 15 % of the tokens, most of which are masked."""

    unit = "queries"

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: BatchEncoding) -> Tensor:
        """The loss of each query (queries,); their mean is the mean over the batch's masked tokens."""
        labels, logits = batch["labels"], self.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        # labels are -100, of which the loss is 0, where nothing is to be guessed
        losses = functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
        guessed = (labels >= 0).sum().clamp(min=1)
        return losses.unflatten(0, labels.shape).sum(dim=1) * (len(labels) / guessed)


@dataclass(frozen=True)
class MaskedQueries:
    """Some queries, masked anew each time that they stand in a batch; a training ``Chunk``."""

    token_ids: list[list[int]]
    collate: DataCollatorForLanguageModeling
    batch_size: int

    @classmethod
    def of(cls, queries: Sequence[str], tokenizer: PreTrainedTokenizerFast, batch_size: int) -> "MaskedQueries":
        """Cut the queries into tokens."""
        encoded = tokenizer(list(queries), truncation=True, max_length=64, return_attention_mask=False)
        return cls(encoded["input_ids"], DataCollatorForLanguageModeling(tokenizer), batch_size)

    @property
    def examples(self) -> int:
        """Queries."""
        return len(self.token_ids)

    def batches(self, random: np.random.Generator) -> list[np.ndarray]:
        """Rows (queries,) of each batch, in a random order."""
        order = random.permutation(self.examples)
        return np.array_split(order, -(-self.examples // self.batch_size))

    def batch(self, rows: np.ndarray) -> BatchEncoding:
        """Pad some queries to one length, and mask tokens by torch's stream of random numbers."""
        return self.collate([{"input_ids": self.token_ids[row]} for row in rows])


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
