"""Words of a query: the one rule that turns text into words, and the published cleaning of queries."""

import unicodedata

import numpy as np
import regex

# Leftovers of a machine translation that the first place drops when a query starts with one.
LEADING_TOKENS = frozenset(["!", "$", "'ll", "'s", ",", "&", ":", "and", "cut", "is", "are", "was"])

# Letters, the marks on them, and digits, of any script (the standard library's \w breaks Hindi at its vowels). Hyphens
# inside a word are kept (GloVe has "t-shirt"), the clitic 's stands apart, and so does each Chinese character: without
# spaces between words, a whole query would be one.
LETTER = r"[[\w\p{N}]--\p{Han}]"
WORD = regex.compile(rf"'s\b|\p{{Han}}|{LETTER}+(?:-{LETTER}+)*", regex.V1)


def words_of(text: str) -> list[str]:
    """Split a query or label name into lower-case words.

    ``"women's t-shirt, red"`` gives ``["women", "'s", "t-shirt", "red"]``, the way GloVe's own tokenizer does. Accents
    are kept; a letter and its accent in two code points are the same as in one.
    """
    return WORD.findall(unicodedata.normalize("NFC", text.lower()))


def strip_leading_token(query: str) -> str:
    """Drop a query's first token when it is one of ``LEADING_TOKENS`` and something is left (first place)."""
    first, _, rest = query.partition(" ")
    return rest if first in LEADING_TOKENS and rest.strip() else query


def last_word_groups(queries: list[str]) -> np.ndarray:
    """Number the last words of texts (Q,): the same number for the same one; a text without words is its own."""
    last = [(words_of(query) or [query])[-1] for query in queries]
    return np.unique(last, return_inverse=True)[1]
