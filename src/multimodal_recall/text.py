"""Words of a query: the one rule that turns text into words, and the published cleaning of queries."""

import re

# Leftovers of a machine translation that the first place drops when a query starts with one.
LEADING_TOKENS = frozenset(["!", "$", "'ll", "'s", ",", "&", ":", "and", "cut", "is", "are", "was"])

# Letters and digits of any script; hyphens inside a word are kept (GloVe has "t-shirt"), the clitic 's stands apart.
WORD = re.compile(r"'s\b|\w+(?:-\w+)*")


def words_of(text: str) -> list[str]:
    """Split a query or label name into lower-case words.

    ``"women's t-shirt, red"`` gives ``["women", "'s", "t-shirt", "red"]``, the way GloVe's own tokenizer does.
    """
    return WORD.findall(text.lower())


def strip_leading_token(query: str) -> str:
    """Drop a query's first token when it is one of ``LEADING_TOKENS`` and something is left (first place)."""
    first, _, rest = query.partition(" ")
    return rest if first in LEADING_TOKENS and rest.strip() else query
