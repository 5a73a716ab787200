"""Kedro's log with one line a node."""

import logging

from rich.logging import RichHandler

DROPPED = ("Running node: ", "Using synchronous mode")
DONE, COUNT = "Completed node: %s", "Completed %d out of %d tasks"


class ShortLines(logging.Filter):
    """Drops the line with which Kedro starts a node, and joins the two lines with which it ends a node.

    ``12 of 44: train.chunk_000.ingest``. What a node itself logs stays.
    """

    node = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide on a line; Kedro counts a node right after it has named the node, in one thread."""
        if record.msg == DONE:
            self.node = str(record.args[0])
            return False
        if record.msg == COUNT:
            record.msg, record.args = "%d of %d: %s", (*record.args, self.node)
        return not str(record.msg).startswith(DROPPED)


SHORT_LINES = ShortLines()


def shorten_log() -> None:
    """Shorten what goes to the terminal; other handlers, such as a file's, get all lines.

    Kedro refuses a filter in ``conf/logging.yml``, since one could name any code.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RichHandler):
            handler.addFilter(SHORT_LINES)  # adds a filter once only
