"""Train one ranker. torch is imported where it is used: it takes seconds."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.origins import QueryEncoding, digest_words
from multimodal_recall.data.schemas import TABLES, ChunkTables
from multimodal_recall.datasets.model_folders import CheckpointFile
from multimodal_recall.runs.code import digest_code
from multimodal_recall.runs.versions import fingerprint, git_commit, package_versions
from multimodal_recall.runtime.allocator import keep_freed_memory
from multimodal_recall.runtime.device import Hardware, use_hardware
from multimodal_recall.runtime.processes import rank, run_in_processes

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from multimodal_recall.data.batch import ChunkArrays
    from multimodal_recall.models.ranker import InputSizes, Ranker
    from multimodal_recall.models.saved import TrainedRanker
    from multimodal_recall.training.batching import TrainingPairs
    from multimodal_recall.training.loop import EpochLog

logger = logging.getLogger(__name__)


def train_ranker(
    train_examples: dict[str, ChunkTables],
    valid_examples: dict[str, ChunkTables],
    valid_answers: dict[int, list[int]],
    word_vectors: ds.Dataset,
    label_vectors: ds.Dataset,
    language_model: Path,
    checkpoint: CheckpointFile,
    options: RankerOptions,
    hardware: HardwareOptions,
    start: Any = None,
) -> dict[str, Any]:
    """Train a ranker on the examples of all chunks, and keep the epoch that is best on valid.

    A killed training goes on from its checkpoint, to the same weights, if data, options, seed, code and hardware
    (device, precision, threads) are the same.
    The last checkpoint stays: were it deleted here, a crash before the model is saved would cost the whole training.

    Args:
        train_examples: Lazy tables of each training chunk.
        valid_examples: Lazy tables of each valid chunk.
        valid_answers: Right products of each valid query.
        word_vectors: The words and their vectors.
        label_vectors: The labels and their vectors.
        language_model: A transformers folder, whose tokenizer is taken where the ranker reads tokens and names none.
        checkpoint: Where the state is kept after each chunk.
        options: The ranker and how it is trained.
        hardware: What the training computes with; several processes divide the threads.
        start: The ``TrainedRanker`` that ``options.start_from`` names, if it names one.

    Returns:
        ``model``, the trained ranker, and ``training_log``, one row an epoch.
    """
    chosen = use_hardware(hardware).divided(options.processes)
    encoding = _common_encoding(train_examples, valid_examples, word_vectors)
    words, labels = (np.stack(t.to_table()["vector"].to_numpy()) for t in (word_vectors, label_vectors))
    versions, text = _versions(train_examples), _text_of(options, language_model)
    code = digest_code(train_ranker, [options.model.kind])
    decided = [asdict(options), code, versions, _versions(valid_examples), sorted(valid_answers.items())]
    weights = {} if start is None else start.weights
    stands_for = fingerprint([*decided, text], words, labels, *(tensor.numpy() for tensor in weights.values()))
    ranker, log = run_in_processes(
        options.processes,
        fit,
        (train_examples, valid_examples),
        valid_answers,
        (words, labels),
        text,
        checkpoint,
        options,
        chosen,
        stands_for,
        weights,
    )
    best = max(log, key=lambda row: row.valid_ndcg_at_5)
    logger.info("kept epoch %d of %d, valid nDCG@5 %.4f", best.epoch + 1, len(log), best.valid_ndcg_at_5)
    card = {
        "seed": options.seed,
        "epoch": best.epoch,
        "valid_ndcg_at_5": best.valid_ndcg_at_5,
        "parameters": sum(parameter.numel() for parameter in ranker.build().parameters()),
        "inputs": versions,
        "query_features": asdict(encoding),
        "hardware": chosen.facts(),
        "packages": package_versions(),
        "git_commit": git_commit(),
    }
    table = pa.Table.from_pandas(
        pd.DataFrame([asdict(row) for row in log]), TABLES["training_log"], preserve_index=False
    )
    return {"model": replace(ranker, card=card), "training_log": table}


def _common_encoding(
    training: dict[str, ChunkTables], valid: dict[str, ChunkTables], word_vectors: ds.Dataset
) -> QueryEncoding:
    """The encoding of all queries, which must be one, with the words that the ranker gets."""
    encoding = QueryEncoding.of(next(iter(training.values()))["query_features"])
    of_ranker = replace(encoding, words=digest_words(word_vectors))
    of_ranker.check(training, "those of train's first chunk or the word vectors")
    encoding.check(valid, "those of train")
    return encoding


def _text_of(options: RankerOptions, language_model: Path) -> str | None:
    """Folder or hub name of the ranker's tokenizer; ``None`` where it reads no tokens."""
    if not hasattr(options.model, "max_tokens"):
        return None
    return options.model.text_model or str(language_model)


