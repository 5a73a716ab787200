"""Make the next object while the caller works with the last."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


@contextmanager
def one_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Iterator[Made]]:
    """Make an object of each item in a thread, in order, at most one ahead of the caller.

    Raises what ``make`` raises, at the item's turn. At the end of the block the thread has ended.
    """
    with ThreadPoolExecutor(1) as thread:
        yield _in_turn(thread, make, items)


def _in_turn(thread: ThreadPoolExecutor, make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    ahead: Future[Made] | None = None
    for item in items:
        ready, ahead = ahead, thread.submit(make, item)
        if ready is not None:
            yield ready.result()
    if ahead is not None:
        yield ahead.result()
