"""Remote paths to a real device: no pairing, nothing local, and no session after a revocation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from peer.errors import HandshakeFailed, PeerError, TimedOut
from peer.net.session_route import SessionRoute
from tests.kit.memory_paths import MemoryPath
from tests.kit.waiting import until

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit

START = {"method": "compare", "name": "eve"}


@pytest.mark.parametrize("is_window_open", [False, True])
async def test_there_is_no_pairing_over_a_path(
    device: Device, owner: Caller, is_window_open: bool
) -> None:
    """Not even for an owner, nor while the window is open, which a path does not learn."""
    if is_window_open:
        await device.open()
    path = await owner.connect_over(device)
    path.route = SessionRoute.DIRECT
    for method, body in (("GET", None), ("POST", START), ("DELETE", None)):
        answer = await owner.ask(method, "/pair", body)
        assert (answer.code, answer.reason) == ("4.03", "not-local")
        assert "port" not in answer.body["handfast:problem"]
    assert device.app.pairing.budget.failures == 0
    assert device.sessions("pairing") == []


async def test_a_path_is_not_local_though_loopback_is(device: Device, owner: Caller) -> None:
    """The device takes its loopback for local, and ICE has chosen an address of it."""
    await owner.ask("GET", "/hello")
    path = await owner.connect_over(device)
    path.remote_address = type(path.remote_address)("127.0.0.1", 4711)
    for route in (SessionRoute.DIRECT, SessionRoute.RELAY):
        path.route = route
        assert (await owner.ask("GET", "/hello")).code == "2.05"
        on_lan, on_path = sorted(device.sessions("regular"), key=lambda one: not one["local"])
        assert (on_lan["local"], on_path["local"]) == (True, False)
        assert (on_lan["path"], on_path["path"]) == ("lan", route)
        assert on_path["address"] == "127.0.0.1:4711"


async def test_a_revocation_ends_session_path_and_observations(
    device: Device, owner: Caller, guest: Caller
) -> None:
    path = await guest.connect_over(device)
    answers = guest.observe("/board")
    await anext(answers)
    gone = await owner.ask("DELETE", f"/iam/users/gustav/keys/{guest.fingerprint}")
    assert gone.code == "2.02"
    await until(lambda: path.is_closed)
    with pytest.raises(PeerError):
        await anext(answers)
    assert [one["user"] for one in device.sessions("regular")] == ["olga"]


async def test_a_path_that_was_open_at_a_revocation_gets_no_session(
    device: Device, owner: Caller, guest: Caller
) -> None:
    """Its handshake comes after the revocation: the path was opened for a key that was known."""
    mine, theirs = MemoryPath.attached(device.app.server, guest.identity.fingerprint)
    gone = await owner.ask("DELETE", f"/iam/users/gustav/keys/{guest.fingerprint}")
    assert gone.code == "2.02"
    await until(lambda: theirs.is_closed)
    with pytest.raises(TimedOut):
        await guest.client.connect_over(mine, pinned=device.fingerprint, timeout=0.1)


async def test_a_path_is_for_one_user(
    kit: Kit, device: Device, owner: Caller, guest: Caller
) -> None:
    """A guest gets no session on the path of an owner, nor an unknown key one of a guest."""
    for expected, actual in ((owner, guest), (guest, kit.caller(device))):
        mine, theirs = MemoryPath.attached(device.app.server, expected.identity.fingerprint)
        with pytest.raises(HandshakeFailed):
            await actual.client.connect_over(mine, pinned=device.fingerprint)
        assert theirs.is_closed
    assert device.counters()["path-key-refused"] == 2
    assert device.sessions("regular") == []
