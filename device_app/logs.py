"""The daemon's log: to stderr, and never flooded by a stranger.

One place in the code may say the same thing a few times in a while; then it is counted, and the
count is told with the next line that gets through.
"""

import logging
import sys
import time
from collections.abc import Callable

from peer.bounded_dict import BoundedDict
from peer.terminal.text import EscapingFormatter

_BURST = 5
_PERIOD_SECONDS = 10.0
_PLACES = 256


class LogLimiter(logging.Filter):
    """At most `_BURST` records per place in the code and period."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        #: place → (begin of the period, records in it)
        self._seen: BoundedDict[tuple[str, int], tuple[float, int]] = BoundedDict(_PLACES)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this record is written."""
        place = (record.pathname, record.lineno)
        now = self._monotonic()
        begun, count = self._seen.get(place, (now, 0))
        if now - begun >= _PERIOD_SECONDS:
            if count > _BURST:
                record.msg = f"{record.msg} (and {count - _BURST} more like this before)"
            begun, count = now, 0
        self._seen[place] = (begun, count + 1)
        return count < _BURST


def set_up(verbosity: int) -> None:
    """Log to stderr. `verbosity`: -1 errors, 0 our news and others' warnings, 1 more, 2 all."""
    level = {-1: logging.ERROR, 0: logging.INFO, 1: logging.DEBUG}.get(verbosity, logging.DEBUG)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EscapingFormatter("%(levelname).1s %(name)s: %(message)s"))
    handler.addFilter(LogLimiter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("handfast", "device_app", "peer", "iam"):
        logging.getLogger(ours).setLevel(level)
    # aiocoap tells every refused request at INFO and every message at DEBUG: a stranger's to cause.
    logging.getLogger("handfast.coap").setLevel(
        logging.INFO if verbosity >= 2 else max(level, logging.WARNING)
    )
