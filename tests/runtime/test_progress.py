import logging
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from threading import Barrier

import pytest
from rich.console import Console

from multimodal_recall.runtime import progress
from multimodal_recall.runtime.progress import DISPLAY, bar, rate, track, training_progress


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What is written on the console, a terminal on which bars are shown at once."""
    written = StringIO()
    console = Console(file=written, force_terminal=True, width=100, height=30)
    monkeypatch.setattr(progress, "get_console", lambda: console)
    monkeypatch.setattr(progress, "SHOWN_AFTER", 0.0)
    monkeypatch.setattr(progress, "REFRESHED_EVERY", 0.0)
    return written


def test_a_bar_says_what_how_far_and_how_fast(terminal: StringIO) -> None:
    with bar("featurize train.chunk_003 (4 of 30)", 100, "queries") as shown:
        for _ in range(5):
            shown.advance(10)
            time.sleep(0.01)
        DISPLAY.progress.refresh()
    text = terminal.getvalue()
    assert "featurize train.chunk_003 (4 of 30)" in text
    assert "50/100" in text
    assert "queries/s" in text
    assert DISPLAY.progress is None


def test_threads_share_one_display_and_the_last_takes_it_away(terminal: StringIO) -> None:
    # Given four threads that are sure to have a bar at the same time
    together = Barrier(4)

    def work(number: int) -> int:
        with bar(f"node {number}", 2, "rows") as shown:
            shown.advance()
            together.wait(timeout=10)
            lines = len(DISPLAY.progress.tasks)
            together.wait(timeout=10)
            shown.advance()
        return lines

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [4] * 4
    assert DISPLAY.progress is None


def test_a_failed_piece_of_work_leaves_no_bar(terminal: StringIO) -> None:
    def fail() -> None:
        with bar("fails", 2, "rows") as shown:
            shown.advance()
            assert DISPLAY.progress is not None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert DISPLAY.progress is None


def test_items_are_walked_in_order_and_one_left_early_leaves_no_bar(terminal: StringIO) -> None:
    assert list(track([3, 1, 2], "walk", "items")) == [3, 1, 2]
    walk = track([3, 1, 2], "walk", "items")
    assert [next(walk), next(walk)] == [3, 1]
    walk.close()
    assert DISPLAY.progress is None


def test_an_epoch_has_a_bar_of_its_own_with_the_loss(terminal: StringIO) -> None:
    with training_progress() as training:
        training.advance(10, 40, 0.7, 0)
        training.advance(20, 40, 0.6, 0)
        assert training.bar.done == 20
        training.advance(10, 40, 0.5, 1)
        assert training.bar.done == 10
        DISPLAY.progress.refresh()
    for wanted in ("epoch 1", "epoch 2", "loss 0.5000"):
        assert wanted in terminal.getvalue()
    assert DISPLAY.progress is None


def test_what_is_over_in_a_second_shows_nothing(terminal: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SHOWN_AFTER", 1.0)
    assert list(track(range(1000), "short", "items")) == list(range(1000))
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("kind", ["no terminal", "second process of a training", "process of Dask"])
def test_quiet_where_another_draws_or_nobody_looks(
    terminal: StringIO, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    written = StringIO()
    if kind == "no terminal":
        monkeypatch.setattr(progress, "get_console", lambda: Console(file=written))
    elif kind == "process of Dask":
        monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    else:
        monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
        monkeypatch.setattr(progress, "rank", lambda: 1)
    list(track(range(10), "walk", "items"))
    assert terminal.getvalue() == written.getvalue() == ""


def test_the_first_process_of_a_training_draws(terminal: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    monkeypatch.setattr(progress, "rank", lambda: 0)
    list(track(range(10), "walk", "items"))
    assert "walk" in terminal.getvalue()


def test_a_variable_of_a_clusters_launcher_hides_nothing(terminal: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    list(track(range(10), "walk", "items"))
    assert "walk" in terminal.getvalue()


def test_log_lines_of_kedros_handler_stand_above_the_bar(terminal: StringIO) -> None:
    from rich.logging import RichHandler

    handler = RichHandler(console=progress.get_console(), show_time=False, show_path=False)
    logger = logging.getLogger("test_progress")
    logger.addHandler(handler)
    try:
        with bar("featurize", 10, "queries") as shown:
            shown.advance()
            logger.warning("a line of the log")
    finally:
        logger.removeHandler(handler)
    lines = [line for line in terminal.getvalue().splitlines() if "a line of the log" in line]
    assert len(lines) == 1
    assert "queries" not in lines[0]


def test_a_rate_is_whole_units_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 12.0)
    assert rate(5_000, 10.0) == "2,500/s"
