"""Progress bars on the console that Kedro logs to, so that they do not tear the log."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich import get_console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class TrainingBar:
    """One bar an epoch: pairs done, pairs a second, mean loss, time left."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("train", total=None, loss=0.0)
        self.epoch = -1

    def advance(self, pairs: int, total: int, loss: float, epoch: int) -> None:
        """So many pairs of the epoch's ``total`` are done, with this mean loss."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.bar.reset(self.task, total=total, description=f"epoch {epoch + 1}")
        self.bar.update(self.task, completed=pairs, total=total, loss=loss)


class SpeedColumn(ProgressColumn):
    """Pairs a second."""

    def render(self, task: Task) -> Text:
        """Write the rate; empty before the first batch is done."""
        return Text(f"{task.speed:,.0f} pairs/s" if task.speed else "")


@contextmanager
def training_progress() -> Iterator[TrainingBar]:
    """Show a bar while the block runs; nothing where the output is no terminal, or in a second process."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        SpeedColumn(),
        TimeRemainingColumn(),
    ]
    console = get_console()
    hidden = not console.is_terminal or int(os.environ.get("RANK", 0)) > 0
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        yield TrainingBar(bar)
