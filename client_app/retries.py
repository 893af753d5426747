"""The attempts to continue an observation whose session was lost."""

import asyncio
from collections.abc import Callable

from client_app.content import Gap
from client_app.deadline import waiting_for
from client_app.limits import OBSERVE_JITTER, OBSERVE_PAUSE_MAX_SECONDS, OBSERVE_STABLE_SECONDS
from peer.errors import DeviceFailed, ObservationEnded, PeerError, RequestFailed

OnNote = Callable[[str], None]
"""Called with a message for people."""


class Retries:
    """Pauses between attempts to continue an observation: none at first, then longer ones.

    An observation that never succeeded is tried again once, and only if its session has ended: the
    device may have restarted since the session was used.
    """

    def __init__(
        self, alias: str, on_note: OnNote, *, is_on: bool, random: Callable[[], float]
    ) -> None:
        self._alias = alias
        self._on_note = on_note
        self._is_on = is_on
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._pause = 0.0
        self._failing_since: float | None = None
        self._succeeded_at: float | None = None
        self._reason = ""
        self._attempts = 0
        self._has_noted = False

    def succeeded(self) -> Gap | None:
        """Note that a state arrived; return the gap that it ends."""
        now, gap = self._loop.time(), None
        if self._succeeded_at is None or self._failing_since is not None:
            self._succeeded_at = now
        if self._failing_since is not None:
            gap = Gap(self._reason, now - self._failing_since)
            self._on_note(
                f"{self._alias} responds again; states of the last {gap.seconds:.0f} s may be "
                "missing"
            )
        self._failing_since = None
        return gap

    def lost(self, error: PeerError, *, was_closed: bool, silent_seconds: float) -> Gap | None:
        """Note an error; return the gap that it begins. Raises the error if it is the end.

        Args:
            error: the reason.
            was_closed: the device ended the session. It often accepts the next one at once, or says
                why not, so nothing is noted yet.
            silent_seconds: how long ago the device was heard; the gap began then.
        """
        now = self._loop.time()
        self._attempts += 1
        if self._succeeded_at is None:
            if self._attempts > 1 or not isinstance(error, ObservationEnded):
                raise error
            return None
        if not self._is_on or not _may_pass(error):
            raise error
        gap = None
        if self._failing_since is None:
            if now - self._succeeded_at >= OBSERVE_STABLE_SECONDS:
                self._pause = 0.0
            self._failing_since, self._reason = now - silent_seconds, str(error)
            self._has_noted = False
            gap = Gap(self._reason)
        if not was_closed and not self._has_noted:
            self._has_noted = True
            self._on_note(f"{self._alias}: {error}; connecting again")
        return gap

    async def pause(self) -> None:
        """Wait until the next attempt."""
        seconds = self._pause * (1 + OBSERVE_JITTER * self._random())
        with waiting_for(f"waiting to connect to {self._alias} again", seconds=seconds):
            await asyncio.sleep(seconds)
        self._pause = min(max(1.0, 2 * self._pause), OBSERVE_PAUSE_MAX_SECONDS)


def _may_pass(error: PeerError) -> bool:
    """Return whether an error may have a cause that passes: no connection, or a busy device."""
    if isinstance(error, (RequestFailed, DeviceFailed)):
        return error.code in {"4.29", "5.03"}
    return True
