"""No call of a guest, user or admin extends any rights beyond those of the caller.

The calls go to the real resources of a device. The tests compare its whole state before and after.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from device_app.access.bodies import UserPatch
from peer.errors import ObservationEnded, Unreachable
from peer.identity import Identity
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.kit.device import Caller, Device, Kit


RANKS = {"unpaired": 0, "guest": 10, "user": 20, "admin": 30, "owner": 40}
NEW = "cd" * 32


def attempts(me: Caller, name: str, others: dict[str, Caller]) -> list[tuple[str, str, Any]]:
    """Each call of /iam that could raise a user: method, path, body."""
    calls: list[tuple[str, str, Any]] = []
    for role in (*RANKS, "king", "Owner", "owner ", ""):
        for method in ("POST", "PATCH", "iPATCH"):
            calls.append((method, f"/iam/users/{name}", {"role": role}))
            calls.append((method, f"/iam/users/{name}/", {"role": role, "name": name}))
        calls.append(("POST", "/iam/users", {"name": "eve", "role": role, "keys": [NEW]}))
    for victim, caller in others.items():
        for method in ("POST", "PATCH", "iPATCH"):
            calls += [
                (method, f"/iam/users/{victim}", {"role": "guest"}),
                (method, f"/iam/users/{victim}", {"name": "mallory"}),
                (method, f"/iam/users/{victim}", {"not_after": 1}),
                (method, f"/iam/users/{name}", {"name": victim}),
            ]
        calls += [
            ("PUT", f"/iam/users/{victim}/keys/{NEW}", {"name": "second"}),
            ("PUT", f"/iam/users/{victim}/keys/{me.fingerprint}", {}),
            ("PUT", f"/iam/users/{name}/keys/{caller.fingerprint}", {}),
            ("DELETE", f"/iam/users/{victim}/keys/{caller.fingerprint}", None),
            ("DELETE", f"/iam/users/{victim}", None),
            ("POST", "/iam/users", {"name": victim, "role": "guest"}),
            ("POST", "/iam/users", {"name": "e", "role": "guest", "keys": [caller.fingerprint]}),
        ]
    calls += [
        ("POST", "/iam/window", {"role": "owner"}),
        ("PUT", "/iam/roles", {"id": "guest", "rank": 40}),
        ("POST", "/iam/policies", {"id": "core-guest"}),
        ("PUT", f"/iam/users/{name}/keys/{NEW}", {"name": "second"}),
    ]
    return calls


async def code_of(me: Caller, method: str, path: str, body: Any) -> str:
    """Send a request; returns the code, or an empty text if it ended the caller's own session."""
    try:
        return (await me.ask(method, path, body)).code
    except Unreachable:
        return ""


@pytest.mark.parametrize("role", ["guest", "user"])
async def test_no_request_of_a_guest_or_user_changes_any_rights(
    kit: Kit, device: Device, role: str
) -> None:
    others = {
        one: kit.known(device, one, rank)
        for one, rank in (("olga", "owner"), ("adam", "admin"), ("uwe", "user"), ("greta", "guest"))
    }
    me = kit.known(device, "eva", role)
    before = device.users
    for method, path, body in attempts(me, "eva", others):
        answer = await me.ask(method, path, body)
        assert answer.code in {"4.03", "4.04", "4.05"}, (method, path, body)
        assert device.users is before, (method, path, body)
    assert (await me.ask("GET", "/iam/me")).body["role"] == role


async def test_an_admin_cannot_reach_or_change_an_owner(kit: Kit, device: Device) -> None:
    """No request of an admin changes an owner or raises anyone above admin."""
    others = {"olga": kit.known(device, "olga", "owner"), "oda": kit.known(device, "oda", "owner")}
    me = kit.known(device, "eva", "admin")
    owners = [device.users.user(name) for name in others]
    for method, path, body in attempts(me, "eva", others):
        before = device.users
        code = await code_of(me, method, path, body)
        assert code[:1] in {"2", "4", ""}, (method, path, body)
        assert [device.users.users.get(name) for name in others] == owners, (method, path, body)
        rest = [user for name, user in device.users.users.items() if name not in others]
        assert all(RANKS[user.role] <= 30 for user in rest), (method, path, body)
        if device.users is not before:
            device.app.access.writer.commit(before)
            me = kit.caller(device, me.identity)


