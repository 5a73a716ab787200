"""Train a ranker. torch takes seconds to import: functions import it."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.config.data_sizes import data_size
from multimodal_recall.config.loader import folder_or_name
from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.origins import QueryEncoding, digest_words
from multimodal_recall.data.schemas import TABLES, ChunkTables
from multimodal_recall.datasets.model_folders import CheckpointFile
from multimodal_recall.negatives.mixing import count_right_pairs
from multimodal_recall.runs.code import digest_code
from multimodal_recall.runs.versions import fingerprint, git_commit, package_versions
from multimodal_recall.runtime.device import Hardware, use_hardware
from multimodal_recall.runtime.processes import run_in_processes

if TYPE_CHECKING:
    from multimodal_recall.models.saved import TrainedRanker
    from multimodal_recall.training.checkpoint import EpochLog
    from multimodal_recall.training.ranker import RankerTraining

logger = logging.getLogger(__name__)


def train_ranker(
    train_examples: dict[str, ChunkTables],
    valid_examples: dict[str, ChunkTables],
    valid_answers: dict[int, list[int]],
    word_vectors: ds.Dataset,
    label_vectors: ds.Dataset,
    language_model: Path,
    options: RankerOptions,
    hardware: HardwareOptions,
    checkpoints: str,
    start: Any = None,
    *,
    ranker: str,
) -> dict[str, Any]:
    """Train a ranker on the examples of all chunks, and keep the epoch that is best on valid.

    A killed training goes on from its checkpoint, to the same weights, if data, options, seed, code and hardware
    (device, precision, threads) are the same. The last checkpoint stays: without it, a crash before the model is saved
    would cost the whole training.

    Args:
        language_model: A transformers folder with the tokenizer of rankers that read tokens and name no other.
        hardware: Device, precision and threads; several processes divide the threads.
        start: The ``TrainedRanker`` that ``options.start_from`` names; ``None`` if it names no ranker.

    Returns:
        ``model``, the trained ranker, and ``training_log``, one row an epoch.
    """
    from multimodal_recall.training.batching import in_epochs
    from multimodal_recall.training.ranker import RankerTraining

    options = in_epochs(options, (count_right_pairs(tables["samples"]) for tables in train_examples.values()))
    encoding = common_encoding(train_examples, valid_examples, word_vectors)
    words, labels = (np.stack(table.to_table()["vector"].to_numpy()) for table in (word_vectors, label_vectors))
    tokenizer, versions = _tokenizer_of(options, language_model), versions_of(train_examples)
    weights = {} if start is None else start.weights
    code = digest_code(train_ranker, [options.model.kind])
    decisive = [asdict(options), code, versions, versions_of(valid_examples), sorted(valid_answers.items()), tokenizer]
    training = RankerTraining(
        options,
        train_examples,
        valid_examples,
        valid_answers,
        words,
        labels,
        None if tokenizer is None else folder_or_name(tokenizer),
        use_hardware(hardware).divided(options.processes),
        CheckpointFile.of(checkpoints, ranker),
        fingerprint(decisive, words, labels, *(tensor.numpy() for tensor in weights.values())),
        weights,
    )
    trained, log = run_in_processes(options.processes, RankerTraining.fit, training)
    _tell_outcome(log, training)
    return with_card(trained, log, training.hardware, inputs=versions, query_features=asdict(encoding))


def _tell_outcome(log: "list[EpochLog]", training: "RankerTraining") -> None:
    """Log the epoch that was kept, and each reason to doubt the training."""
    from multimodal_recall.training.doubts import doubts

    best = max(log, key=lambda row: row.valid_ndcg_at_5)
    logger.info("kept epoch %d of %d, valid nDCG@5 %.4f", best.epoch + 1, len(log), best.valid_ndcg_at_5)
    for doubt in doubts(log, training.options, len(training.train)):
        logger.warning("%s", doubt)


def with_card(trained: "TrainedRanker", log: "list[EpochLog]", hardware: Hardware, **origins: Any) -> dict[str, Any]:
    """Give ``model``, the trained ranker with its card, and ``training_log``, one row an epoch."""
    rows = pd.DataFrame([asdict(row) for row in log])
    return {
        "model": replace(trained, card=_card(trained, log, hardware, **origins)),
        "training_log": pa.Table.from_pandas(rows, TABLES["training_log"], preserve_index=False),
    }


def _card(trained: "TrainedRanker", log: "list[EpochLog]", hardware: Hardware, **origins: Any) -> dict[str, Any]:
    best = max(log, key=lambda row: row.valid_ndcg_at_5)
    return {
        "seed": trained.options.seed,
        "epoch": best.epoch,
        "valid_ndcg_at_5": best.valid_ndcg_at_5,
        "parameters": sum(parameter.numel() for parameter in trained.build().parameters()),
        "right_pairs": best.pairs // (1 + trained.options.negatives_per_positive),
        **data_size(trained.options.model.kind),
        **origins,
        "hardware": hardware.facts(),
        "packages": package_versions(),
        "git_commit": git_commit(),
    }


def common_encoding(
    training: dict[str, ChunkTables], valid: dict[str, ChunkTables], word_vectors: ds.Dataset
) -> QueryEncoding:
    """Read the encoding of the queries; refuse chunks with another encoding, or other words than the ranker gets."""
    encoding = QueryEncoding.of(next(iter(training.values()))["query_features"])
    of_ranker = replace(encoding, words=digest_words(word_vectors))
    of_ranker.check(training, "train's first chunk or the word vectors")
    encoding.check(valid, "train")
    return encoding


def _tokenizer_of(options: RankerOptions, language_model: Path) -> str | None:
    """Name the folder or hub name of the ranker's tokenizer; ``None`` if the ranker reads no tokens."""
    reads_tokens = hasattr(options.model, "max_tokens")
    return options.model.text_model or str(language_model) if reads_tokens else None


def versions_of(examples: dict[str, ChunkTables]) -> dict[str, dict[str, str]]:
    """Read the version (Kedro's time stamp) of each table of each chunk from its path."""
    return {
        chunk: {kind: Path(table.files[0]).parent.name for kind, table in tables.items()}
        for chunk, tables in examples.items()
    }
