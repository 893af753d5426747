"""The console's verbs on the pairing window of the running daemon, and how they show it."""

import asyncio
from typing import Final

from device_app.console.control_messages import Tell
from device_app.console.views import CeremonyView, OpenAnswer, WindowEvent, WindowView
from device_app.errors import AppError
from device_app.pairing.events import PairingEvent, PairingEventKind, WindowEvents
from device_app.pairing.pending import find_pending_untrusted
from device_app.pairing.service import PairingService
from iam.builtin import OWNER
from peer.errors import UsageError
from peer.pairing.ceremony import Ceremony, State
from peer.pairing.methods import Method
from peer.pairing.window_timer import CloseReason
from peer.terminal.durations import format_duration
from peer.terminal.exit_codes import ExitCode

CLEARING_SECONDS: Final = 5.0  # a press this long clears the back-off (protocol §5.12)
RECOVERY_SECONDS: Final = 10.0  # and one this long lets a new owner pair (protocol §5.12)


class PairingConsole:
    """The pairing window, for a person at the board."""

    def __init__(self, service: PairingService) -> None:
        self._service = service

    @property
    def is_open(self) -> bool:
        """Whether a client can start to pair."""
        return self._service.is_open

    async def open(
        self, *, seconds: float | None, role: str | None, methods: tuple[str, ...]
    ) -> None:
        """Open the window or extend it, and clear the back-off.

        Raises:
            AppError: the time is longer than a window may be open, or there is no such method; or
                the window that is open is for another role, or the board lacks a method.
        """
        most = self._service.limits.window_max_seconds
        if seconds is not None and seconds > most:
            raise AppError(
                f"a pairing window is open for {format_duration(most)} at most",
                advice="Open it again later. The limit is `window_max_seconds` in device.toml.",
                code=ExitCode.USAGE,
            )
        for name in methods:
            if name not in {method.value for method in Method}:
                raise AppError(
                    f"there is no pairing method {name!r}",
                    advice=f"Choose from: {', '.join(Method)}.",
                    code=ExitCode.USAGE,
                )
        try:
            await self._service.open(
                seconds=seconds, role=role, methods=methods, clears_backoff=True
            )
        except UsageError as error:  # the exit code of the same answer to a user elsewhere
            code = ExitCode.REQUEST
            raise AppError(str(error), advice=error.advice, code=code) from error

    async def follow(self, tell: Tell[WindowEvent], *, closes_at_end: bool) -> OpenAnswer:
        """Tell the events of the open window until it closes, and return how it ended.

        Args:
            tell: sends an event to the client.
            closes_at_end: close the window if the client disconnects, because it opened it.
        """
        try:
            return await self._follow(tell)
        except (asyncio.CancelledError, ConnectionError):  # the client has disconnected
            if closes_at_end:
                self._service.close_window()
            raise

    async def _follow(self, tell: Tell[WindowEvent]) -> OpenAnswer:
        paired: CeremonyView | None = None
        refused = False
        with WindowEvents(self._service.events) as events:
            window = self._service.window
            if window is not None and window.closed_because:  # while its port was opened
                return {"paired": None, "closed": window.closed_because, "refused": False}
            waiting = self.pending()
            await tell({"event": "window", "window": self.window_view()})
            for ceremony in waiting:
                await tell({"event": "pending", "ceremony": ceremony})
            while True:
                event = await events.next()
                shown = self._event_view(event)
                if event.ceremony is not None:
                    refused = event.ceremony.reason == "refused"
                    if event.ceremony.state is State.REGISTERED:
                        paired = shown["ceremony"]
                await tell(shown)
                if event.kind is PairingEventKind.CLOSED:
                    return {"paired": paired, "closed": event.reason, "refused": refused}

    def _event_view(self, event: PairingEvent) -> WindowEvent:
        shown: WindowEvent = {"event": event.kind.value, "reason": event.reason}
        if event.ceremony is not None:
            shown["ceremony"] = ceremony_view(self._service, event.ceremony)
        elif event.kind in {PairingEventKind.OPENED, PairingEventKind.CODE}:
            shown["window"] = self.window_view()
        return shown

    def close(self) -> bool:
        """Close the window, and refuse a client that is pairing. False if it was closed."""
        return self._service.close_window()

    async def press(self, held_seconds: float) -> None:
        """Do what the board's button does (protocol §5.12).

        Raises:
            AppError: the board has no button, by its configuration.
        """
        service = self._service
        if not service.methods.hardware.button:
            raise AppError(
                "the configuration says that this board has no button",
                advice="Set `button = true` in the table [board] of device.toml.",
            )
        is_recovery = held_seconds >= RECOVERY_SECONDS
        if is_recovery and service.role_for(None) != OWNER:
            service.close_window(reason=CloseReason.REPLACED)  # it would give another role
        await service.open(
            role=OWNER if is_recovery else None,
            clears_backoff=held_seconds >= CLEARING_SECONDS,
            pressed=True,
        )

    def pending(self) -> list[CeremonyView]:
        """The ceremony that waits for the device's user, if there is one."""
        pending = self._service.ceremonies.pending()
        return [ceremony_view(self._service, pending)] if pending is not None else []

    def decide(self, client: str, *, accept: bool) -> CeremonyView:
        """Accept or refuse the client that waits, named by ceremony ID or fingerprint."""
        pending = find_pending_untrusted(self._service.ceremonies.pending(), client)
        decided = self._service.ceremonies.decide(pending.id, accept=accept)
        return ceremony_view(self._service, decided)

    def window_view(self) -> WindowView:
        """The window, as `status` and `open` show it."""
        return window_view(self._service)


def window_view(service: PairingService) -> WindowView:
    """The window, as `status` and `open` show it."""
    window = service.window
    if window is None or not service.is_open:
        view: WindowView = {"open": False, "port": service.port.number or None}
        if blocked := service.seconds_blocked():
            view["blocked_seconds"] = round(blocked)
        if service.trouble:
            view["trouble"] = service.trouble
        return view
    view = {
        "open": True,
        "port": service.port.number,
        "seconds_left": round(service.seconds_left, 1),
        "role": window.role,
        "methods": list(window.methods),
        "failures": window.failures,
    }
    if blocked := service.seconds_blocked():
        view["blocked_seconds"] = round(blocked)
    if not_offered := service.methods.not_installed():
        view["not_offered"] = not_offered
    if code := service.methods.shown_code:
        view["code"] = code
    return {**view, "device_id": service.device.device_id, "fingerprint": service.device.hex}


def ceremony_view(service: PairingService, ceremony: Ceremony) -> CeremonyView:
    """A ceremony, with everything that the device's user compares and no secret."""
    view: CeremonyView = {
        "id": ceremony.id,
        "name": ceremony.name,
        "fingerprint": ceremony.fingerprint.hex,
        "role": ceremony.role,
        "method": ceremony.method,
        "form": ceremony.form.value,
        "state": ceremony.state.value,
    }
    if ceremony.number:
        view["number"] = ceremony.number
    if ceremony.reason:
        view["reason"] = ceremony.reason
    for session in service.port.sessions():
        if session.session_id == ceremony.session_id:
            view["address"], view["interface"] = str(session.address), session.interface
    return view
