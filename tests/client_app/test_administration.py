"""Remote administration of the real device with the Python API."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from client_app import (
    UNCHANGED,
    Client,
    administration,
    administration_requests,
    decode,
    device,
    models,
    sync,
)
from client_app.device import Device
from client_app.limits import USERS_PAGE
from client_app.models import Event
from client_app.session import DeviceSession
from client_app.sync import Client as BlockingClient
from device_app.access.event_kind import EventKind
from iam.model import State, User
from peer.errors import Denied, RequestFailed, UsageError
from peer.identity import Fingerprint
from peer.pairing import invite
from tests.kit.threads import DeviceThread
from tests.kit.waiting import TIMEOUT_SECONDS

FP = "ab" * 32
LATER = 4_000_000_000


async def test_users_can_be_added_changed_and_removed(kitchen: Device) -> None:
    iam = kitchen.iam
    assert [one.name for one in await iam.users()] == ["anna"]
    when = datetime.fromtimestamp(LATER, UTC)
    made = await iam.add_user("mia", display="Mia, the painter", keys=[FP], not_after=when)
    assert (made.role, made.display, made.not_after) == ("guest", "Mia, the painter", LATER)
    assert await iam.user("mia") == made
    other = Fingerprint(b"\x05" * 32)
    assert len((await iam.add_key("mia", other, key_name="phone")).keys) == 2
    changed = await iam.set_user("mia", role="user", new_name="mia-two")
    assert (changed.name, changed.role, changed.not_after) == ("mia-two", "user", LATER)
    assert (await iam.set_user("mia-two", not_after=None)).not_after is None
    assert (await iam.set_user("mia-two", display="", not_after=UNCHANGED)).display == ""
    await iam.remove_key("mia-two", FP.upper())
    assert [key.name for key in (await iam.user("mia-two")).keys] == ["phone"]
    await iam.remove_user("mia-two")
    with pytest.raises(RequestFailed) as caught:
        await iam.remove_user("mia-two")
    assert caught.value.code == "4.04"


async def test_users_are_read_page_by_page(
    kitchen: Device, owner: DeviceThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"user-{number:03}" for number in range(250)]

    def add(app: Any) -> None:
        store = app.access.store
        more = [User(name, "guest") for name in names]
        store.commit(State.of([*store.state.users.values(), *more]))

    owner.do(add)
    asked: list[str] = []
    decode_page = decode.users_untrusted

    def decoded(payload: bytes) -> tuple[models.User, ...]:
        page = decode_page(payload)
        asked.append(page[0].name)
        return page

    monkeypatch.setattr(decode, "users_untrusted", decoded)
    assert [user.name for user in await kitchen.iam.users()] == ["anna", *names]
    assert asked == ["anna", "user-099", "user-199"]
    asked.clear()
    async with aclosing(kitchen.iam.each_user()) as users:
        async for user in users:
            if user.name == "user-001":
                break
    assert asked == ["anna"]


@pytest.mark.parametrize("count", [0, 1, USERS_PAGE, 3 * USERS_PAGE])
async def test_a_device_that_knows_no_pages_lists_each_user_once(
    kitchen: Device, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    every = tuple(models.User(f"u{number:03}", "guest") for number in range(count))
    monkeypatch.setattr(decode, "users_untrusted", lambda _payload: every)
    assert await kitchen.iam.users() == every


async def test_a_relative_time_is_added_to_the_clock_of_the_device(
    kitchen: Device, owner: DeviceThread
) -> None:
    """The device may be years ahead; by the client's clock the access would already have ended."""

    def years_ahead(app: Any) -> None:
        app.access.clock.restart(app.access.clock.now() + 5 * 365 * 86_400)

    owner.do(years_ahead)
    there = (await kitchen.whoami()).now
    assert there is not None
    due = there + 2 * 86_400
    iam, two_days = kitchen.iam, timedelta(days=2)
    made = await iam.add_user("mia", not_after=two_days)
    changed = await iam.set_user("mia", not_before=timedelta(hours=1), not_after=two_days)
    invited = (await iam.invite("leo", not_after=two_days)).invite
    for end in (made.not_after, changed.not_after, invited.not_after):
        assert end is not None
        assert 0 <= end - due < 60
    assert changed.not_before == pytest.approx(there + 3600, abs=60)