def fit(
    examples: tuple[dict[str, ChunkTables], dict[str, ChunkTables]],
    valid_answers: dict[int, list[int]],
    vectors: tuple[np.ndarray, np.ndarray],
    text: str | None,
    checkpoint: CheckpointFile,
    options: RankerOptions,
    hardware: Hardware,
    stands_for: str,
    start: "dict[str, Tensor]",
) -> "tuple[TrainedRanker, list[EpochLog]]":
    """Train in this process, which may be one of several.

    Args:
        examples: Lazy tables of the training and of the valid chunks.
        valid_answers: Right products of each valid query.
        vectors: Word vectors (words, 300) and label vectors (labels, 300).
        text: Where the ranker's tokenizer comes from; ``None`` where it reads no tokens.
        checkpoint: Where the state is kept.
        options: The ranker and how it is trained.
        hardware: What this process computes with.
        stands_for: The fingerprint, of for all that decides the weights.
        start: Weights of another ranker to start from; empty where there is none.

    Returns:
        The ranker with its best weights and an empty card, and the log.
    """
    from multimodal_recall.data.examples import read_chunk
    from multimodal_recall.models.saved import TrainedRanker
    from multimodal_recall.negatives.mixing import read_samples
    from multimodal_recall.runtime.progress import training_progress
    from multimodal_recall.training.batching import TrainingPairs, stream
    from multimodal_recall.training.loop import Recipe, Trainer
    from multimodal_recall.training.objective import RankerObjective

    if not rank():
        import kedro.framework.project  # noqa: F401  (sets up the log where this is a process of its own)

    hardware.set_threads()
    if hardware.device == "cpu":
        keep_freed_memory()
    training, valid = examples
    ranker, sizes, tokenizer = _untrained(options, read_chunk(next(iter(valid.values()))), vectors, text, start)

    def load_chunk(name: str, epoch: int) -> "TrainingPairs":
        random = stream(options.seed, epoch, f"negatives of {name}")
        pairs = read_samples(training[name], epoch, options, random)
        return TrainingPairs(read_chunk(training[name], ranker.reading), pairs, options)

    with training_progress() as progress:
        weights, log = Trainer(
            model=ranker,
            objective=RankerObjective(ranker, options),
            recipe=Recipe.of(options),
            hardware=hardware,
            seed=options.seed,
            chunks=list(training),
            load_chunk=load_chunk,
            checkpoint=checkpoint,
            fingerprint=stands_for,
            progress=progress,
            measure=lambda: _valid_ndcg(ranker, valid, valid_answers),
        ).fit()
    return TrainedRanker(options, sizes, weights, {}, None if tokenizer is None else tokenizer.to_str()), log


def _untrained(
    options: RankerOptions,
    some_chunk: "ChunkArrays",
    vectors: tuple[np.ndarray, np.ndarray],
    text: str | None,
    start: "dict[str, Tensor]",
) -> "tuple[Ranker, InputSizes, Tokenizer | None]":
    """A ranker as wide as a chunk's data wants, with all that it starts from; see ``fit``."""
    import torch

    from multimodal_recall.models.language_model import load_text_model, load_tokenizer
    from multimodal_recall.models.ranker import InputSizes, build_ranker

    (words, labels), inputs = vectors, (some_chunk.query_vectors.shape[1], some_chunk.features.shape[1])
    tokenizer = None if text is None else load_tokenizer(text, options.model.max_tokens)
    tokens = 0 if tokenizer is None else tokenizer.get_vocab_size()
    sizes = InputSizes(*inputs, *words.shape, len(labels), tokens)
    torch.manual_seed(options.seed)  # the weights; the streams of the chunks are seeded by the training loop
    ranker = build_ranker(options, sizes, tokenizer)
    ranker.start(words, labels)
    if text is not None and options.model.text_model is not None:
        ranker.start_from_text_model(load_text_model(text))
    if start:
        ranker.start_from(start)
    return ranker, sizes, tokenizer


def _valid_ndcg(module: Any, examples: dict[str, ChunkTables], answers: dict[int, list[int]]) -> float:
    from multimodal_recall.evaluation.metrics import ndcg_at_5
    from multimodal_recall.evaluation.scoring import score_examples

    return float(ndcg_at_5(score_examples(module, examples).to_pandas(), answers)["ndcg_at_5"].mean())


def _versions(examples: dict[str, ChunkTables]) -> dict[str, dict[str, str]]:
    """The version (Kedro's time stamp) of each table of each chunk."""
    return {
        chunk: {kind: Path(table.files[0]).parent.name for kind, table in tables.items()}
        for chunk, tables in examples.items()
    }
