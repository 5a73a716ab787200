"""The language model's further training: guess masked words of the queries."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from more_itertools import chunked
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BatchEncoding,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from multimodal_recall.config.options import LanguageModelOptions
from multimodal_recall.models.language_model import load, new_albert, train_tokenizer
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.training.checkpoint import Checkpoint
from multimodal_recall.training.loop import Progress, Recipe, Trainer
from multimodal_recall.training.objective import Objective

logger = logging.getLogger(__name__)


QUERIES_PER_CHUNK = 100_000
"""Queries between two checkpoints of the masked-word training."""


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
