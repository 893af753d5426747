"""A removed right takes effect immediately and affects no other user.

All users of one device observe the board and hold a session ticket. After each change, exactly the
affected users lose their sessions, observations and tickets, on both ports. (Other users may lose
their tickets too: they reconnect with a full handshake.) "Immediately" is measured in turns of the
event loop, so that the result does not depend on the speed of the machine.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from device_app.access.bodies import UserPatch
from device_app.access.clock import SystemClocks
from peer.errors import ObservationEnded
from peer.net.address import Address
from tests.kit.daemon import HOST
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from tests.kit.device import Answer, Caller, Device, Kit

    Change = Callable[["ConnectedUsers"], Awaitable[Any]]

BASE = 2_000_000_000.0
TURNS = 3  # turns of the event loop until a session has ended
NEVER = 86_400.0
NEW = "5a" * 32
RULES = """
[[policy]]
id = "reading"
[[policy.statement]]
effect = "Allow"
actions = ["Board:Read", "Iam:GetMe", "Hello:Get"]
[[role]]
id = "reader"
rank = 5
policies = ["core-unpaired", "reading"]
"""
NO_HELLO = RULES.replace(', "Hello:Get"', "")
NO_READER = ""
LOCAL_ONLY = RULES.replace(
    '"Hello:Get"]', '"Hello:Get"]\nconditions = [{ Bool = { "Connection:IsLocal" = ["true"] } }]'
)
NO_EVENTS = (
    RULES
    + """