async def test_a_relative_time_is_added_to_the_clients_clock_if_whoami_is_denied(
    kitchen: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def denied(_session: DeviceSession) -> None:
        raise Denied("you may not do this here")

    monkeypatch.setattr(DeviceSession, "me", denied)
    monkeypatch.setattr(administration_requests, "wall_clock", lambda: 3e9)
    assert (await kitchen.iam.add_user("mia", not_after=timedelta(days=1))).not_after == 3e9 + 86400


async def test_a_user_name_is_sent_as_exactly_one_path_segment(kitchen: Device) -> None:
    """No name can address another resource, and an empty name cannot address the collection."""
    await kitchen.iam.add_user("mia")
    for name in ("mia/keys", "../anna", "mia?x=y", "%6dia", "."):
        with pytest.raises(RequestFailed):
            await kitchen.iam.remove_user(name)
    for name in ("mia", "größe", "名"):
        if name != "mia":
            await kitchen.iam.add_user(name)
        assert (await kitchen.iam.user(name)).name == name
    for nothing in (
        kitchen.iam.remove_user(""),
        kitchen.iam.remove_key("", FP),
        kitchen.iam.withdraw(""),
    ):
        with pytest.raises(UsageError):
            await nothing
    assert len(await kitchen.iam.users()) == 4


async def test_invalid_arguments_raise_usage_error(kitchen: Device) -> None:
    for wrong in (
        kitchen.iam.add_key("mia", "12"),
        kitchen.iam.add_user("mia", keys=["xyz"]),
        kitchen.iam.add_user("mia", not_after=datetime(2030, 1, 1)),  # noqa: DTZ001
    ):
        with pytest.raises(UsageError):
            await wrong


@pytest.mark.usefixtures("owner")
async def test_a_long_list_of_users_is_transferred_in_blocks(kitchen: Device) -> None:
    for number in range(60):
        await kitchen.iam.add_user(f"user-{number:02}", keys=[f"{number:064x}"])
    assert len(await kitchen.iam.users()) == 61


async def test_roles_and_policies_are_listed(kitchen: Device) -> None:
    roles = await kitchen.iam.roles()
    assert [role.rank for role in roles] == sorted(role.rank for role in roles)
    assert {"guest", "owner"} <= {role.id for role in roles}
    policies = {one.id: one for one in await kitchen.iam.policies()}
    assert {name for role in roles for name in role.policies} <= policies.keys()
    assert policies["core-guest"].statements[0].effect == "Allow"


async def test_check_tells_whether_an_action_is_allowed(kitchen: Device) -> None:
    iam = kitchen.iam
    assert (await iam.check("Iam:AddUser")).allowed
    mine = await iam.check("Nothing:Known")
    assert not mine.allowed
    assert mine.missing
    assert mine.exit_code == 7
    await iam.add_user("mia")
    theirs = await iam.check("Iam:AddUser", user="mia")
    assert not theirs.allowed
    assert theirs.reason
    assert (await iam.check("Hello:Get", user="mia")).exit_code == 0
    me = await kitchen.whoami()
    assert (me.user, me.role) == ("anna", "owner")
    assert "Iam:AddUser" in me.actions


async def test_invites_can_be_created_listed_and_withdrawn(
    kitchen: Device, owner: DeviceThread
) -> None:
    iam = kitchen.iam
    made = await iam.invite("mia", role="user", seconds=600, uses=2, key=FP, not_after=float(LATER))
    token, _ = invite.read_untrusted(made.token)
    assert token.device == owner.fingerprint
    assert token.id.hex() == made.invite.id
    one = made.invite
    assert (one.name, one.role, one.uses, one.key) == ("mia", "user", 2, FP)
    assert (one.inviter, one.not_after) == ("anna", LATER)
    assert one.expires - one.created == 600
    assert await iam.invites() == (one,)
    assert made.token not in repr(made)
    assert (await iam.invite("leo")).invite.role == "guest"
    await iam.withdraw(one.id)
    assert [left.name for left in await iam.invites()] == ["leo"]


async def test_the_pairing_window_can_be_opened_and_closed(
    kitchen: Device, owner: DeviceThread
) -> None:
    iam = kitchen.iam
    assert not (await iam.window()).open
    opened = await iam.open_window(seconds=60, role="guest", methods=["compare"])
    assert opened.open
    assert 0 < opened.seconds_left <= 60
    assert (opened.role, opened.methods) == ("guest", ("compare",))
    assert opened.port == owner.app.pairing.port.number
    assert (await iam.window()).open
    await iam.close_window()
    assert not (await iam.window()).open


def append_event(app: Any, detail: str) -> None:
    audit = app.access.audit
    audit.append(audit.event(EventKind.LABEL_MADE, detail=detail))


async def test_events_are_read_from_a_position_or_from_the_end(
    kitchen: Device, owner: DeviceThread
) -> None:
    before = await kitchen.iam.events()
    for number in range(110):
        owner.do(partial(append_event, detail=str(number)))
    after = await kitchen.iam.events(since=before.head)
    mine = [one for one in after.events if one.kind == EventKind.LABEL_MADE]
    assert [one.fields["detail"] for one in mine] == [str(n) for n in range(110)]
    assert after.events[0].seq == before.head + 1
    assert after.events[0].previous == before.digest
    assert after.events[-1].digest == after.digest
    assert len((await kitchen.iam.events(last=105)).events) == 105
    assert len((await kitchen.iam.events()).events) == 50
    assert (await kitchen.iam.events(last=0)).events == ()


async def test_followed_events_arrive_once_and_in_order(
    kitchen: Device, owner: DeviceThread
) -> None:
    """The events come in bursts, and the connection is lost between the first two."""
    stream = kitchen.iam.follow_events(last=1)
    first = await anext(stream)
    found: list[Event] = []
    for burst in range(3):
        for number in range(40):
            owner.do(partial(append_event, detail=str(number)))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while sum(one.kind == EventKind.LABEL_MADE for one in found) < 40 * (burst + 1):
                found.append(await anext(stream))
        if burst == 0:
            owner.do(lambda app: app.server.end_sessions(lambda _key: True))
    await stream.aclose()
    assert [one.seq for one in found] == list(range(first.seq + 1, first.seq + 1 + len(found)))
    assert not any(one.lost for one in found)


@pytest.mark.usefixtures("lan")
async def test_administration_by_a_guest_is_denied(owner: DeviceThread, tmp_path: Path) -> None:
    owner.add_client(tmp_path / "guest", "mia", "guest")
    async with Client(home=tmp_path / "guest") as client:
        iam = (await client.connect("kitchen")).iam
        for refused in (iam.users(), iam.invite("leo"), iam.open_window(), iam.events()):
            with pytest.raises(Denied):
                await refused
        with pytest.raises(Denied):
            await anext(iam.follow_events(since=0))
        assert not (await iam.check("Iam:ListUsers")).allowed


@pytest.mark.usefixtures("owner", "lan")
def test_the_blocking_client_can_administer_a_device(home: Path) -> None:
    with BlockingClient(home=home) as client:
        iam = client.connect("kitchen").iam
        assert iam.add_user("mia", role="user", keys=[FP]).keys[0].fingerprint == FP
        assert iam.set_user("mia", role="guest").role == "guest"
        assert [one.name for one in iam.users()] == ["anna", "mia"]
        assert iam.user("mia").name == "mia"
        iam.remove_key("mia", FP)
        iam.add_key("mia", FP)
        iam.remove_user("mia")
        iam.withdraw(iam.invite("leo").invite.id)
        assert iam.invites() == ()
        assert iam.check("Hello:Get").allowed
        assert iam.roles()
        assert iam.policies()
        assert iam.open_window(seconds=30).open
        iam.close_window()
        assert not iam.window().open
        head = iam.events().head
        assert [one.seq for one, _ in zip(iam.follow_events(), range(3), strict=False)]
        assert head > 0
        assert client.connect("kitchen").patch("/iam/users/anna", {"display": "A"}).code == "2.04"


def test_the_blocking_client_has_every_method() -> None:
    for theirs, ours in (
        (administration.Administration, sync.Administration),
        (device.Device, sync.Device),
    ):
        public = {name for name in vars(theirs) if not name.startswith("_")}
        # The two ends of a stream belong to the event loop; a tunnel is its blocking form.
        assert public - {"alias", "resumed", "stream"} <= set(dir(ours))
        for name in public & vars(ours).keys():
            assert getattr(ours, name).__doc__
