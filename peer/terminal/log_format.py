"""The format of log records on a terminal and in a journal."""

import logging

from peer.terminal.text import on_lines


class EscapingFormatter(logging.Formatter):
    """A formatter of log records, which may contain text from a peer."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record and escape it; a traceback keeps its lines."""
        return on_lines(super().format(record))
