"""What the control socket's verbs do on the running daemon."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from device_app.access.access_control import AccessControl
from device_app.access.invitations import Invitations
from device_app.console.audit import follow
from device_app.console.control_messages import JsonObject, Tell
from device_app.console.control_server import Handler
from device_app.console.table import ConsoleVerb, console_verbs
from device_app.errors import AppError
from device_app.pairing import labels
from device_app.pairing.events import PairingEventKind, WindowEvents
from device_app.pairing.methods import LABEL_RECORD
from device_app.pairing.pending import find_pending_untrusted
from device_app.pairing.service import PairingService
from iam.builtin import OWNER
from peer.pairing.ceremony import Ceremony, State

Events = Tell[Mapping[str, object]]
CLEARING_SECONDS = 5.0  # a press this long clears the back-off (protocol §5.12)
RECOVERY_SECONDS = 10.0  # and one this long lets a new owner in (protocol §5.12)


class Verbs:
    """The verbs, by name. `status` describes the daemon; `reload` puts the policy of the files into
    force, and says which that is; `reset` makes the daemon forget everybody."""

    def __init__(
        self,
        service: PairingService,
        control: AccessControl,
        invitations: Invitations,
        *,
        status: Callable[[], dict[str, Any]],
        reload: Callable[[], Awaitable[Mapping[str, Any]]],
        reset: Callable[[bool], None],
    ) -> None:
        self._service = service
        self._control = control
        self._invitations = invitations
        self._status = status
        self._reload = reload
        self._reset = reset

    def table(self) -> dict[str, Handler]:
        """All of them, for the control socket."""
        own: dict[str, Handler] = {
            "status": self.status,
            "open": self.open,
            "close": self.close,
            "press": self.press,
            "label": self.label,
            "label-revive": self.revive_label,
            "pending": self.pending,
            "accept": self.accept,
            "refuse": self.refuse,
            "events": self.events,
            "policy-reload": self.reload,
            "reset": self.reset,
        }
        console = console_verbs(self._control, lambda: self._invitations)
        own["restore"] = self._restoring(console.pop("restore"))
        return own | {name: _at_once(verb) for name, verb in console.items()}

    async def status(self, _args: JsonObject, _tell: Events) -> dict[str, Any]:
        """Everything a person asks first."""
        return self._status()

    async def open(self, args: JsonObject, tell: Events) -> dict[str, Any]:
        """Open the window; with `wait`, tell what happens until it closes.

        A window that a waiting command opened goes with that command.
        """
        was_open = self._service.is_open
        await self._service.open(
            seconds=args.get("seconds"),
            role=args.get("role"),
            methods=args.get("methods") or (),
            clears_backoff=True,
        )
        if not args.get("wait"):
            return {"window": window_view(self._service)}
        try:
            return await self._watch(tell)
        except (asyncio.CancelledError, ConnectionError):  # the command is gone
            if not was_open:
                self._service.close_window()
            raise

    async def _watch(self, tell: Events) -> dict[str, Any]:
        paired: dict[str, Any] | None = None
        refused = False
        with WindowEvents(self._service.events) as news:
            pending = self._service.ceremonies.pending()
            await tell({"event": "window", "window": window_view(self._service)})
            if pending is not None:
                await tell({"event": "pending", "ceremony": ceremony_view(self._service, pending)})
            while True:
                one = await news.next()
                said: dict[str, Any] = {"event": one.kind.value, "reason": one.reason}
                if one.ceremony is not None:
                    said["ceremony"] = ceremony_view(self._service, one.ceremony)
                    refused = one.ceremony.reason == "refused"
                    if one.ceremony.state is State.REGISTERED:
                        paired = said["ceremony"]
                elif one.kind in {PairingEventKind.OPENED, PairingEventKind.CODE}:
                    said["window"] = window_view(self._service)
                await tell(said)
                if one.kind is PairingEventKind.CLOSED:
                    return {"paired": paired, "closed": one.reason, "refused": refused}

    async def close(self, _args: JsonObject, _tell: Events) -> dict[str, Any]:
        """Close the window."""
        return {"closed": self._service.close_window()}

    async def press(self, args: JsonObject, _tell: Events) -> dict[str, Any]:
        """The board's button: a window in which whoever is first pairs; held for longer, more."""
        service = self._service
        if not service.methods.hardware.button:
            raise AppError(
                "this board has no button, by its configuration",
                advice="Set `button = true` in the table [board] of device.toml.",
            )
        held = float(args.get("held") or 0.0)
        is_recovery = held >= RECOVERY_SECONDS
        if is_recovery and service.role_for(None) != OWNER:
            service.close_window()  # whoever is at the board wants another one
        await service.open(
            role=OWNER if is_recovery else None,
            clears_backoff=held >= CLEARING_SECONDS,
            pressed=True,
        )
        return {"window": window_view(service)}

    async def label(self, args: JsonObject, _tell: Events) -> dict[str, Any]:
        """A new label for the board."""
        labels.require_label(self._service.methods.hardware)
        label, words = labels.made(
            self._control, self._service.device, replace=bool(args.get("replace"))
        )
        self._service.methods.replace_label(label)
        return words

    async def revive_label(self, _args: JsonObject, _tell: Events) -> dict[str, Any]:
        """The code on the label can be used again."""
        label, words = labels.revived(self._control, limits=self._service.limits)
        self._service.methods.replace_label(label)
        return words

    async def pending(self, _args: JsonObject, _tell: Events) -> dict[str, Any]:
        """What waits for the device's user."""
        pending = self._service.ceremonies.pending()
        return {"pending": [ceremony_view(self._service, pending)] if pending else []}

    async def accept(self, args: JsonObject, _tell: Events) -> dict[str, Any]:
        """The device's user says yes to the client that `id` names."""
        return self._decide(args.get("id"), accept=True)

    async def refuse(self, args: JsonObject, _tell: Events) -> dict[str, Any]:
        """The device's user says no to the client that `id` names."""
        return self._decide(args.get("id"), accept=False)

    def _decide(self, wanted: object, *, accept: bool) -> dict[str, Any]:
        pending = find_pending_untrusted(self._service.ceremonies.pending(), wanted)
        done = self._service.ceremonies.decide(pending.id, accept=accept)
        return {"ceremony": ceremony_view(self._service, done)}

    async def events(self, args: JsonObject, tell: Events) -> dict[str, Any]:
        """The audit trail from somewhere on, for as long as the caller listens."""
        return await follow(self._control.store, args, tell)

    async def reload(self, _args: JsonObject, _tell: Events) -> dict[str, Any]:
        """The policy of the files."""
        return dict(await self._reload())

    def _restoring(self, restore: ConsoleVerb) -> Handler:
        """Put a copy of the store back, and begin anew with it."""

        async def run(args: JsonObject, _tell: Events) -> dict[str, Any]:
            done = restore(args)
            self._reset(True)  # the identity stays
            return done

        return run

    async def reset(self, args: JsonObject, _tell: Events) -> dict[str, Any]:
        """Factory reset of the running daemon."""
        self._service.close_window()  # its events name people, and go with all others
        keep = bool(args.get("keep_identity"))
        self._control.registry.forget_all(keep=(LABEL_RECORD,) if keep else ())
        self._reset(keep)
        return {"reset": True, "kept_identity": keep}


