"""`python -m handfast`: the same as the command `handfast`."""

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS = 20_000
"""New objects after which a command looks for garbage, in place of 700 or 2000.

A command makes 100,000 objects while it imports modules, and keeps them. The daemon, which lives
longer, keeps Python's value.
"""


def main() -> None:
    """Run the command line of the client."""
    gc.set_threshold(_OBJECTS)
    with _interruptible():
        from client_app.cli import main as handfast  # noqa: PLC0415 - the device does not need it

    handfast()


def device() -> None:
    """Run the command line of the device: `handfast-device`."""
    with _interruptible():
        from device_app.__main__ import main as handfast_device  # noqa: PLC0415 - as above

    handfast_device()


@contextmanager
def _interruptible() -> Iterator[None]:
    """While modules are imported, Ctrl-C ends the process as it ends other programs: silently."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    main()
