"""The only rule that splits text into words, and the published cleaning of queries."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import regex

# Leftovers of a machine translation, which the first place drops at the start of a query.
LEADING_TOKENS = frozenset(["!", "$", "'ll", "'s", ",", "&", ":", "and", "cut", "is", "are", "was"])

# Letters, the marks on them, and digits, of any script (the standard library's \w breaks Hindi at its vowels). Hyphens
# inside a word are kept (GloVe has "t-shirt"). The clitic 's is a word, and so is each Chinese character: without
# spaces between words, a whole Chinese query would be a single word.
LETTER = r"[[\w\p{N}]--\p{Han}]"
WORD = regex.compile(rf"'s\b|\p{{Han}}|{LETTER}+(?:-{LETTER}+)*", regex.V1)

# What phones and office programs write for the signs of a keyboard, which NFKC keeps. A fraction gets a space before
# it: else "1½" would become "11/2".
TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("‘’‛ʼ′´", "'"),
        **dict.fromkeys("“”„‟″", '"'),
        **dict.fromkeys("\u2010\u2011", "-"),
        "\u00ad": None,
        **{sign: f" {unicodedata.normalize('NFKC', sign)}" for sign in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"},
    }
)


def normal_form(text: str) -> str:
    """Give the one form in which words are compared and read by language models: NFKC with a keyboard's signs.

    ``"women’s"`` becomes ``"women's"``, full-width ``"ＡＢＣ"`` becomes ``"ABC"``, and ``"m²"`` becomes ``"m2"``; a
    non-breaking hyphen becomes a hyphen, and a soft one goes. ASCII is returned as it is.
    """
    return text if text.isascii() else unicodedata.normalize("NFKC", text.translate(TYPOGRAPHIC))


def words_of(text: str) -> list[str]:
    """Split a query or label name into lower-case words.

    ``"women's t-shirt, red"`` gives ``["women", "'s", "t-shirt", "red"]``, as GloVe's own tokenizer does. Accents are
    kept; see ``normal_form``.
    """
    return WORD.findall(unicodedata.normalize("NFC", normal_form(text).lower()))


def vocabulary_note(query: str, unknown: Sequence[str]) -> str:
    """Say which words of a query are ``unknown`` to the word vectors, and if none is known; "" where all are."""
    words = words_of(query)
    if not words:
        return "no word in the query: the ranking means little"
    if not unknown:
        return ""
    rest = " (no word of the query is: the ranking means little)" if len(unknown) == len(words) else ""
    return f"not in the vocabulary: {', '.join(unknown)}{rest}"


def strip_leading_token(query: str) -> str:
    """Drop a query's first token if it is among ``LEADING_TOKENS`` and other text follows (first place)."""
    first, _, rest = query.partition(" ")
    return rest if normal_form(first) in LEADING_TOKENS and rest.strip() else query


def last_word_groups(queries: list[str]) -> np.ndarray:
    """Number the last words of texts (Q,), equal words alike; a text without words counts as its own last word."""
    last = [(words_of(query) or [query])[-1] for query in queries]
    return np.unique(last, return_inverse=True)[1]
