import threading
import time

import pytest

from multimodal_recall.runtime.ahead import one_ahead


def test_objects_come_in_order_and_the_next_is_made_meanwhile() -> None:
    made = []

    def make(item: int) -> int:
        made.append(item)
        return item * item

    found, threads = [], threading.active_count()
    with one_ahead(make, range(5)) as squares:
        for square in squares:
            while len(made) < min(5, len(found) + 2):  # the next one is under way, and not those after it
                time.sleep(0.001)
            assert len(made) == min(5, len(found) + 2)
            found.append(square)
    assert found == [0, 1, 4, 9, 16]
    assert threading.active_count() == threads


def test_an_error_is_raised_at_its_turn_and_no_thread_stays() -> None:
    threads, found = threading.active_count(), []
    with pytest.raises(ZeroDivisionError), one_ahead(lambda item: 1 / item, [1, 2, 0, 4]) as inverses:
        found.extend(inverses)
    assert found == [1, 0.5]
    assert threading.active_count() == threads
    with pytest.raises(KeyError), one_ahead(abs, range(9)) as numbers:  # noqa: PT012
        next(numbers)
        raise KeyError
    assert threading.active_count() == threads


def test_nothing_is_made_of_nothing() -> None:
    with one_ahead(abs, []) as numbers:
        assert list(numbers) == []
