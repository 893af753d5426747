"""The collector of reference cycles, kept from stalling the clients of a daemon.

A full collection looks at every object of the process, while no request is answered: 50 to 140 ms
on a small machine. So what exists when the daemon is ready is left out of all later ones, and none
begins while many users or policies are read. Objects without cycles are freed as always.

A thread that works beside the event loop holds it up in two more ways: it keeps the interpreter's
lock for a while, and the collections of what it has made take long. `in_background` shortens both,
and leaves what the thread has made out of later collections as well.
"""

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from device_app.limits import BACKGROUND_SWITCH_SECONDS, YOUNG_COLLECTION_SECONDS

_is_settled = threading.Event()


@contextmanager
def settled() -> Iterator[None]:
    """Leave what exists now out of all collections, inside the block."""
    gc.freeze()
    _is_settled.set()
    try:
        yield
    finally:
        _is_settled.clear()
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


@contextmanager
def in_background() -> Iterator[None]:
    """Let the event loop go first while this thread makes many objects, inside the block.

    The thread gives up the interpreter's lock after `BACKGROUND_SWITCH_SECONDS` if another one
    waits for it. New objects are collected every `YOUNG_COLLECTION_SECONDS`, so that each time is
    short. Python counts the objects made less those freed, which stay few while many old ones
    are freed. If the block succeeds inside `settled`, what it made is left out of the collections
    that follow, too: the first one would look at all of it. Not for two threads at once.
    """
    interval = sys.getswitchinterval()
    done = threading.Event()
    helper = threading.Thread(target=_collect_young, args=(done,), name="young objects")
    sys.setswitchinterval(min(interval, BACKGROUND_SWITCH_SECONDS))
    try:
        with paused():
            helper.start()
            try:
                yield
            finally:
                done.set()
                helper.join()
            if _is_settled.is_set():
                gc.freeze()  # cycles that are garbage by now stay: few, and once for each block
    finally:
        sys.setswitchinterval(interval)


def _collect_young(done: threading.Event) -> None:
    while not done.wait(YOUNG_COLLECTION_SECONDS):
        gc.collect(1)
