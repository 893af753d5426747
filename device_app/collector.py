"""The collector of reference cycles, kept from stalling the clients of a daemon.

A full collection looks at every object of the process, while no request is answered: 50 to 140 ms
on a small machine. So what exists when the daemon is ready is left out of all later ones, and none
begins while many users or policies are read. Objects without cycles are freed as always.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def settled() -> Iterator[None]:
    """Leave what exists now out of all collections, inside the block."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def paused() -> Iterator[None]:
    """Begin no collection, in any thread, inside the block."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
