import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from multimodal_recall.config.options import WordVectorOptions
from multimodal_recall.data.glove import WordVectorError
from multimodal_recall.data.text import normal_form
from multimodal_recall.data.word_vectors import UNKNOWN_WORD, make_word_vectors

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


def test_of_a_word_that_stands_twice_the_first_vector_counts(tmp_path: Path) -> None:
    options = glove(tmp_path / "wiki.en.vec", "3 3", "red 1 2 3", "red 7 7 7", "red 7", "shirt 3 4 5")
    words, vectors = make_word_vectors(TEXTS, options, seed=0)
    assert words == [UNKNOWN_WORD, "red", "shirt"]
    np.testing.assert_array_equal(vectors[1:], [[1, 2, 3], [3, 4, 5]])


def test_a_byte_order_mark_hides_no_word_and_no_header(tmp_path: Path) -> None:
    for start in ("\ufeff", "\ufeff5 3\n"):
        words, _ = make_word_vectors(TEXTS, glove(tmp_path / "bom.txt", f"{start}red 1 2 3", "shirt 3 4 5"), seed=0)
        assert words == [UNKNOWN_WORD, "red", "shirt"]


def test_a_header_is_no_word(tmp_path: Path) -> None:
    words, _ = make_word_vectors(["red 2000000"], glove(tmp_path / "cc.vec", "2000000 3", "red 1 2 3"), seed=0)
    assert words == [UNKNOWN_WORD, "red"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["the 1 2 3", "red 1 2"], r"line 2: 'red' has 2 numbers, word_vectors\.size is 3"),
        (["the 1 2 3"], r"has no vector of 3 numbers for any of the 6 words .*Its first lines are 'the 1 2 3'$"),
        (["red 1 2"], r"holds 2 numbers a word, word_vectors\.size is 3: 'red 1 2'"),
        (["9 4", "red 1 2 3 4"], r"holds 4 numbers a word, word_vectors\.size is 3: '9 4'"),
        ([f"red{' 0.25' * 300}"], r"holds 300 numbers a word.*: 'red 0\.25 [0-9. ]+\.\.\.'\. Set word_vectors"),
        (["the 1 2 3", "red 1 nan 3"], r"line 2: the vector of 'red' holds nan\. Delete the line"),
        (["red 1 -inf 3"], r"line 1: the vector of 'red' holds -inf"),
        (["red 1 2 1e39"], r"line 1: the vector of 'red' holds inf"),
        (["red 1 0,5 3"], r"line 1: the vector of 'red' cannot be read: .*0,5"),
        (["red\t1\t2\t3"], r"has tabs between its fields: 'red\\t1\\t2\\t3'\. Wanted lines"),
        ([], r"is empty"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(WordVectorError, match=message):
        make_word_vectors(TEXTS, glove(tmp_path / "glove.txt", *lines), seed=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"red 1 2 3\n"), "is gzip, a packed file: unpack it"),
        (b"PK\x03\x04 glove.6B.zip", "is zip, a packed file: unpack it"),
        (b"2 3\nred " + np.ones(3, np.float32).tobytes(), r"is binary, as word2vec's and fastText's \.bin"),
        ("red 1 2 3\n".encode("utf-16"), "is UTF-16 text"),
    ],
    ids=["gzip", "zip", "binary", "UTF-16"],
)
def test_a_file_of_another_format_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "glove.txt"
    path.write_bytes(content)
    with pytest.raises(WordVectorError, match=rf"glove\.txt {message}"):
        make_word_vectors(TEXTS, WordVectorOptions(glove_file=str(path), size=3), seed=0)


def test_a_word_with_other_numbers_that_no_query_holds_does_no_harm(tmp_path: Path) -> None:
    words, _ = make_word_vectors(TEXTS, glove(tmp_path / "g.txt", "the nan 1 1", "red 1 2 3", "of 1"), seed=0)
    assert words == [UNKNOWN_WORD, "red"]


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    for name, fault in ((tmp_path / "none.txt", "does not exist"), (tmp_path, "is no file")):
        with pytest.raises(WordVectorError, match=rf"{name} {fault}\. Put a GloVe text file there, or set it to null"):
            make_word_vectors(TEXTS, WordVectorOptions(glove_file=str(name)), seed=0)


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
