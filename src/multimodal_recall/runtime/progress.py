"""Progress bars on the console that Kedro logs to, so that no log line cuts a bar; one display for all threads."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing
from threading import Lock
from typing import TypeVar

from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from multimodal_recall.runtime.processes import rank

Item = TypeVar("Item")

# Seconds: work that is over sooner would flicker, and hot loops report every step.
SHOWN_AFTER, REFRESHED_EVERY = 1.0, 0.1


class SpeedColumn(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        """Write the rate; empty before the first is known."""
        digits = 0 if (task.speed or 0) >= 10 else 1
        return Text(f"{task.speed:,.{digits}f} {task.fields['unit']}/s" if task.speed else "")


class Display:
    """The lines of all bars in one live display, which is open while there is a bar.

    rich from 14.1 on nests live displays, but ``Console.clear_live`` closes the newest: displays of threads, which end
    in any order, would lose their lines.
    """

    def __init__(self) -> None:
        self.lock, self.progress = Lock(), None

    def add(self, bar: "Bar") -> int:
        """Give a bar a line; return its number."""
        with self.lock:
            if self.progress is None:
                name, note = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[note]}")
                columns = (name, BarColumn(), MofNCompleteColumn(), note, SpeedColumn(), TimeRemainingColumn())
                self.progress = Progress(*columns, console=get_console(), transient=True)
                self.progress.start()
            return self.progress.add_task(bar.description, total=bar.total, unit=bar.unit, note=bar.note)

    def update(self, bar: "Bar") -> None:
        """Draw a bar's progress."""
        self.progress.update(bar.task, completed=bar.done, note=bar.note)

    def remove(self, bar: "Bar") -> None:
        """Remove a bar's line, and with the last line the display."""
        with self.lock:
            self.progress.remove_task(bar.task)
            if not self.progress.tasks:
                self.progress.stop()
                self.progress = None


DISPLAY = Display()


class Bar:
    """Progress of a piece of work; its line is drawn once the work has taken a second."""

    def __init__(self, description: str, total: float, unit: str) -> None:
        self.description, self.total, self.unit, self.note = description, total, unit, ""
        self.done, self.task = 0.0, None
        self.next_draw = float("inf") if _hidden() else time.monotonic() + SHOWN_AFTER

    def advance(self, units: float = 1) -> None:
        """Count further units as done."""
        self.done += units
        if (now := time.monotonic()) >= self.next_draw:
            self.next_draw = now + REFRESHED_EVERY
            if self.task is None:
                self.task = DISPLAY.add(self)
            DISPLAY.update(self)

    def close(self) -> None:
        """Remove the line."""
        if self.task is not None:
            DISPLAY.remove(self)
            self.task = None


def _hidden() -> bool:
    """Whether the output is no terminal, or another process draws: a Dask worker's parent, or rank 0 of a training."""
    helper = multiprocessing.parent_process() is not None
    return not get_console().is_terminal or (helper and rank() != 0)


def bar(description: str, total: float, unit: str) -> AbstractContextManager[Bar]:
    """Show the progress of a block that takes more than a second; show nothing where the output is no terminal.

    ``unit`` names the units in the plural; megabytes are ``MB``.
    """
    return closing(Bar(description, total, unit))


def track(items: Sequence[Item], description: str, unit: str) -> Iterator[Item]:
    """Yield the items in order, and show a bar meanwhile."""
    with bar(description, len(items), unit) as shown:
        for item in items:
            yield item
            shown.advance()


class TrainingBar:
    """One bar an epoch: pairs done, pairs a second, mean loss, time left."""

    def __init__(self, title: str = "", unit: str = "pairs") -> None:
        self.title, self.unit = title, unit
        self.bar, self.epoch = Bar("train", 0, unit), -1

    def advance(self, pairs: int, total: int, loss: float, epoch: int) -> None:
        """Show ``pairs`` of the epoch's ``total`` as done, with their mean loss."""
        if epoch != self.epoch:
            self.bar.close()
            self.epoch, self.bar = epoch, Bar(f"{self.title}epoch {epoch + 1}", total, self.unit)
        self.bar.note = f"loss {loss:.4f}"
        self.bar.advance(pairs - self.bar.done)

    def close(self) -> None:
        """Remove the epoch's bar."""
        self.bar.close()


def training_progress(title: str = "", unit: str = "pairs") -> AbstractContextManager[TrainingBar]:
    """Show the bars of a training while the block runs; the title stands before ``epoch 1``. See ``bar``."""
    return closing(TrainingBar(title, unit))


def rate(units: int, start: float) -> str:
    """Write units a second since ``time.perf_counter()`` was ``start``, for a log line."""
    return f"{units / max(time.perf_counter() - start, 1e-9):,.0f}/s"
