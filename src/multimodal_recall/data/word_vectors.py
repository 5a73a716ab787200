"""Word vectors: selected from a GloVe text file, or trained on the training queries."""

from itertools import chain

import numpy as np
from gensim.models import Word2Vec
from gensim.models.callbacks import CallbackAny2Vec

from multimodal_recall.config.loader import in_project
from multimodal_recall.config.options import WordVectorOptions
from multimodal_recall.data.glove import read_glove
from multimodal_recall.data.text import words_of
from multimodal_recall.runtime.progress import Bar, bar

UNKNOWN_WORD = "<unknown>"


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
        words, table = read_glove(in_project(options.glove_file), set(chain(*sentences)), options.size)
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