[[policy]]
id = "no-trail"
[[policy.statement]]
effect = "Deny"
actions = ["Events:Read"]
[[role]]
id = "admin"
policies = ["core-unpaired", "core-guest", "core-user", "core-admin", "no-trail"]
"""
)


@dataclass
class ConnectedUsers:
    """A device and its connected users, by the name of the key. adam has two keys."""

    kit: Kit
    device: Device
    wall: list[float]
    people: dict[str, Caller] = field(default_factory=dict)
    readings: dict[str, AsyncGenerator[Answer, None]] = field(default_factory=dict)

    @classmethod
    async def create(cls, kit: Kit) -> ConnectedUsers:
        wall = [BASE]
        kit.policy(RULES)
        # The board changes only when a test says so: otherwise a test could mistake an observer
        # whose next notification is refused for a session that has ended.
        # Both clocks are fixed, so that no access ends before a test says so.
        clocks = SystemClocks(wall=lambda: wall[0], monotonic=lambda: 0.0)
        device = await kit.device(clocks=clocks, board_seconds=NEVER)
        self = cls(kit, device, wall)
        for name, role in (
            ("olga", "owner"),
            ("adam", "admin"),
            ("rita", "reader"),
            ("gustav", "guest"),
            ("leo", "guest"),
        ):
            self.people[name] = kit.known(device, name, role)
        self.people["adam-2"] = kit.caller(device)
        second = f"/iam/users/adam/keys/{self.people['adam-2'].fingerprint}"
        assert (await self.people["olga"].ask("PUT", second, {})).code == "2.04"
        self.people["unknown"] = kit.caller(device)
        for name, caller in self.people.items():
            await self.resumes(name)  # the first call stores a ticket
            if name == "unknown":
                assert (await caller.ask("GET", "/hello")).reason == "not-paired"
                continue
            self.readings[name] = caller.observe("/board")
            assert (await anext(self.readings[name])).code == "2.05"
        return self

    async def resumes(self, name: str) -> bool:
        """Reconnect, which stores a new ticket; true if the session was resumed by the old one."""
        address = Address(HOST, self.device.port(pairing=False))
        client = self.people[name].client
        back = await client.connect(
            address, pinned=self.device.fingerprint, timeout=TIMEOUT_SECONDS
        )
        await back.close()
        return back.resumed

    def sessions(self) -> dict[tuple[bool, int], str]:
        """The name of the key of each session, by port and session number."""
        names = {caller.fingerprint: name for name, caller in self.people.items()}
        regular, pairing = (
            self.device.app.server.sessions(),
            self.device.app.pairing.port.sessions(),
        )
        return {
            (is_pairing, one.session_id): names[one.fingerprint.hex]
            for is_pairing, sessions in ((False, regular), (True, pairing))
            for one in sessions
        }

    async def is_notified(self, name: str) -> bool:
        """Make the board notify all observers; true if this one is still notified."""
        board: Any = self.device.app.site.paths()["board",]
        board.updated_state()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return (await anext(self.readings[name])).code == "2.05"
        except (ObservationEnded, StopAsyncIteration):
            return False

    async def assert_only_affected(self, *affected: str) -> None:
        """Check that these lost observation and ticket, and the others kept their observation."""
        for name in self.people.keys() - {"unknown"}:
            assert await self.is_notified(name) == (name not in affected), name
        for name in affected:
            assert not await self.resumes(name), name

    # -- changes --------------------------------------------------------------------------------

    async def ask(self, who: str, method: str, path: str, body: object = None) -> Answer:
        answer = await self.people[who].ask(method, path, body)
        assert answer.code[0] == "2", (answer.code, answer.text)
        return answer

    async def rules(self, text: str) -> None:
        self.kit.policy(text)
        await self.device.app.policies.reload()

    def key(self, name: str) -> str:
        return f"/iam/users/{name.removesuffix('-2')}/keys/{self.people[name].fingerprint}"


LOSSES: dict[str, tuple[Change, set[str]]] = {
    "key removed": (lambda h: h.ask("olga", "DELETE", h.key("adam-2")), {"adam-2"}),
    "user removed": (lambda h: h.ask("olga", "DELETE", "/iam/users/adam"), {"adam", "adam-2"}),
    "own key removed": (lambda h: h.ask("adam", "DELETE", h.key("adam")), {"adam"}),
    "own user removed": (lambda h: h.ask("adam", "DELETE", "/iam/users/adam"), {"adam", "adam-2"}),
    "role changed": (
        lambda h: h.ask("olga", "PATCH", "/iam/users/adam", {"role": "user"}),
        {"adam", "adam-2"},
    ),
    "role and name changed": (
        lambda h: h.ask("olga", "iPATCH", "/iam/users/adam", {"role": "user", "name": "adi"}),
        {"adam", "adam-2"},
    ),
    "end set": (
        lambda h: h.ask("olga", "PATCH", "/iam/users/gustav", {"not_after": BASE + 9000}),
        {"gustav"},
    ),
    "end in the past": (
        lambda h: h.ask("olga", "PATCH", "/iam/users/gustav", {"not_after": BASE - 9000}),
        {"gustav"},
    ),
    "start in the future": (
        lambda h: h.ask("olga", "PATCH", "/iam/users/gustav", {"not_before": BASE + 9000}),
        {"gustav"},
    ),
}
RULE_LOSSES: dict[str, tuple[str, set[str]]] = {
    "action removed from the policy": (NO_HELLO, {"rita"}),
    "condition added to the policy": (LOCAL_ONLY, {"rita"}),
    "deny added to the policy": (NO_EVENTS, {"adam", "adam-2"}),
    "role removed from the policy": (NO_READER, {"rita"}),
}


@pytest.mark.parametrize("what", [*LOSSES, *RULE_LOSSES])
async def test_a_removed_right_ends_the_sessions_observations_and_tickets_it_allowed(
    kit: Kit, what: str
) -> None:
    connected = await ConnectedUsers.create(kit)
    await connected.device.open(role="guest")
    for name in ("adam", "gustav"):
        await connected.people[name].connect(pairing=True)
    affected = (LOSSES | RULE_LOSSES)[what][1]
    before = connected.sessions()
    assert set(before.values()) == connected.people.keys()
    assert list(before.values()).count("adam") == 2
    if what in LOSSES:
        await LOSSES[what][0](connected)
    else:
        await connected.rules(RULE_LOSSES[what][0])
    # The pairing port does not check roles, so changed policies end no session there.
    left = {
        (pairing, number): name
        for (pairing, number), name in before.items()
        if name not in affected or (pairing and what in RULE_LOSSES)
    }
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert connected.sessions() == left
    await connected.assert_only_affected(*affected)


async def invite_withdrawn(connected: ConnectedUsers) -> None:
    """Create an invite and withdraw it."""
    made = (await connected.ask("adam", "POST", "/iam/invites", {"name": "nina"})).body
    await connected.ask("olga", "DELETE", f"/iam/invites/{made['id']}")


async def window_opened_and_closed(connected: ConnectedUsers) -> None:
    await connected.ask("adam", "POST", "/iam/window", {"role": "guest"})
    await connected.ask("olga", "DELETE", "/iam/window")


async def user_added_and_removed(connected: ConnectedUsers) -> None:
    await connected.ask(
        "olga", "POST", "/iam/users", {"name": "nina", "role": "guest", "keys": [NEW]}
    )
    await connected.ask("olga", "DELETE", "/iam/users/nina")


async def refused(connected: ConnectedUsers) -> None:
    for method, path in (("DELETE", "/iam/users/olga"), ("GET", "/events")):
        assert (await connected.people["gustav"].ask(method, path)).reason == "denied"


async def key_added_and_removed(connected: ConnectedUsers) -> None:
    path = f"/iam/users/gustav/keys/{NEW}"
    await connected.ask("olga", "PUT", path, {})
    await connected.ask("olga", "DELETE", path)


HARMLESS_CHANGES: dict[str, Change] = {
    "a new name": lambda h: h.ask("olga", "PATCH", "/iam/users/adam", {"name": "adi"}),
    "own new name": lambda h: h.ask("adam", "PATCH", "/iam/users/adam", {"name": "adi"}),
    "a display name": lambda h: h.ask("olga", "PATCH", "/iam/users/leo", {"display": "Leo L."}),
    "a key's name": lambda h: h.ask("olga", "PUT", h.key("adam-2"), {"name": "tablet"}),
    "same role": lambda h: h.ask("olga", "PATCH", "/iam/users/leo", {"role": "guest"}),
    "another user added and removed": user_added_and_removed,
    "key added and removed": key_added_and_removed,
    "invites": invite_withdrawn,
    "a window": window_opened_and_closed,
    "refusals": refused,
    "a role that no user has": lambda h: h.rules(RULES + '[[role]]\nid="x"\nrank=1\npolicies=[]\n'),
}


@pytest.mark.parametrize("what", HARMLESS_CHANGES)
async def test_a_change_that_removes_no_right_ends_no_session(kit: Kit, what: str) -> None:
    connected = await ConnectedUsers.create(kit)
    before = connected.sessions()
    await HARMLESS_CHANGES[what](connected)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert connected.sessions() == before
    await connected.assert_only_affected()
    if what.endswith("name"):
        assert all([await connected.resumes(name) for name in connected.people])


async def test_the_session_of_a_limited_user_ends_when_the_access_expires(kit: Kit) -> None:
    """No request and no change causes it: only the clock advances."""
    connected = await ConnectedUsers.create(kit)
    control = connected.device.app.access
    control.registry.set_user(None, "leo", UserPatch(not_after=BASE + 0.3))
    control.registry.set_user(None, "gustav", UserPatch(not_after=BASE + 5000))
    await connected.device.until(lambda: not {"leo", "gustav"} & set(connected.sessions().values()))
    for name in ("leo", "gustav"):  # the limit ended their sessions, so they reconnect
        await connected.resumes(name)
        connected.readings[name] = connected.people[name].observe("/board")
        assert (await anext(connected.readings[name])).code == "2.05"
    before = connected.sessions()
    head = control.store.audit.head
    connected.wall[0] += 1
    with pytest.raises(ObservationEnded):  # noqa: PT012  # the loop raises
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async for answer in connected.readings["leo"]:
                assert answer.code == "2.05"
    assert {before[number] for number in before.keys() - connected.sessions().keys()} == {"leo"}
    assert control.store.audit.head == head
    await connected.assert_only_affected("leo")
    assert (await connected.people["leo"].ask("GET", "/hello")).reason == "not-paired"
