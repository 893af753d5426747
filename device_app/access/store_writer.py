"""The one place from which the daemon writes to the store."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from device_app.access.clock import Clock
from iam.audit import Event
from iam.errors import StoreWriteFailed
from iam.model import State
from iam.store import Store

_log = logging.getLogger("handfast.store")


class StoreWriter:
    """Writes to the store, each time with the device's time as the clock's floor.

    `trouble` says why the last write failed, or is empty. The log tells when writing starts to fail
    and when it works again. `event_counts` has the number of events written, by kind.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.trouble = ""
        self.event_counts: Counter[str] = Counter()
        self._store = store
        self._clock = clock

    def commit(
        self, new: State, *events: Event, attempts: Mapping[str, object] | None = None
    ) -> None:
        """Make a state durable, with its events and counters of attempts.

        Raises:
            StoreWriteFailed: nothing has changed.
        """
        with self._writing():
            self._store.commit(new, *events, attempts=attempts)
        self.event_counts.update(event.kind for event in events)

    def reset(self, event: Event, *, attempts: Mapping[str, object]) -> None:
        """Delete every user, key, invite and event; the trail begins with `event`.

        Raises:
            StoreWriteFailed: nothing has changed.
        """
        with self._writing():
            self._store.reset(event, attempts=attempts)
        self.event_counts[event.kind] += 1

    def keep(self) -> None:
        """Write the clock's floor and when each key was last seen, at most once an hour.

        Also logs what is doubtful about the clock. A write that fails is logged, not raised.
        """
        self._clock.log_trouble()
        try:
            with self._writing():
                self._store.flush_seen()
        except StoreWriteFailed:
            pass  # logged; what was noted is kept for the next time

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._store.note_time(self._clock.now())
        try:
            yield
        except StoreWriteFailed as error:
            if not self.trouble:
                _log.error("%s %s", error, error.advice)
            self.trouble = str(error)
            raise
        if self.trouble:
            _log.warning("the store can be written again")
        self.trouble = ""
