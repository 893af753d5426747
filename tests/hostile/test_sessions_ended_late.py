"""A session that is ended some turns after its rights were removed gains nothing from them.

Many sessions are ended in steps. Here no step is ever taken, so each session stays as if it were
the last of very many, and asks for what it could do before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hostile.test_removed_rights import (
    BASE,
    LOSSES,
    NO_EVENTS,
    NO_HELLO,
    NO_READER,
    ConnectedUsers,
)

if TYPE_CHECKING:
    from tests.kit.device import Kit

Asked = tuple[str, str, object]
WRITES: dict[str, list[Asked]] = {
    "adam": [
        ("POST", "/iam/users", {"name": "nina", "role": "guest"}),
        ("PATCH", "/iam/users/leo", {"display": "L."}),
        ("DELETE", "/iam/users/leo", None),
    ]
}
LOST: dict[str, tuple[str, list[str], str]] = {
    "key removed": ("adam-2", ["/hello"], "not-paired"),
    "user removed": ("adam", ["/events", "/iam/users"], "not-paired"),
    "role changed": ("adam", ["/events"], "denied"),
    "end in the past": ("gustav", ["/hello", "/iam/me"], "not-paired"),
    "start in the future": ("gustav", ["/hello", "/iam/me"], "not-paired"),
    NO_HELLO: ("rita", ["/hello"], "denied"),
    NO_EVENTS: ("adam", ["/events"], "denied"),
    NO_READER: ("rita", ["/hello", "/iam/me"], "denied"),
}
"""Each change with a user whom it concerns, the paths that the user could read, and the reason."""


@pytest.mark.parametrize("what", LOST)
async def test_a_session_that_waits_for_its_end_is_decided_by_the_new_rights(
    kit: Kit, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = await ConnectedUsers.create(kit)
    name, paths, reason = LOST[what]
    caller = connected.people[name]
    for path in (*paths, *paths):  # the device may remember what it has decided
        assert (await caller.ask("GET", path)).code == "2.05"
    before = connected.sessions()
    monkeypatch.setattr(connected.device.app.server, "ending_sessions", lambda _which: iter(()))
    if what in LOSSES:
        await LOSSES[what][0](connected)
    else:
        await connected.rules(what)
    for path in paths:
        assert (await caller.ask("GET", path)).reason == reason
    for method, path, body in WRITES[name] if name in WRITES and what in LOSSES else ():
        assert (await caller.ask(method, path, body)).reason == reason
    assert "leo" in connected.device.users.users
    assert "nina" not in connected.device.users.users
    assert await connected.is_notified(name) == (what in {"role changed", NO_HELLO, NO_EVENTS})
    assert connected.sessions() == before  # the same sessions were asked all the time


async def test_a_session_that_waits_for_its_end_is_decided_by_the_clock(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = await ConnectedUsers.create(kit)
    monkeypatch.setattr(connected.device.app.server, "ending_sessions", lambda _which: iter(()))
    await connected.ask("olga", "PATCH", "/iam/users/gustav", {"not_after": BASE + 5000})
    caller = connected.people["gustav"]
    before = connected.sessions()
    assert (await caller.ask("GET", "/hello")).code == "2.05"
    connected.wall[0] += 5001
    assert (await caller.ask("GET", "/hello")).reason == "not-paired"
    assert connected.sessions() == before