async def test_no_two_calls_of_a_limited_admin_extend_any_rights(kit: Kit, device: Device) -> None:
    """No two calls of an admin with limited access give anyone more rank or longer access."""
    kit.known(device, "olga", "owner")
    admin = kit.known(device, "eva", "admin")
    end = device.app.access.clock.now() + 1000
    device.app.access.registry.set_user(None, "eva", UserPatch(not_after=end))
    device.add_user("bert", "guest", Identity.create())
    device.app.access.registry.set_user(None, "bert", UserPatch(not_after=end - 10))
    base = device.users
    steps: list[tuple[str, str, Any]] = [
        ("iPATCH", "/iam/users/eva", {"not_after": None}),
        ("iPATCH", "/iam/users/eva", {"role": "user"}),
        ("iPATCH", "/iam/users/bert", {"not_after": None}),
        ("iPATCH", "/iam/users/bert", {"not_after": end + 10, "role": "admin"}),
        ("iPATCH", "/iam/users/bert", {"role": "admin", "name": "berta"}),
        ("PUT", f"/iam/users/bert/keys/{NEW}", {}),
        ("DELETE", "/iam/users/bert", None),
        ("POST", "/iam/users", {"name": "bert", "role": "admin"}),
        ("POST", "/iam/users", {"name": "bert", "role": "admin", "not_after": end - 1}),
        ("PUT", f"/iam/users/olga/keys/{NEW}", {}),
    ]
    for first, second in itertools.permutations(steps, 2):
        me = kit.caller(device, admin.identity)
        for method, path, body in (first, second):
            await code_of(me, method, path, body)
            for name, user in device.users.users.items():
                assert name == "olga" or (
                    RANKS[user.role] <= 30 and user.not_after is not None and user.end <= end
                ), (first, second, user)
        await me.close()
        device.app.access.writer.commit(base)


async def test_removing_a_key_ends_all_its_sessions_immediately(
    kit: Kit, device: Device, owner: Caller, guest: Caller
) -> None:
    second = kit.caller(device, guest.identity)
    assert (await guest.ask("GET", "/hello")).code == "2.05"
    assert (await second.ask("GET", "/hello")).code == "2.05"
    gone = await owner.ask("DELETE", f"/iam/users/gustav/keys/{guest.fingerprint}")
    assert gone.code == "2.02"
    assert not [one for one in device.sessions("regular") if one["user"] == "gustav"]
    for caller in (guest, second):
        held = caller.connections[False]
        await until(lambda: not held.is_open)  # noqa: B023 - the answer arrives first
        assert (await caller.ask("GET", "/hello")).reason == "not-paired"


async def _to_its_end(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


async def test_a_lower_role_ends_sessions_observations_and_resumption(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """When the role of a user changes, sessions and observations end immediately and tickets are
    invalid. A new session has the new rights."""
    admin = kit.known(device, "adam", "admin")
    assert (await admin.ask("GET", "/iam/users")).code == "2.05"
    readings = admin.observe("/board")
    assert (await anext(readings)).code == "2.05"
    changed = await owner.ask("iPATCH", "/iam/users/adam", {"role": "guest"})
    assert changed.code == "2.04"
    assert [one["user"] for one in device.sessions("regular")] == ["olga"]
    with pytest.raises(ObservationEnded):
        await asyncio.wait_for(_to_its_end(readings), 20)
    assert (await admin.ask("GET", "/iam/users")).reason == "denied"
    assert not (await admin.connect()).resumed


async def test_the_last_owner_cannot_be_removed_or_limited(
    device: Device, owner: Caller, guest: Caller
) -> None:
    assert guest.fingerprint in device.users.user_name_by_key
    before = device.users.user("olga")
    for method, path, body in (
        ("DELETE", "/iam/users/olga", None),
        ("DELETE", f"/iam/users/olga/keys/{owner.fingerprint}", None),
        ("iPATCH", "/iam/users/olga", {"role": "admin"}),
        ("iPATCH", "/iam/users/olga", {"not_after": 4_000_000_000}),
    ):
        answer = await owner.ask(method, path, body)
        assert (answer.code, answer.reason) == ("4.09", "last-owner"), path
        assert device.users.user("olga") is before
