"""What the command line prints: data on stdout, talk on stderr; with `--json`, JSON lines."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from device_app.durations import spoken
from peer.identity import Fingerprint

SCHEMA = 1


def data(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps({"schema": SCHEMA, **value}, ensure_ascii=False), flush=True)


def lines(text: Iterable[str]) -> None:
    """Data for people on stdout."""
    for line in text:
        print(line, flush=True)


def talk(text: str = "", *, end: str = "\n") -> None:
    """A word to the person, on stderr."""
    print(text, file=sys.stderr, end=end, flush=True)


def failure(message: str, advice: str) -> None:
    """An error: what happened, and what to do next."""
    talk(f"error: {message}")
    if advice:
        talk(f"  {advice}")


def fingerprint_lines(value: Mapping[str, Any]) -> list[str]:
    """The device's id and fingerprint, for people to compare."""
    fingerprint = Fingerprint.parse(value["fingerprint"])
    groups = fingerprint.grouped.split()
    return [
        f"id           {fingerprint.device_id}",
        f"fingerprint  {' '.join(groups[:8])}",
        f"             {' '.join(groups[8:])}",
    ]


def banner_lines(status: Mapping[str, Any]) -> list[str]:
    """What `run` says when it is ready."""
    users = status["users"]
    window = status["window"]
    state = (
        f"open for {window['seconds_left']:.0f} s on port {window['port']}, role {window['role']}"
        if window["open"]
        else "closed (`handfast-device open` opens it)"
    )
    return [
        f"name         {status['name']}",
        *fingerprint_lines(status),
        f"listening    {', '.join(status['addresses'])}",
        f"users        {len(users) or 'none yet: the first to pair becomes the owner'}",
        f"window       {state}",
    ]


def user_lines(user: Mapping[str, Any]) -> list[str]:
    """One user with all keys."""
    shown = f" ({user['display']})" if user.get("display") else ""
    found = [f"{user['name']}{shown}: {user['role']}"]
    for field, words in (("not_before", "from"), ("not_after", "until")):
        if field in user:
            found.append(f"  {words} {user[field]} (seconds since 1970)")
    for key in user["keys"]:
        name = f" {key['name']!r}" if key["name"] else ""
        sure = "" if key["verified"] else ", not verified"
        found.append(f"  {key['fingerprint']}{name} ({key['method'] or 'unknown'}{sure})")
    return found or [user["name"]]


def users_lines(users: list[Mapping[str, Any]]) -> list[str]:
    """Everybody, one a line."""
    if not users:
        return ["nobody is paired yet"]
    wide = max(len(user["name"]) for user in users)
    return [
        f"{user['name']:<{wide}}  {user['role']:<6}  {len(user['keys'])} "
        + ("key" if len(user["keys"]) == 1 else "keys")
        for user in users
    ]


def pending_lines(pending: list[Mapping[str, Any]]) -> list[str]:
    """What waits for the device's user."""
    if not pending:
        return ["nothing waits for an answer"]
    found = []
    for one in pending:
        found += [
            f"{one['id']}  {one['name']!r} wants to be {one['role']}"
            + (f", from {one['address']}" if "address" in one else ""),
            f"  fingerprint {Fingerprint.parse(one['fingerprint']).grouped}",
        ]
    return [*found, "Compare it with what the client shows, then `handfast-device accept`."]


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """`status` for people."""
    found = [f"name         {status['name']}", *fingerprint_lines(status)]
    if not status["running"]:
        return [*found, "daemon       not running", f"users        {len(status['users'])}"]
    window = status["window"]
    found += [
        f"daemon       process {status['pid']}, up {spoken(status['uptime_seconds'])}",
        f"listening    {', '.join(status['addresses'])}",
        f"window       {_window(window)}",
        f"pending      {len(status['pending'])}",
        f"users        {', '.join(u['name'] for u in status['users']) or 'none yet'}",
        f"sessions     {len(status['sessions'])}",
    ]
    for session in status["sessions"]:
        who = session["user"] or "unpaired"
        found.append(
            f"  {who} at {session['address']} ({'local' if session['local'] else 'remote'},"
            f" idle {spoken(session['idle_seconds'])})"
        )
    counted = sum(map(Counter, status["counters"].values()), Counter[str]())
    if counted:
        found.append(f"counted      {', '.join(f'{k} {n}' for k, n in sorted(counted.items()))}")
    if status["store"]["trouble"]:
        found.append(f"trouble      {status['store']['trouble']}")
    return found


def _window(window: Mapping[str, Any]) -> str:
    if window["open"]:
        left = spoken(window["seconds_left"])
        return f"open for {left}, port {window['port']}, role {window['role']}"
    if blocked := window.get("blocked_seconds"):
        return f"closed; too many failures, no attempt for {spoken(blocked)}"
    return "closed"
