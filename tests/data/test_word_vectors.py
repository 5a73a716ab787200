import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from multimodal_recall.config.options import WordVectorOptions
from multimodal_recall.data.text import normal_form
from multimodal_recall.data.word_vectors import UNKNOWN_WORD, WordVectorError, make_word_vectors

TEXTS = ["red shirt", "blue shirt", "women's t-shirt"]


def glove(path: Path, *lines: str) -> WordVectorOptions:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return WordVectorOptions(glove_file=str(path), size=3)


def test_a_glove_file_is_cut_to_the_words_of_the_texts(tmp_path: Path) -> None:
    options = glove(tmp_path / "glove.txt", "the 9 9 9", "red 1 2 3", "'s 4 4 4", "red car 7 7 7", "shirt 3 4 5")
    words, vectors = make_word_vectors(TEXTS, options, seed=0)
    assert words == [UNKNOWN_WORD, "red", "'s", "shirt"]
    np.testing.assert_allclose(vectors[1:], [[1, 2, 3], [4, 4, 4], [3, 4, 5]])
    np.testing.assert_allclose(vectors[0], np.mean([[1, 2, 3], [4, 4, 4], [3, 4, 5]], axis=0), rtol=1e-6)


def test_a_fasttext_file_is_read_too(tmp_path: Path) -> None:
    options = glove(tmp_path / "cc.de.vec", "2000000 3", "schuhe 1 2 3 ", "grüne 3 4 5 ")
    words, vectors = make_word_vectors(["grüne Schuhe"], options, seed=0)
    assert words == [UNKNOWN_WORD, "schuhe", "grüne"]
    np.testing.assert_array_equal(vectors[1:], [[1, 2, 3], [3, 4, 5]])


def test_the_words_of_a_file_have_the_normal_form_of_the_texts(tmp_path: Path) -> None:
    options = glove(tmp_path / "cc.th.vec", "’s 1 2 3", "น้ำ 3 4 5", "'s 6 6 6", "ＲＥＤ 7 7 7")
    words, vectors = make_word_vectors(["women's น้ำ", "red"], options, seed=0)
    assert words == [UNKNOWN_WORD, "'s", normal_form("น้ำ")]
    np.testing.assert_array_equal(vectors[1:], [[1, 2, 3], [3, 4, 5]])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["red 1 2"], "'red' has 2 numbers, word_vectors.size is 3"),
        (["the 1 2 3"], "has no vector of 3 numbers for any of the 6 words"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(WordVectorError, match=message):
        make_word_vectors(TEXTS, glove(tmp_path / "glove.txt", *lines), seed=0)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    options = WordVectorOptions(glove_file=str(tmp_path / "none.txt"))
    with pytest.raises(
        WordVectorError, match=r"none\.txt does not exist\. Put a GloVe text file there, or set it to null"
    ):
        make_word_vectors(TEXTS, options, seed=0)


def test_trained_vectors_are_the_same_for_the_same_seed() -> None:
    options = WordVectorOptions(size=8, epochs=2)
    (words, one), (again, other), (_, third) = (make_word_vectors(TEXTS, options, seed) for seed in (0, 0, 1))
    assert words == again
    assert set(words) == {UNKNOWN_WORD, "red", "blue", "shirt", "women", "'s", "t-shirt"}
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)


@pytest.mark.parametrize("make_it", [Path.mkdir, os.mkfifo])
def test_vectors_that_are_no_file_are_refused(tmp_path: Path, make_it: Callable[[Path], None]) -> None:
    make_it(tmp_path / "glove.txt")
    with pytest.raises(WordVectorError, match=r"glove\.txt is no file\. Put a GloVe text file there"):
        make_word_vectors(TEXTS, WordVectorOptions(glove_file=str(tmp_path / "glove.txt"), size=3), seed=0)
