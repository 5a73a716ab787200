"""Train a ranker on the tables of its chunks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.examples import Tokens, read_chunk
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.evaluation.metrics import ndcg_at_5
from multimodal_recall.evaluation.scoring import ScoredChunk, read_chunks, score_chunks
from multimodal_recall.models.language_model import cut_to, load_tokenizer
from multimodal_recall.models.pretrained import load_checkpoint
from multimodal_recall.models.ranker import InputSizes, Ranker, build_ranker
from multimodal_recall.models.saved import TrainedRanker
from multimodal_recall.negatives.mixing import read_samples
from multimodal_recall.runtime.allocator import keep_freed_memory
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.runtime.processes import rank
from multimodal_recall.runtime.progress import training_progress
from multimodal_recall.training.batching import TrainingPairs, stream
from multimodal_recall.training.checkpoint import Checkpoint, EpochLog
from multimodal_recall.training.dropping import drop
from multimodal_recall.training.loop import Recipe, Trainer
from multimodal_recall.training.objective import RankerObjective


@dataclass(frozen=True)
class RankerTraining:
    """Everything that decides a trained ranker; each of several processes gets a copy."""

    options: RankerOptions  # the ranker and its training, with a seed
    train: dict[str, ChunkTables]  # lazy tables of each training chunk
    valid: dict[str, ChunkTables]  # lazy tables of each valid chunk
    valid_answers: dict[int, list[int]]  # right product ids of each valid query
    word_vectors: np.ndarray  # (words, size) float32
    label_vectors: np.ndarray  # (labels, size) float32
    tokenizer: str | None  # folder or hub name of the ranker's tokenizer; `None` if the ranker reads no tokens
    hardware: Hardware  # device, precision and threads of each process
    checkpoint: Checkpoint
    fingerprint: str  # digest of data, options and code; see `Trainer`
    start: Mapping[str, Tensor] = field(default_factory=dict)  # weights that the training starts from, or none

    def fit(self) -> tuple[TrainedRanker, list[EpochLog]]:
        """Train in this process, alone or together with other processes.

        Returns:
            The ranker with its best weights and an empty card, and the log.
        """
        if not rank():
            import kedro.framework.project  # noqa: F401  (sets up the log in the first of several new processes)

        self.hardware.set_threads()
        if self.hardware.device == "cpu":
            keep_freed_memory()
        ranker, sizes = self._untrained(read_chunk(next(iter(self.valid.values()))))
        # valid is read once: its box features stay in memory, 4 kB a box of 2048 numbers.
        valid = list(read_chunks(self.valid, ranker.reading))
        with training_progress() as progress:
            weights, log = Trainer(
                objective=RankerObjective(ranker, self.options),
                recipe=Recipe.of(self.options),
                hardware=self.hardware,
                chunks=list(self.train),
                load_chunk=ChunkLoader(self.train, ranker, self.options),
                checkpoint=self.checkpoint,
                fingerprint=self.fingerprint,
                progress=progress,
                measure=lambda: valid_ndcg(ranker, valid, self.valid_answers),
            ).fit()
        tokenizer = ranker.reading.tokenizer
        return TrainedRanker(self.options, sizes, weights, {}, None if tokenizer is None else tokenizer.to_str()), log

    def _untrained(self, chunk: ChunkArrays) -> tuple[Ranker, InputSizes]:
        """Build a ranker for the widths of a chunk's arrays, with the weights that the training starts from."""
        text_model, tokenizer = self._text_model()
        widths = chunk.query_vectors.shape[1], chunk.features.shape[1]
        tokens = 0 if tokenizer is None else tokenizer.get_vocab_size()
        sizes = InputSizes(*widths, *self.word_vectors.shape, len(self.label_vectors), tokens)
        torch.manual_seed(self.options.seed)  # for the new weights; the training loop seeds each chunk's stream
        ranker = build_ranker(self.options, sizes, tokenizer)
        ranker.start(self.word_vectors, self.label_vectors)
        if text_model is not None:
            ranker.start_from_text_model(text_model)
        if self.start:
            ranker.start_from(self.start)
        return ranker, sizes

    def _text_model(self) -> tuple[PreTrainedModel | None, Tokenizer | None]:
        """Load what the ranker takes from elsewhere: a text model with its tokenizer, a tokenizer alone, or nothing."""
        model = self.options.model
        if self.tokenizer is None:
            return None, None
        if model.text_model is None:
            return None, load_tokenizer(self.tokenizer, model.max_tokens)
        text_model, tokenizer = load_checkpoint("model.text_model", self.tokenizer)
        return text_model, cut_to(tokenizer, model.max_tokens)


def valid_ndcg(ranker: Ranker, chunks: Iterable[ScoredChunk], answers: dict[int, list[int]]) -> float:
    """Measure nDCG@5 on valid; ``answers`` names the right product ids of each query."""
    return float(ndcg_at_5(score_chunks(ranker, chunks).to_pandas(), answers)["ndcg_at_5"].mean())


class ChunkLoader:
    """Reads training chunks, and tokenises each chunk's queries once."""

    def __init__(self, examples: dict[str, ChunkTables], ranker: Ranker, options: RankerOptions) -> None:
        self.examples, self.reading, self.options = examples, ranker.reading, options
        tokenizer = ranker.reading.tokenizer
        self.specials = [] if tokenizer is None else tokenizer.encode("").ids  # such as [CLS] and [SEP]
        self.tokens: dict[str, Tokens] = {}

    def __call__(self, name: str, epoch: int) -> TrainingPairs:
        """Read a chunk's arrays and an epoch's pairs."""
        random = stream(self.options.seed, epoch, f"negatives of {name}")
        pairs = read_samples(self.examples[name], epoch, self.options, random)
        arrays = read_chunk(self.examples[name], self.reading, self.tokens.get(name))
        if arrays.token_ids is not None:
            self.tokens[name] = arrays.token_ids, arrays.token_counts
        random = stream(self.options.seed, epoch, f"boxes and words of {name}")
        return TrainingPairs(drop(arrays, self.options, self.specials, random), pairs, self.options)
