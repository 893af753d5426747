"""The state of the device, as `handfast-device` prints it."""

from collections import Counter
from typing import Final

from device_app.access.elsewhere import ADVICE, ElsewhereView
from device_app.console.answers import ClockAnswer
from device_app.console.views import AnnouncementView, StatusAnswer, StoreView, WindowView
from device_app.terminal.render_pairing import label_line, lock_lines, not_offered_lines
from device_app.terminal.render_policy import policy_files
from device_app.terminal.render_remote import state_words
from peer.identity import Fingerprint
from peer.terminal import layout
from peer.terminal.durations import format_duration, format_time

_NETWORKS: Final = {
    "lan": "local",
    "address": "remote",
    "direct": "remote path, direct",
    "relay": "remote path, relayed",
}
_NAMES_SHOWN: Final = 8  # users named in `status`; `users list` has all


def id_and_fingerprint_lines(fingerprint_hex: str) -> list[str]:
    """The device's ID and fingerprint, for people to compare."""
    fingerprint = Fingerprint.parse(fingerprint_hex)
    return [
        f"id           {fingerprint.device_id}",
        *layout.fingerprint_lines("fingerprint  ", fingerprint),
    ]


def banner_lines(status: StatusAnswer) -> list[str]:
    """The lines that `run` prints when it is ready."""
    users = status["user_count"]
    return [
        f"name         {status['name']}",
        *id_and_fingerprint_lines(status["fingerprint"]),
        f"listening    {', '.join(status['addresses'])}",
        f"users        {users or 'none yet: the first client to pair becomes the owner'}",
        f"window       {_window(status['window'])}",
    ]


def status_lines(status: StatusAnswer) -> list[str]:
    """The answer of `status`."""
    found = [f"name         {status['name']}", *id_and_fingerprint_lines(status["fingerprint"])]
    if not status["running"]:
        found += ["daemon       not running", f"users        {_users(status)}"]
        return [*found, *_store_lines(status["store"])]
    window = status["window"]
    found += [
        f"daemon       process {status['pid']}, up {format_duration(status['uptime_seconds'])}",
        f"listening    {', '.join(status['addresses'])}",
        f"announced    {_announced(status['announcement'])}",
        f"window       {_window(window)}",
    ]
    if "code" in window:
        found.append(f"code         {window['code']}")
    if status["failures"]:
        found.append(f"attempts     {status['failures']} failed since the last pairing")
    found += [f"{' ' * 13}{line}" for line in (*lock_lines(window), *not_offered_lines(window))]
    found += [
        f"label        {label_line(status['label'], is_possible=status['board']['label'])}",
        f"pending      {len(status['pending'])}",
        f"users        {_users(status)}",
        f"sessions     {len(status['sessions'])}",
    ]
    for session in status["sessions"]:
        network = _NETWORKS[session["path"]]
        idle = format_duration(session["idle_seconds"])
        user = session["user"] or "unpaired"
        found.append(f"  {user} at {session['address']} ({network}, idle {idle})")
    counters = sum(map(Counter, status["counters"].values()), Counter[str]())
    if counters:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(counters.items()))
        found.append(f"counters     {counts}")
    found.append(f"policy       {policy_files(status['policy'])}")
    remote = status["remote"]
    if remote["state"] != "off":
        found.append(f"remote       {state_words(remote)}")
    tunnels = status["tunnels"]
    if tunnels["services"]:
        found.append(f"tunnels      {', '.join(tunnels['services'])}")
    clock = status["clock"]
    if not clock["known"] and not clock["trouble"]:
        found.append("clock        not set: access periods use the last known time")
    found += _elsewhere_lines(status.get("elsewhere", []))
    troubles = (
        *(status["policy"]["trouble"], window.get("trouble"), clock["trouble"]),
        remote["trouble"],
        tunnels["trouble"],
    )
    for trouble in troubles:
        if trouble:
            found.append(f"problem      {trouble}")
    return [*found, *_store_lines(status["store"])]


def _users(status: StatusAnswer) -> str:
    names, count = [user["name"] for user in status["users"]], status["user_count"]
    if count > _NAMES_SHOWN:
        return f"{count} (`handfast-device users list` lists them)"
    return f"{count} ({', '.join(names)})" if names else "none yet"


def _announced(announcement: AnnouncementView) -> str:
    if not announcement["enabled"]:
        return "no: `advertise` is off in the settings"
    trouble = announcement["trouble"]
    return f"no, trying again until it works: {trouble}" if trouble else "yes, by mDNS"


def _elsewhere_lines(elsewhere: list[ElsewhereView]) -> list[str]:
    if not elsewhere:
        return []
    addresses = ", ".join(one["address"] for one in elsewhere)
    return [
        f"notice       the ID of this device is also announced from {addresses}",
        f"             {ADVICE}.",
    ]


def _window(window: WindowView) -> str:
    if window["open"]:
        left = format_duration(window["seconds_left"])
        return f"open for {left}, port {window['port']}, role {window['role']}"
    if "trouble" in window:
        return "closed, and cannot be opened (`handfast-device health` shows the reason)"
    return "closed (`handfast-device open` opens it)"


def _store_lines(store: StoreView) -> list[str]:
    recovery = store["recovery"]
    troubles = (store["trouble"], recovery["why"] if recovery is not None else "")
    return [f"problem      {trouble}" for trouble in troubles if trouble]


def clock_lines(clock: ClockAnswer) -> list[str]:
    """The device's time and the system's."""
    found = [
        f"device  {format_time(clock['now'], with_seconds=True)}",
        f"system  {format_time(clock['system'], with_seconds=True)}",
    ]
    if clock["trouble"]:
        found.append(f"Problem: {clock['trouble']}.")
    if not clock["known"]:
        found.append("The system's clock is not set, so no condition on the time is met.")
    if clock["trouble"] or not clock["known"]:
        found.append("If the system's clock is right, run: handfast-device clock --trust-system")
    return found
