"""The time that the daemon states to the service manager for loading its store."""

from pathlib import Path

from device_app.limits import STORE_LOAD_BYTES_PER_SECOND, STORE_LOAD_SECONDS_SPARE


def load_seconds(store: Path) -> float:
    """Return how long it may take at most to load a store, or to migrate it."""
    try:
        return STORE_LOAD_SECONDS_SPARE + store.stat().st_size / STORE_LOAD_BYTES_PER_SECOND
    except OSError:  # there is none yet
        return 0.0
