"""A removed right ends immediately, with all that depends on it; no other user is affected.

All users of one device observe the board and hold a session ticket. After each
change the sessions and observations of exactly those concerned are gone, on both ports, and their
tickets. (Others' tickets may go as well: they come back by a whole handshake and see no change.)
"At once" is counted in turns of the device's loop, so that no machine is too slow for it.
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

    Change = Callable[["House"], Awaitable[Any]]

BASE = 2_000_000_000.0
TURNS = 3  # of the loop, until a session has ended
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
LESS = RULES.replace(', "Hello:Get"', "")
NO_READER = ""
NEAR = RULES.replace(
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
class House:
    """The connected users by the name of the key; adam has two keys."""

    kit: Kit
    device: Device
    wall: list[float]
    people: dict[str, Caller] = field(default_factory=dict)
    readings: dict[str, AsyncGenerator[Answer, None]] = field(default_factory=dict)

    @classmethod
    async def built(cls, kit: Kit) -> House:
        wall = [BASE]
        kit.policy(RULES)
        # The board has news only when a test says so: an observer that is refused its next
        # notification would else be seen in the place of a session that ends.
        # Both clocks stand still, so that no one's time ends before a test says so.
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
        self.people["stranger"] = kit.caller(device)
        for name, caller in self.people.items():
            await self.has_ticket(name)  # and from now on there is one
            if name == "stranger":
                assert (await caller.ask("GET", "/hello")).reason == "not-paired"
                continue
            self.readings[name] = caller.observe("/board")
            assert (await anext(self.readings[name])).code == "2.05"
        return self

    async def has_ticket(self, name: str) -> bool:
        """Comes back, and takes another ticket along."""
        address = Address(HOST, self.device.port(pairing=False))
        client = self.people[name].client
        back = await client.connect(
            address, pinned=self.device.fingerprint, timeout=TIMEOUT_SECONDS
        )
        await back.close()
        return back.resumed

    def sessions(self) -> dict[tuple[bool, int], str]:
        """Port and number of a session, and the name of its key."""
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

    async def still_hears(self, name: str) -> bool:
        """Whether an observation continues: the board notifies all observers."""
        board: Any = self.device.app.site.paths()["board",]
        board.updated_state()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return (await anext(self.readings[name])).code == "2.05"
        except (ObservationEnded, StopAsyncIteration):
            return False

    async def only_gone(self, *concerned: str) -> None:
        """What these had is gone, and of others neither a session nor an observation."""
        for name in self.people.keys() - {"stranger"}:
            assert await self.still_hears(name) == (name not in concerned), name
        for name in concerned:
            assert not await self.has_ticket(name), name

    # -- what happens ---------------------------------------------------------------------------

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
    "a key": (lambda h: h.ask("olga", "DELETE", h.key("adam-2")), {"adam-2"}),
    "a user": (lambda h: h.ask("olga", "DELETE", "/iam/users/adam"), {"adam", "adam-2"}),
    "one's own key": (lambda h: h.ask("adam", "DELETE", h.key("adam")), {"adam"}),
    "oneself": (lambda h: h.ask("adam", "DELETE", "/iam/users/adam"), {"adam", "adam-2"}),
    "a role": (
        lambda h: h.ask("olga", "PATCH", "/iam/users/adam", {"role": "user"}),
        {"adam", "adam-2"},
    ),
    "a role with a new name": (
        lambda h: h.ask("olga", "iPATCH", "/iam/users/adam", {"role": "user", "name": "adi"}),
        {"adam", "adam-2"},
    ),
    "time": (
        lambda h: h.ask("olga", "PATCH", "/iam/users/gustav", {"not_after": BASE + 9000}),
        {"gustav"},
    ),
    "time already over": (
        lambda h: h.ask("olga", "PATCH", "/iam/users/gustav", {"not_after": BASE - 9000}),
        {"gustav"},
    ),
    "time not yet come": (
        lambda h: h.ask("olga", "PATCH", "/iam/users/gustav", {"not_before": BASE + 9000}),
        {"gustav"},
    ),
}
RULE_LOSSES: dict[str, tuple[str, set[str]]] = {
    "a right by policy": (LESS, {"rita"}),
    "a right by a condition": (NEAR, {"rita"}),
    "a right by a deny": (NO_EVENTS, {"adam", "adam-2"}),
    "the role itself": (NO_READER, {"rita"}),
}


@pytest.mark.parametrize("what", [*LOSSES, *RULE_LOSSES])
async def test_who_loses_something_loses_all_that_was_made_with_it(kit: Kit, what: str) -> None:
    house = await House.built(kit)
    await house.device.open(role="guest")
    for name in ("adam", "gustav"):
        await house.people[name].connect(pairing=True)
    concerned = (LOSSES | RULE_LOSSES)[what][1]
    before = house.sessions()
    assert set(before.values()) == house.people.keys()
    assert list(before.values()).count("adam") == 2
    if what in LOSSES:
        await LOSSES[what][0](house)
    else:
        await house.rules(RULE_LOSSES[what][0])
    # At the pairing port no role counts, so other rules change nothing there.
    left = {
        (pairing, number): name
        for (pairing, number), name in before.items()
        if name not in concerned or (pairing and what in RULE_LOSSES)
    }
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert house.sessions() == left
    await house.only_gone(*concerned)


async def invited(house: House) -> None:
    """An invite is made, redeemed and another withdrawn."""
    made = (await house.ask("adam", "POST", "/iam/invites", {"name": "nina"})).body
    await house.ask("olga", "DELETE", f"/iam/invites/{made['id']}")


async def opened_and_closed(house: House) -> None:
    await house.ask("adam", "POST", "/iam/window", {"role": "guest"})
    await house.ask("olga", "DELETE", "/iam/window")


async def added_and_removed(house: House) -> None:
    await house.ask("olga", "POST", "/iam/users", {"name": "nina", "role": "guest", "keys": [NEW]})
    await house.ask("olga", "DELETE", "/iam/users/nina")


async def refused(house: House) -> None:
    for method, path in (("DELETE", "/iam/users/olga"), ("GET", "/events")):
        assert (await house.people["gustav"].ask(method, path)).reason == "denied"


async def a_key_more_and_less(house: House) -> None:
    path = f"/iam/users/gustav/keys/{NEW}"
    await house.ask("olga", "PUT", path, {})
    await house.ask("olga", "DELETE", path)


NOTHING: dict[str, Change] = {
    "a new name": lambda h: h.ask("olga", "PATCH", "/iam/users/adam", {"name": "adi"}),
    "one's own new name": lambda h: h.ask("adam", "PATCH", "/iam/users/adam", {"name": "adi"}),
    "a display name": lambda h: h.ask("olga", "PATCH", "/iam/users/leo", {"display": "Leo L."}),
    "a key's name": lambda h: h.ask("olga", "PUT", h.key("adam-2"), {"name": "tablet"}),
    "the role one has": lambda h: h.ask("olga", "PATCH", "/iam/users/leo", {"role": "guest"}),
    "others come and go": added_and_removed,
    "a key more and less": a_key_more_and_less,
    "invites": invited,
    "a window": opened_and_closed,
    "refusals": refused,
    "a role that no user has": lambda h: h.rules(RULES + '[[role]]\nid="x"\nrank=1\npolicies=[]\n'),
}


@pytest.mark.parametrize("what", NOTHING)
async def test_what_takes_nothing_away_ends_nothing(kit: Kit, what: str) -> None:
    house = await House.built(kit)
    before = house.sessions()
    await NOTHING[what](house)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert house.sessions() == before
    await house.only_gone()
    if what.endswith("name"):
        assert all([await house.has_ticket(name) for name in house.people])


async def test_a_limited_user_ends_by_himself(kit: Kit) -> None:
    """There is no request and no change: only the time has expired."""
    house = await House.built(kit)
    control = house.device.app.access
    control.registry.set_user(None, "leo", UserPatch(not_after=BASE + 0.3))
    control.registry.set_user(None, "gustav", UserPatch(not_after=BASE + 5000))
    await house.device.until(lambda: not {"leo", "gustav"} & set(house.sessions().values()))
    for name in ("leo", "gustav"):  # their time is bounded now, and they are back
        await house.has_ticket(name)
        house.readings[name] = house.people[name].observe("/board")
        assert (await anext(house.readings[name])).code == "2.05"
    before = house.sessions()
    head = control.store.audit.head
    house.wall[0] += 1
    with pytest.raises(ObservationEnded):  # noqa: PT012  # it ends in the middle
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async for answer in house.readings["leo"]:
                assert answer.code == "2.05"
    assert {before[number] for number in before.keys() - house.sessions().keys()} == {"leo"}
    assert control.store.audit.head == head
    await house.only_gone("leo")
    assert (await house.people["leo"].ask("GET", "/hello")).reason == "not-paired"
