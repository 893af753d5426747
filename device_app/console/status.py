"""Everything a person asks first: who, where, who is connected, and what is wrong."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from device_app.access.clock import CLOCK_ADVICE, Clock
from device_app.console.store_recovery import ADVICE as RESTORE_ADVICE
from device_app.errors import Exit
from peer.identity import Fingerprint
from peer.net.admission import SessionPriority
from peer.net.server import CoapsServer, SessionInfo

_STANDINGS = {
    SessionPriority.LOW: "unpaired",
    SessionPriority.NORMAL: "paired",
    SessionPriority.HIGH: "owner",
}
"""The values of `standing` in the status."""


def package_version() -> str:
    """Of the installed distribution; of a source tree that is not installed, nobody knows."""
    try:
        return version("handfast")
    except PackageNotFoundError:
        return "0+unknown"


def identity_view(name: str, fingerprint: Fingerprint) -> dict[str, Any]:
    """Who this device is."""
    return {"name": name, "id": fingerprint.device_id, "fingerprint": fingerprint.hex}


def session_view(session: SessionInfo, user: str | None, *, port: str) -> dict[str, Any]:
    """One established session."""
    return {
        "session": session.session_id,
        "on": port,
        "user": user,
        "fingerprint": session.fingerprint.hex,
        "address": str(session.address),
        "interface": session.interface,
        "local": session.is_local,
        "standing": _STANDINGS[session.priority],
        "idle_seconds": round(session.idle_seconds, 1),
    }


def counters_view(server: CoapsServer | None) -> dict[str, int]:
    """What an endpoint counted, by kind."""
    return dict(sorted(server.counters.items())) if server is not None else {}


def clock_view(clock: Clock) -> dict[str, Any]:
    """The device's time, whether the system's is believed, and what is doubtful about it."""
    return {"now": int(clock.now()), "known": clock.known, "trouble": clock.trouble}


def problems_of(status: Mapping[str, Any]) -> list[str]:
    """What `health` complains about; nothing if all is well."""
    found = []
    if status["store"]["trouble"]:
        found.append(str(status["store"]["trouble"]))
    if status["store"]["recovery"]:
        found.append(f"{status['store']['recovery']['why']}. {RESTORE_ADVICE}")
    if status["policy"]["trouble"]:
        found.append(str(status["policy"]["trouble"]))
    if trouble := status["window"].get("trouble"):
        found.append(str(trouble))
    if status["clock"]["trouble"]:
        found.append(f"{status['clock']['trouble']}. {CLOCK_ADVICE}")
    if not status["addresses"]:
        found.append("the daemon listens nowhere")
    return found


def health_of(status: Mapping[str, Any]) -> tuple[dict[str, Any], Exit]:
    """The answer of `health` and its exit code."""
    problems = problems_of(status)
    return {"healthy": not problems, "problems": problems}, (Exit.OTHER if problems else Exit.DONE)
