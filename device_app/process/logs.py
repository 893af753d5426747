"""The daemon's log on stderr, with a rate limit so that no client can flood it.

In systemd's journal each line has a priority, so that `journalctl -p warning` finds it.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Final

from device_app.limits import LOG_BURST_RECORDS, LOG_PERIOD_SECONDS, LOG_SOURCE_LINES
from device_app.process.log_destination import own_log, with_priority
from peer.bounded_dict import BoundedDict
from peer.terminal.log_format import EscapingFormatter

_FORMAT: Final = "%(levelname).1s %(name)s: %(message)s"


class PriorityFormatter(EscapingFormatter):
    """A formatter for systemd's journal: each line begins with the priority of the record."""

    def format(self, record: logging.LogRecord) -> str:
        """Format and escape the record. No text in it changes the priority of a line."""
        return with_priority(super().format(record), record.levelno)


class LogLimiter(logging.Filter):
    """Passes `LOG_BURST_RECORDS` records of each source line per `LOG_PERIOD_SECONDS`.

    The next record that passes says how many were dropped.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        #: source line → (start of the period, records in it)
        self._counts: BoundedDict[tuple[str, int], tuple[float, int]] = BoundedDict(
            LOG_SOURCE_LINES
        )

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether this record is written."""
        line = (record.pathname, record.lineno)
        now = self._monotonic()
        start, count = self._counts.get(line, (now, 0))
        if now - start >= LOG_PERIOD_SECONDS:
            if count > LOG_BURST_RECORDS:
                record.msg = f"{record.msg} (and {count - LOG_BURST_RECORDS} more like this before)"
            start, count = now, 0
        self._counts[line] = (start, count + 1)
        return count < LOG_BURST_RECORDS


def set_up(verbosity: int) -> None:
    """Log to stderr.

    Args:
        verbosity: -1 for errors; 0 for handfast's information and the warnings of libraries; 1 for
            debugging; 2 for the messages of aiocoap as well.
    """
    level = {-1: logging.ERROR, 0: logging.INFO}.get(verbosity, logging.DEBUG)
    handler = logging.StreamHandler(sys.stderr)
    for_systemd = own_log()["kind"] == "journal"
    handler.setFormatter((PriorityFormatter if for_systemd else EscapingFormatter)(_FORMAT))
    handler.addFilter(LogLimiter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("handfast", "device_app", "peer", "iam"):
        logging.getLogger(name).setLevel(level)
    # aiocoap logs every refused request at INFO and every message at DEBUG, which any client can
    # cause.
    logging.getLogger("handfast.coap").setLevel(
        logging.INFO if verbosity >= 2 else max(level, logging.WARNING)
    )
