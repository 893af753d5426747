"""This machine's wall clock, which may be wrong: no decision about access depends on it."""

import time


def wall_clock() -> float:
    """Seconds since 1970."""
    return time.time()  # noqa: TID251 - the only reading in the client
