"""Word vectors: selected from a GloVe text file, or trained on the training queries."""

import logging
from itertools import chain
from pathlib import Path

import numpy as np
from gensim.models import Word2Vec
from gensim.models.callbacks import CallbackAny2Vec

from multimodal_recall.config.options import WordVectorOptions
from multimodal_recall.data.text import normal_form, words_of
from multimodal_recall.runtime.progress import Bar, bar

logger = logging.getLogger(__name__)

UNKNOWN_WORD = "<unknown>"


class WordVectorError(Exception):
    """A word vector file is missing, or its vectors do not fit."""


class _Epochs(CallbackAny2Vec):
    """Advances a progress bar after each epoch."""

    def __init__(self, shown: Bar) -> None:
        self.shown = shown

    def on_epoch_end(self, _: Word2Vec) -> None:
        """Advance the bar."""
        self.shown.advance()


def make_word_vectors(texts: list[str], options: WordVectorOptions, seed: int) -> tuple[list[str], np.ndarray]:
    """Give every word of the texts, training queries and label names, a vector.

    Returns:
        The words, ``UNKNOWN_WORD`` first, and their vectors (words, size) float32. The unknown word's vector is the
        mean of all other vectors, as GloVe's authors advise.

    Raises:
        WordVectorError: See ``read_glove``.
    """
    sentences = [words_of(text) for text in texts]
    if options.glove_file is not None:
        words, table = read_glove(Path(options.glove_file), set(chain(*sentences)), options.size)
    else:
        with bar("word vectors", options.epochs, "epochs") as shown:
            trained = Word2Vec(
                sentences,
                vector_size=options.size,
                sg=1,
                min_count=1,
                epochs=options.epochs,
                seed=seed,
                workers=1,  # several would not train the same vectors again
                callbacks=[_Epochs(shown)],
            ).wv
        words, table = trained.index_to_key, trained.vectors.astype(np.float32)
    return [UNKNOWN_WORD, *words], np.vstack([table.mean(axis=0), table])


def read_glove(path: Path, vocabulary: set[str], size: int) -> tuple[list[str], np.ndarray]:
    """Read the vectors of a vocabulary from a GloVe or fastText text file; the 5.6 GB file is never in memory.

    Returns:
        The words of the vocabulary that the file knows, in the file's order, and their vectors (words, size) float32.

    Raises:
        WordVectorError: If the file is missing, its vectors are narrower than ``size``, or it knows no word.
    """
    if not path.is_file():
        fault = "is no file" if path.exists() else "does not exist"
        raise WordVectorError(
            f"word_vectors.glove_file {path.absolute()} {fault}. Put a GloVe text file there, or set it to null "
            "to train vectors on the training queries"
        )
    wanted, vectors = {word.encode(): word for word in vocabulary}, {}
    with path.open("rb") as lines, bar(f"read {path.name}", path.stat().st_size / 1e6, "MB") as shown:
        for line in lines:
            shown.advance(len(line) / 1e6)
            word, _, numbers = line.rstrip().partition(b" ")  # fastText ends its lines with a space
            width = numbers.count(b" ") + 1
            if not word.isascii():
                word = normal_form(word.decode("utf-8", "replace")).encode()
            # A wider line's word holds spaces (glove.840B: "at name@domain.com"). The first line of a word counts.
            if word not in wanted or width > size or wanted[word] in vectors:
                continue
            if width < size:
                raise WordVectorError(f"{path}: {word.decode()!r} has {width} numbers, word_vectors.size is {size}")
            vectors[wanted[word]] = np.array(numbers.split(b" "), np.float32)
    if not vectors:
        raise WordVectorError(
            f"{path} has no vector of {size} numbers for any of the {len(vocabulary)} words of queries and labels"
        )
    logger.info("word vectors: %s knows %d of %d words", path.name, len(vectors), len(vocabulary))
    return list(vectors), np.stack(list(vectors.values()))
