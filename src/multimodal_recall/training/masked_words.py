"""Train the language model on the queries with the masked-word loss."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from more_itertools import chunked
from torch import Tensor
from torch.nn import functional
from transformers import (
    BatchEncoding,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from multimodal_recall.config.options import LanguageModelOptions
from multimodal_recall.models.language_model import most_tokens, new_albert, train_tokenizer
from multimodal_recall.models.pretrained import load_checkpoint
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.runtime.progress import TrainingBar
from multimodal_recall.training.checkpoint import Checkpoint
from multimodal_recall.training.loop import Recipe, Trainer
from multimodal_recall.training.objective import Objective

logger = logging.getLogger(__name__)

QUERIES_PER_CHUNK = 100_000  # queries between two checkpoints
LONGEST = 64  # tokens of a query in training


def prepare(
    queries: list[str],
    options: LanguageModelOptions,
    seed: int,
    hardware: Hardware,
    checkpoint: Checkpoint,
    progress: TrainingBar,
    fingerprint: str,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load or build the language model, and train it on the queries.

    Args:
        queries: Distinct training queries in their normal form.
        options: The model that the training starts from, and the training.
        seed: Seed of the weights, the masks and the order.
        fingerprint: Digest of queries, options, seed and code; see ``Trainer``.

    Returns:
        The model and its tokenizer, ready for ``save_pretrained``.

    Raises:
        CheckpointError: See ``load_checkpoint``.
    """
    torch.manual_seed(seed)
    if options.start_from is None:
        tokenizer = train_tokenizer(queries, options.vocabulary_size, options.strip_accents)
        model = new_albert(options, tokenizer)
    else:
        model, tokenizer = load_checkpoint("language_model.start_from", options.start_from, options.epochs > 0)
    logger.info("language model: %s", _plan(options))
    if options.epochs:
        chunks = {f"queries_{place:03d}": part for place, part in enumerate(chunked(queries, QUERIES_PER_CHUNK))}
        longest = most_tokens(model, tokenizer, LONGEST)
        weights, _ = Trainer(
            objective=MaskedWords(model),
            recipe=Recipe(options.epochs, options.peak_rate, seed),
            hardware=hardware,
            chunks=list(chunks),
            load_chunk=lambda name, _: MaskedQueries.of(chunks[name], tokenizer, options.batch_size, longest),
            checkpoint=checkpoint,
            fingerprint=fingerprint,
            progress=progress,
        ).fit()
        model.load_state_dict(weights)
    # The training cuts queries, which would be saved with the tokenizer, but not if the training resumes from its last
    # checkpoint.
    tokenizer.backend_tokenizer.no_truncation()
    return model.cpu(), tokenizer


def _plan(options: LanguageModelOptions) -> str:
    """Say what is done to which model."""
    model = "a new ALBERT" if options.start_from is None else options.start_from
    if not options.epochs:
        return f"{model} is taken as it is"
    return f"{model} is trained on the queries, {options.epochs} epochs at a peak rate of {options.peak_rate:g}"


class MaskedWords(Objective):
    """The masked-word loss (Devlin et al. 2019): predict 15 % of the tokens, most of which are masked."""

    unit = "queries"
    model: PreTrainedModel

    def forward(self, batch: BatchEncoding) -> Tensor:
        """Compute a loss for each query (queries,); the mean of all is the mean over the batch's masked tokens."""
        labels, logits = batch["labels"], self.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        # A token that is not to be predicted has the label -100, whose loss is 0.
        losses = functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
        predicted = (labels >= 0).sum().clamp(min=1)
        return losses.unflatten(0, labels.shape).sum(dim=1) * (len(labels) / predicted)


@dataclass(frozen=True)
class MaskedQueries:
    """A ``TrainingChunk`` of queries, masked anew in each batch."""

    token_ids: list[list[int]]
    collate: DataCollatorForLanguageModeling
    batch_size: int

    @classmethod
    def of(
        cls, queries: Sequence[str], tokenizer: PreTrainedTokenizerFast, batch_size: int, longest: int
    ) -> "MaskedQueries":
        """Tokenise the queries, and cut them to ``longest`` tokens."""
        encoded = tokenizer(list(queries), truncation=True, max_length=longest, return_attention_mask=False)
        return cls(encoded["input_ids"], DataCollatorForLanguageModeling(tokenizer), batch_size)

    @property
    def examples(self) -> int:
        """Count the queries."""
        return len(self.token_ids)

    def batches(self, random: np.random.Generator) -> list[np.ndarray]:
        """Shuffle the queries and cut them into batches (queries,)."""
        # A copy of torch's stream, which the loop has seeded: a thread may make batches while dropout draws from it.
        self.collate.generator = torch.Generator()
        self.collate.generator.set_state(torch.get_rng_state())
        order = random.permutation(self.examples)
        return np.array_split(order, -(-self.examples // self.batch_size))

    def batch(self, rows: np.ndarray) -> BatchEncoding:
        """Pad some queries to the longest query's length, and mask tokens."""
        return self.collate([{"input_ids": self.token_ids[row]} for row in rows])
