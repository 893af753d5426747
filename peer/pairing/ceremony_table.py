"""The ceremonies of one window: at most one is live, and each ends once."""

from dataclasses import replace
from typing import assert_never

from peer.identity import Fingerprint
from peer.pairing.ceremony import Act, Ceremony, Stage
from peer.pairing.errors import Busy, NoSuchCeremony, UserRefused
from peer.pairing.events import EventKind, EventList
from peer.pairing.sides import DeviceSide


class CeremonyTable:
    """All ceremonies of one window, and the device's side of the live one.

    Attributes:
        failures: ceremonies that ended other than with success.
        first_key: the key that started the first ceremony.
        unnotified: the ceremony that ended last, until its client has learnt its end.
    """

    def __init__(self, events: EventList) -> None:
        self.failures = 0
        self.first_key: Fingerprint | None = None
        self.unnotified: str | None = None
        self._events = events
        self._all: dict[str, Ceremony] = {}
        self._live_id: str | None = None
        self._side: DeviceSide | None = None  # of the live ceremony; none in the plain form
        self._device_tag = b""  # of the ceremony that is being stored
        self._ended: list[Ceremony] = []

    @property
    def live(self) -> Ceremony | None:
        """The live ceremony."""
        return self._all[self._live_id] if self._live_id is not None else None

    def find(self, ceremony_id: str, *, session_id: int) -> Ceremony:
        """Return a ceremony of this session. Raises `NoSuchCeremony` for all others."""
        ceremony = self._all.get(ceremony_id)
        if ceremony is None or ceremony.session_id != session_id:
            raise NoSuchCeremony(
                "no such pairing ceremony on this connection",
                advice="Start pairing again from the beginning.",
            )
        return ceremony

    def require_live(self, ceremony_id: str) -> Ceremony:
        """Return the live ceremony. Raises `UserRefused` or `NoSuchCeremony` if it has ended."""
        ceremony = self._all.get(ceremony_id)
        if ceremony is not None and ceremony.is_live:
            return ceremony
        if ceremony is not None and ceremony.stage is Stage.REFUSED:
            raise UserRefused(
                "this pairing was refused", advice="Ask the user at the device, then start again."
            )
        raise NoSuchCeremony(
            "this pairing has ended", advice="Start pairing again from the beginning."
        )

    def require_turn(
        self, ceremony_id: str, stage: Stage, *, session_id: int
    ) -> tuple[Ceremony, DeviceSide]:
        """Return the live ceremony and the device's side. Raises `Busy` in any other stage."""
        ceremony = self.require_live(self.find(ceremony_id, session_id=session_id).id)
        if ceremony.stage is not stage or self._side is None:
            raise Busy(
                "it is not the client's turn",
                advice="Wait until the device's user has accepted (GET with Observe).",
            )
        return ceremony, self._side

    def add(self, ceremony: Ceremony, side: DeviceSide | None) -> Ceremony:
        """Add the live ceremony; `side` is None in the plain form."""
        self.first_key = self.first_key or ceremony.fingerprint
        self._live_id, self._side = ceremony.id, side
        self._events.add_of(ceremony, EventKind.CEREMONY_STARTED, form=ceremony.form.value)
        return self.put(ceremony)

    def put(self, ceremony: Ceremony) -> Ceremony:
        """Replace a ceremony by its next value."""
        self._all[ceremony.id] = ceremony
        return ceremony

    def prove(self, ceremony: Ceremony, side: DeviceSide) -> Ceremony:
        """The client's confirmation is right: keep the device's tag until the commit."""
        self._device_tag = side.device_tag()
        return self.put(ceremony.after(Act.PROVE))

    @property
    def device_tag(self) -> bytes:
        """The device's tag of the ceremony that is being stored."""
        return self._device_tag

    def register(self, ceremony_id: str, user: str) -> Ceremony:
        """End a ceremony with success. Raises `Busy` or `NoSuchCeremony`."""
        done = self.require_live(ceremony_id).after(Act.STORE)
        return self._finish(replace(done, user=user, device_tag=self._device_tag), Act.STORE)

    def fail(self, ceremony: Ceremony, act: Act, reason: str) -> Ceremony:
        """End a ceremony other than with success, and count the failure."""
        ended = replace(ceremony.after(act), reason=reason)
        self.failures += 1
        return self._finish(ended, act)

    def take_ended(self) -> list[Ceremony]:
        """Return the ceremonies that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def _finish(self, ceremony: Ceremony, act: Act) -> Ceremony:
        self._live_id = None
        self._side = None  # its secrets are for one ceremony
        self._device_tag = b""
        self.unnotified = ceremony.id
        self._ended.append(ceremony)
        kind = _event_after(act)
        if kind is not None:
            self._events.add_of(ceremony, kind, reason=ceremony.reason)
        return self.put(ceremony)


def _event_after(act: Act) -> EventKind | None:
    """Return the event of a ceremony that this act has ended."""
    match act:
        case Act.REFUSE:
            return EventKind.REFUSED
        case Act.MISMATCH:
            return EventKind.MISMATCH
        case Act.ABORT:
            return EventKind.ABORTED
        case Act.LATE:
            return EventKind.EXPIRED
        case Act.STORE:
            return EventKind.REGISTERED
        case Act.OVERLAP:  # the window adds one event, with both keys
            return None
        case Act.EXCHANGE | Act.ACCEPT | Act.ACCEPT_PLAIN | Act.PROVE:
            raise AssertionError(f"{act} ends no ceremony")
        case _:
            assert_never(act)