def _at_once(verb: ConsoleVerb) -> Handler:
    async def run(args: JsonObject, _tell: Events) -> dict[str, Any]:
        return verb(args)

    return run


def window_view(service: PairingService) -> dict[str, Any]:
    """The window as `status` and `open` show it."""
    if not service.is_open or service.window is None:
        view: dict[str, Any] = {"open": False, "port": service.port.number or None}
        return (
            view
            | _blocked_view(service)
            | ({"trouble": service.trouble} if service.trouble else {})
        )
    return {
        "open": True,
        "port": service.port.number,
        "seconds_left": round(service.seconds_left, 1),
        "role": service.window.role,
        "methods": list(service.window.methods),
        "failures": service.window.failures,
        **_blocked_view(service),
        **({"code": service.methods.shown_code} if service.methods.shown_code else {}),
        "device_id": service.device.device_id,
        "fingerprint": service.device.hex,
    }


def _blocked_view(service: PairingService) -> dict[str, Any]:
    """How long no ceremony may start, where that is so; paired clients do not notice."""
    blocked = service.seconds_blocked()
    return {"blocked_seconds": round(blocked)} if blocked else {}


def ceremony_view(service: PairingService, ceremony: Ceremony) -> dict[str, Any]:
    """A ceremony for the device's user: everything to compare, no tag."""
    view: dict[str, Any] = {
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
            view |= {"address": str(session.address), "interface": session.interface}
    return view
