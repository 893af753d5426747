"""Forged adverts of a host on the LAN do not prevent pairing with a device or calling it.

Only the adverts are simulated; the sockets and both devices are real. The forged adverts arrive
before the genuine one, after it, or both.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client_app.client import Client
from client_app.doctor import diagnose
from client_app.limits import LISTED_DEVICES
from client_app.pairing.ceremony import Comparison
from peer.errors import PinMismatch, Unreachable, UsageError, WindowClosed
from peer.net.discovery import Advert
from peer.pairing.label import Label
from tests.kit.board import Board
from tests.kit.shell import Shell
from tests.kit.threads import BoardThread

HOST = "127.0.0.1"
Make = Callable[..., Client]


async def accept(_question: Comparison) -> bool:
    return True


def client_receiving(home: Path, *adverts: Advert) -> Client:
    async def look() -> AsyncIterator[Advert]:
        for one in adverts:
            yield one

    return Client(home=home, look=look)


def with_closed_window(genuine: Advert) -> list[Advert]:
    """Three forged adverts with pm=0: the device's own instance, another one, and another host."""
    forged = replace(genuine, pairing_open=False)
    return [
        forged,
        replace(forged, pairing_port=0, instance="another"),
        replace(forged, addresses=("127.0.0.2",), host="evil."),
    ]


def withdrawn(genuine: Advert) -> list[Advert]:
    return [replace(genuine, is_present=False)]


def at_another_device(genuine: Advert, other: Board) -> list[Advert]:
    """The device's ID and name at the address of another device, which has another key."""
    forged = other.advert()
    return [
        replace(forged, device_id=genuine.device_id, name=genuine.name),
        replace(forged, device_id=genuine.device_id, name=genuine.name, instance=genuine.instance),
    ]


def with_dead_addresses(genuine: Advert) -> list[Advert]:
    """Two adverts with sixteen addresses each that lead nowhere, some of them invalid."""
    return [
        replace(genuine, addresses=(*(f"127.0.{net}.{n}" for n in range(1, 15)), "fe80::1%99", "x"))
        for net in (7, 8)
    ]


FORGERIES = ["closed window", "withdrawn", "another key", "dead addresses"]


def forged_adverts(kind: str, genuine: Advert, other: Board) -> list[Advert]:
    match kind:
        case "closed window":
            return with_closed_window(genuine)
        case "withdrawn":
            return withdrawn(genuine)
        case "another key":
            return at_another_device(genuine, other)
        case _:
            return with_dead_addresses(genuine)


def in_order(forged: Sequence[Advert], genuine: Advert, order: str) -> list[Advert]:
    return {
        "before": [*forged, genuine],
        "after": [genuine, *forged],
        "both": [*forged, genuine, *forged],
    }[order]


@pytest.mark.parametrize("order", ["before", "after", "both"])
@pytest.mark.parametrize("kind", FORGERIES)
@pytest.mark.parametrize("form", ["nothing", "name", "id", "fingerprint", "name, fingerprint"])
async def test_every_target_of_pair_finds_the_open_device_among_forged_adverts(
    board: Board, other: Board, home: Path, form: str, kind: str, order: str
) -> None:
    await board.open()
    await other.open()
    board.answers.put_nowait(True)
    genuine = board.advert()
    target = {"name": "Kitchen", "name, fingerprint": "kitchen", "id": genuine.device_id}.get(
        form, ""
    )
    expect = board.fingerprint if "fingerprint" in form else None
    async with client_receiving(
        home, *in_order(forged_adverts(kind, genuine, other), genuine, order)
    ) as client:
        done = await client.pair(target, name="anna", expect=expect, confirm=accept)
    assert done.device.fingerprint == board.fingerprint
    assert done.device.port == board.regular.port
    assert list(board.users.values()) == ["anna"]
    assert other.window.pending() is None


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("kind", FORGERIES)
async def test_a_label_finds_its_device_among_forged_adverts(
    board: Board, other: Board, home: Path, kind: str, order: str
) -> None:
    """The board does not offer the method, and this error shows that the right key was reached."""
    await board.open()
    await other.open()
    genuine = board.advert()
    label = Label(board.fingerprint, bytes(range(16)))
    async with client_receiving(
        home, *in_order(forged_adverts(kind, genuine, other), genuine, order)
    ) as client:
        with pytest.raises(UsageError, match="does not offer the pairing method label"):
            await client.pair(label.text)
    assert not client.devices


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("kind", FORGERIES)
async def test_a_moved_device_is_found_among_forged_adverts(
    board: Board, other: Board, paired: Client, home: Path, kind: str, order: str
) -> None:
    await board.pairing.close()
    await board.open()
    await other.open()
    board.answers.put_nowait(True)
    genuine = board.advert()
    paired.book.put(replace(paired.devices[0], last_seen="127.0.0.9:9", port=9))
    async with client_receiving(
        home, *in_order(forged_adverts(kind, genuine, other), genuine, order)
    ) as client:
        kitchen = await client.connect("kitchen")
        assert (await kitchen.get("/hello")).code == "2.05"
        done = await client.pair("kitchen", confirm=accept)
        assert done.device.fingerprint == board.fingerprint
    assert other.requests == []


