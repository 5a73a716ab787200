"""What a request asks for: read from a link's parameters, and bounded."""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from multimodal_recall.commands.products import numbers_of

MOST_CHARACTERS = 300
"""Characters of a query, and of a label."""
MOST_PRODUCTS = 100
MOST_LABELS = 50
SHOWN_CHARACTERS = 60
"""Characters of a refused value that a message repeats."""


class RequestError(ValueError):
    """A parameter of a request is missing, unknown or out of range."""


@dataclass(frozen=True)
class Wanted:
    """A search: the state that a link holds."""

    query: str
    """As typed; empty: the page without products."""
    ranker: str
    """Name of a choice, see ``shop.Choice``."""
    beside: str = ""
    """Name of the choice that is compared; empty: none."""
    top: int = 10
    labels: tuple[str, ...] = ()

    def link(self, **further: object) -> str:
        """Write the state as the parameters of a link, with further parameters."""
        named = {"q": self.query, "ranker": self.ranker, "with": self.beside, "top": self.top}
        return urlencode({**named, "label": self.labels or ("",), **further}, doseq=True)


def start_with(ranker: str, top: int, labels: Sequence[str], names: list[str]) -> Wanted:
    """Make what the page starts with from the command's options; ``names`` are those of all labels.

    Raises:
        RequestError: If ``top`` is out of range.
        SearchError: If there is no such label.
    """
    numbers_of(labels, names)
    return Wanted("", ranker, top=_read_top(str(top)), labels=tuple(labels))


def read_wanted(given: QueryParams, start: Wanted, rankers: Collection[str]) -> Wanted:
    """Read a request's parameters; what it does not name is taken from ``start``.

    Raises:
        RequestError: If a value is too long, unknown or out of range.
    """
    return Wanted(**{name: read() for name, read in _readers(given, start, rankers).items()})


def keep_readable(given: QueryParams, start: Wanted, rankers: Collection[str]) -> Wanted:
    """Read what the form of a refused request shows: what cannot be read is as in ``start``, a long query is cut."""
    kept = replace(start, query=given.get("q", "")[:MOST_CHARACTERS])
    for name, read in _readers(given, start, rankers).items():
        with suppress(RequestError):
            kept = replace(kept, **{name: read()})
    return kept


def _readers(given: QueryParams, start: Wanted, rankers: Collection[str]) -> dict[str, Callable[[], Any]]:
    """Give what reads each field of a ``Wanted``."""
    return {
        "query": lambda: read_text(given.get("q", "")),
        "ranker": lambda: _known(given.get("ranker") or start.ranker, rankers),
        "beside": lambda: _known(given["with"], rankers) if given.get("with") else "",
        "top": lambda: _read_top(given.get("top") or str(start.top)),
        "labels": lambda: _read_labels(given, start),
    }


def read_text(query: str) -> str:
    """Read a query, which may be empty.

    Raises:
        RequestError: If it is too long.
    """
    if len(query) > MOST_CHARACTERS:
        raise RequestError(
            f"the query has {len(query):,} characters: at most {MOST_CHARACTERS} are read. Name the product only"
        )
    return query


def read_query(wanted: Wanted) -> Wanted:
    """Refuse a search without a query.

    Raises:
        RequestError: If the query is empty.
    """
    if not wanted.query.strip():
        raise RequestError("q is empty: name the product in a word or more, as in /search?q=red+dress")
    return wanted


def read_explained(given: QueryParams, wanted: Wanted, rankers: Collection[str]) -> str:
    """Read which ranker's score is explained: by default the first of the page.

    Raises:
        RequestError: If there is no such ranker.
    """
    return _known(given.get("explained") or wanted.ranker, rankers)


def read_id(text: str) -> int:
    """Read a product id.

    Raises:
        RequestError: If the text is no number of 64 bits.
    """
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20 and -(1 << 63) <= int(text) < 1 << 63):
        raise RequestError(f"{_shown(text)} is no product id: a whole number of 64 bits")
    return int(text)


def _read_labels(given: QueryParams, start: Wanted) -> tuple[str, ...]:
    labels = tuple(dict.fromkeys(filter(None, given.getlist("label")))) if "label" in given else start.labels
    if len(labels) > MOST_LABELS:
        raise RequestError(f"label stands {len(labels)} times: at most {MOST_LABELS} labels are read")
    longest = max(map(len, labels), default=0)
    if longest > MOST_CHARACTERS:
        raise RequestError(f"label has {longest:,} characters: at most {MOST_CHARACTERS} are read")
    return labels


def _known(name: str, rankers: Collection[str]) -> str:
    if name in rankers:
        return name
    near = get_close_matches(name[:SHOWN_CHARACTERS], rankers, 1)
    raise RequestError(
        f"there is no ranker {_shown(name)}. Did you mean {near[0]!r}?"
        if near
        else f"there is no ranker {_shown(name)}, only {sorted(rankers)}"
    )


def _read_top(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MOST_PRODUCTS:
        return int(text)
    raise RequestError(f"top is {_shown(text)}: a whole number from 1 to {MOST_PRODUCTS} is wanted")


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}...")
