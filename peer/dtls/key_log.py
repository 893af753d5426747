"""The log of session keys, for debugging. It is off unless `set_sink` is called.

It belongs to the process, as the environment variable `SSLKEYLOGFILE` does: every context that is
made afterwards writes to it.
"""

from collections.abc import Callable

Sink = Callable[[bytes], None]
"""Takes one line in the NSS key log format, without its end. It must not raise."""

_sinks: list[Sink] = []


def set_sink(sink: Sink | None) -> None:
    """Set where the keys of sessions go, or None for nowhere."""
    _sinks[:] = [] if sink is None else [sink]


def sink() -> Sink | None:
    """Return where the keys of sessions go."""
    return _sinks[0] if _sinks else None
