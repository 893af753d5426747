"""The status of the running daemon: what `status --json` shows, without its schema."""

import asyncio
import os
from collections.abc import Mapping

from device_app.access.access_control import AccessControl
from device_app.access.policies import Policies
from device_app.console.pairing_console import ceremony_view, window_view
from device_app.console.status import board_view, clock_view, found_problems, users_summary
from device_app.console.store_recovery import store_view
from device_app.console.views import SessionView, StatusAnswer
from device_app.pairing.announcer import Announcer
from device_app.pairing.service import PairingService
from device_app.process.log_destination import own_log
from device_app.remote.off import RemoteReach
from device_app.settings.config import Settings
from peer.net.admission import SessionPriority
from peer.net.server import CoapsServer, SessionInfo
from peer.terminal.version import package_version

_PRIORITY_NAMES = {
    SessionPriority.LOW: "unpaired",
    SessionPriority.NORMAL: "paired",
    SessionPriority.HIGH: "owner",
}
"""The values of the field `standing`."""


class DeviceStatus:
    """Describes the running daemon."""

    def __init__(
        self,
        settings: Settings,
        control: AccessControl,
        service: PairingService,
        server: CoapsServer,
        policies: Policies,
        announcer: Announcer,
        *,
        remote: RemoteReach,
        name: str,
    ) -> None:
        self._settings = settings
        self._control = control
        self._service = service
        self._server = server
        self._policies = policies
        self._announcer = announcer
        self._remote = remote
        self._name = name
        self._started = asyncio.get_running_loop().time()

    def view(self) -> StatusAnswer:
        """Return the state of everything that a person may ask about."""
        service, server, settings = self._service, self._server, self._settings
        state = self._control.store.state
        pending = service.ceremonies.pending()
        return {
            "running": True,
            "pid": os.getpid(),
            "version": package_version("0+unknown"),
            "name": self._name,
            "id": service.device.device_id,
            "fingerprint": service.device.hex,
            "uptime_seconds": round(asyncio.get_running_loop().time() - self._started, 1),
            "port": server.port,
            "pairing_port": service.port.number or None,
            "addresses": [str(address) for address in server.addresses],
            "local": {"mode": settings.local.value, "allow_loopback": settings.allow_loopback},
            "announcement": {"enabled": settings.advertise, "trouble": self._announcer.trouble},
            "window": window_view(service),
            "pending": [ceremony_view(service, pending)] if pending else [],
            "failures": service.budget.failures,
            "board": board_view(service.methods.hardware),
            "label": {
                "made": service.methods.label.is_made,
                "dead": service.methods.is_code_blocked,
            },
            "users": users_summary(state),
            "user_count": len(state.users),
            "sessions": self._sessions(),
            "counters": {
                "regular": counters_view(server.counters),
                "pairing": counters_view(service.port.counters),
            },
            "events": counters_view(self._control.writer.event_counts),
            "policy": self._policies.view(),
            "clock": clock_view(self._control.clock),
            "log": own_log(),
            "elsewhere": self._announcer.elsewhere.view(),
            "store": store_view(self._control),
            "remote": self._remote.view(),
            "tunnels": {
                "services": sorted(settings.tunnel.services),
                "trouble": settings.tunnel.trouble,
            },
        }

    def problems(self) -> list[str]:
        """Return what `health` finds in the status, without the rest of it."""
        service = self._service
        return found_problems(
            store=store_view(self._control),
            policy_trouble=self._policies.view()["trouble"],
            window_trouble="" if service.is_open else service.trouble,
            clock_trouble=self._control.clock.trouble,
            is_listening=bool(self._server.addresses),
            remote_trouble=self._remote.problem(),
            tunnel_trouble=self._settings.tunnel.trouble,
        )

    def summary(self) -> str:
        """Return the state in a few words, for the service manager."""
        window = "open" if self._service.is_open else "closed"
        users = len(self._control.store.state.users)
        sessions = len(self._server.sessions())
        return f"window {window}, {_count(users, 'user')}, {_count(sessions, 'session')}"

    def _sessions(self) -> list[SessionView]:
        state = self._control.store.state
        ports = (
            ("regular", self._server.sessions()),
            ("pairing", self._service.port.sessions()),
        )
        return [
            session_view(session, user.name if user else None, port=port)
            for port, sessions in ports
            for session in sessions
            for user in [state.user_of(session.fingerprint.hex)]
        ]


def session_view(session: SessionInfo, user: str | None, *, port: str) -> SessionView:
    """An established session on the `regular` or the `pairing` port."""
    return {
        "session": session.session_id,
        "on": port,
        "user": user,
        "fingerprint": session.fingerprint.hex,
        "address": str(session.address),
        "interface": session.interface,
        "local": session.is_local,
        "path": session.path.value,
        "standing": _PRIORITY_NAMES[session.priority],
        "idle_seconds": round(session.idle_seconds, 1),
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def counters_view(counters: Mapping[str, int]) -> dict[str, int]:
    """Counters, by kind."""
    return dict(sorted(counters.items()))