async def test_forged_adverts_alone_raise_unreachable(
    board: Board, other: Board, home: Path
) -> None:
    await other.open()
    forged = at_another_device(board.advert(), other)
    label = Label(board.fingerprint, bytes(16)).text
    async with client_receiving(home, *forged) as client:
        calls: list[dict[str, Any]] = [
            {"target": label},
            {"target": "kitchen", "confirm": accept},
            {"target": "kitchen", "expect": board.fingerprint},
            {"expect": board.fingerprint},
        ]
        for call in calls:
            with pytest.raises(Unreachable, match="another key answered at 1 announced address"):
                await client.pair(**call)
        with pytest.raises(PinMismatch):  # the user gave this address
            await client.pair(label, at=f"{HOST}:{forged[0].pairing_port}")
    assert other.window.failures == 0


async def test_a_device_announced_only_as_closed_is_closed(
    board: Board, other: Board, home: Path
) -> None:
    await other.open()
    genuine = board.advert()
    assert not genuine.pairing_open
    async with client_receiving(
        home, genuine, *with_closed_window(genuine), other.advert()
    ) as client:
        for call in ({"target": "kitchen"}, {"expect": board.fingerprint}, {"target": "kitchen"}):
            with pytest.raises(WindowClosed, match="is closed"):
                await client.pair(**call, confirm=accept)


async def test_an_unannounced_fingerprint_is_reported_with_the_devices_found(
    board: Board, other: Board, home: Path
) -> None:
    await other.open()
    async with client_receiving(home, other.advert()) as client:
        for target in ("", "attic"):
            with pytest.raises(Unreachable, match=board.fingerprint.device_id) as caught:
                await client.pair(target, expect=board.fingerprint)
            assert "attic" in caught.value.advice
        with pytest.raises(Unreachable, match=r"no-such-host\.invalid"):
            await client.pair("no-such-host.invalid", expect=board.fingerprint)


async def test_an_error_lists_a_bounded_number_of_devices(board: Board, home: Path) -> None:
    many = [replace(board.advert(), device_id=f"{n:08}", name=f"d{n}") for n in range(300)]
    async with client_receiving(home, *many) as client:
        with pytest.raises(WindowClosed, match=f"and {300 - LISTED_DEVICES} more") as caught:
            await client.pair(confirm=accept)
    assert len(str(caught.value)) < 1000


async def test_a_flood_of_adverts_is_bounded_and_does_not_hide_a_known_id(
    board: Board, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_app.finder.ADVERTS", 8)
    many = [replace(board.advert(), device_id=f"{n:08}", name=f"d{n}") for n in range(300)]
    async with client_receiving(home, *many) as client:
        assert len(await client.finder.all(1.0)) == 8
        assert len(await client.discover(timeout=1.0)) == 8
    # For a known ID, adverts beyond the bound are searched as well.
    await board.open()
    board.answers.put_nowait(True)
    async with client_receiving(home, *many, board.advert(), *many) as client:
        assert (await client.pair(expect=board.fingerprint)).is_new


async def test_discover_returns_the_last_advert_of_each_device(board: Board, home: Path) -> None:
    genuine = replace(board.advert(), instance="kitchen._coaps")
    forged = replace(genuine, name="forged", instance="forged._coaps")
    async with client_receiving(
        home, genuine, forged, replace(genuine, port=1), *withdrawn(forged)
    ) as client:
        [shown] = await client.discover(timeout=1.0)
    assert (shown.port, shown.name) == (1, "kitchen")


def test_doctor_reports_contradictory_adverts_without_an_error(
    paired_shell: Shell, board_thread: BoardThread, lan: list[Advert]
) -> None:
    """The forged adverts lead to the pairing port, which has the same key, or to dead addresses."""
    genuine = board_thread.board.advert()
    lan += [*with_closed_window(genuine), genuine, *with_dead_addresses(genuine)]
    done = paired_shell("doctor", "kitchen")
    assert done.code == 0
    assert "announced both as open and as closed" in done.out
    assert "the device answers and has the pinned key" in done.out


async def test_doctor_reports_another_key_at_an_announced_address_as_a_note(
    board: Board, other: Board, paired: Client, home: Path
) -> None:
    paired.book.put(replace(paired.devices[0], last_seen=f"{HOST}:9", port=9))
    async with client_receiving(home, *at_another_device(board.advert(), other)) as client:
        found = [check async for check in diagnose(client, "kitchen")]
        assert found[-1].exit_code == 3
        assert [check.verdict for check in found if check.name.startswith("address")] == [
            "note"
        ] * 2
        paired.book.put(replace(paired.devices[0], last_seen=f"{HOST}:{other.regular.port}"))
        found = [check async for check in diagnose(client, "kitchen")]
        assert found[-1].exit_code == 5  # the last known address
