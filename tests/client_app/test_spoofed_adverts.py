"""A neighbour forges announcements of a device: no form of `pair`, and no call, loses the device.

The adverts are made up, the sockets and both devices are real. Each forged advert comes before the
true one, after it, or both.
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


async def says_yes(_question: Comparison) -> bool:
    return True


def hearing(home: Path, *adverts: Advert) -> Client:
    async def look() -> AsyncIterator[Advert]:
        for one in adverts:
            yield one

    return Client(home=home, look=look)


def closed(true: Advert) -> list[Advert]:
    """One spoofed pm=0, under the device's own name and under another."""
    lie = replace(true, pairing_open=False)
    return [
        lie,
        replace(lie, pairing_port=0, instance="another"),
        replace(lie, addresses=("127.0.0.2",), host="evil."),
    ]


def gone(true: Advert) -> list[Advert]:
    return [replace(true, is_present=False)]


def elsewhere_open(true: Advert, other: Board) -> list[Advert]:
    """The device's id and name, at another device that has another key."""
    lie = other.advert()
    return [
        replace(lie, device_id=true.device_id, name=true.name),
        replace(lie, device_id=true.device_id, name=true.name, instance=true.instance),
    ]


def nowhere(true: Advert) -> list[Advert]:
    """Two adverts of sixteen addresses without a host; some are no addresses at all."""
    return [
        replace(true, addresses=(*(f"127.0.{net}.{n}" for n in range(1, 15)), "fe80::1%99", "x"))
        for net in (7, 8)
    ]


LIES = ["closed", "gone", "another key", "nowhere"]


def lies(kind: str, true: Advert, other: Board) -> list[Advert]:
    match kind:
        case "closed":
            return closed(true)
        case "gone":
            return gone(true)
        case "another key":
            return elsewhere_open(true, other)
        case _:
            return nowhere(true)


def around(told: Sequence[Advert], true: Advert, order: str) -> list[Advert]:
    return {
        "before": [*told, true],
        "after": [true, *told],
        "both": [*told, true, *told],
    }[order]


@pytest.mark.parametrize("order", ["before", "after", "both"])
@pytest.mark.parametrize("kind", LIES)
@pytest.mark.parametrize("form", ["nothing", "name", "id", "fingerprint", "name, fingerprint"])
async def test_every_form_of_pair_finds_the_open_device(
    board: Board, other: Board, home: Path, form: str, kind: str, order: str
) -> None:
    await board.open()
    await other.open()
    board.answers.put_nowait(True)
    true = board.advert()
    target = {"name": "Kitchen", "name, fingerprint": "kitchen", "id": true.device_id}.get(form, "")
    expect = board.fingerprint if "fingerprint" in form else None
    async with hearing(home, *around(lies(kind, true, other), true, order)) as client:
        done = await client.pair(target, name="anna", expect=expect, confirm=says_yes)
    assert done.device.fingerprint == board.fingerprint
    assert done.device.port == board.regular.port
    assert list(board.users.values()) == ["anna"]
    assert other.window.pending() is None


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("kind", LIES)
async def test_a_label_reaches_its_device(
    board: Board, other: Board, home: Path, kind: str, order: str
) -> None:
    """It stops at the method, which this board does not offer: so it talked with the right key."""
    await board.open()
    await other.open()
    true = board.advert()
    label = Label(board.fingerprint, bytes(range(16)))
    async with hearing(home, *around(lies(kind, true, other), true, order)) as client:
        with pytest.raises(UsageError, match="does not offer the pairing method label"):
            await client.pair(label.text)
    assert not client.devices


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("kind", LIES)
async def test_a_moved_device_is_reached_and_can_be_paired_with_again(
    board: Board, other: Board, paired: Client, home: Path, kind: str, order: str
) -> None:
    await board.pairing.close()
    await board.open()
    await other.open()
    board.answers.put_nowait(True)
    true = board.advert()
    paired.book.put(replace(paired.devices[0], last_seen="127.0.0.9:9", port=9))
    async with hearing(home, *around(lies(kind, true, other), true, order)) as client:
        kitchen = await client.connect("kitchen")
        assert (await kitchen.get("/hello")).code == "2.05"
        done = await client.pair("kitchen", confirm=says_yes)
        assert done.device.fingerprint == board.fingerprint
    assert other.requests == []


async def test_only_lies_are_no_alarm(board: Board, other: Board, home: Path) -> None:
    await other.open()
    told = elsewhere_open(board.advert(), other)
    label = Label(board.fingerprint, bytes(16)).text
    async with hearing(home, *told) as client:
        calls: list[dict[str, Any]] = [
            {"target": label},
            {"target": "kitchen", "confirm": says_yes},
            {"target": "kitchen", "expect": board.fingerprint},
            {"expect": board.fingerprint},
        ]
        for call in calls:
            with pytest.raises(Unreachable, match="another key answered at 1 announced address"):
                await client.pair(**call)
        with pytest.raises(PinMismatch):  # the user said where it is
            await client.pair(label, at=f"{HOST}:{told[0].pairing_port}")
    assert other.window.failures == 0


async def test_a_device_that_nobody_says_is_open_is_closed(
    board: Board, other: Board, home: Path
) -> None:
    await other.open()
    true = board.advert()
    assert not true.pairing_open
    async with hearing(home, true, *closed(true), other.advert()) as client:
        for call in ({"target": "kitchen"}, {"expect": board.fingerprint}, {"target": "kitchen"}):
            with pytest.raises(WindowClosed, match="is closed"):
                await client.pair(**call, confirm=says_yes)


async def test_a_fingerprint_that_nobody_announces_says_who_is_there(
    board: Board, other: Board, home: Path
) -> None:
    await other.open()
    async with hearing(home, other.advert()) as client:
        for target in ("", "attic"):
            with pytest.raises(Unreachable, match=board.fingerprint.device_id) as caught:
                await client.pair(target, expect=board.fingerprint)
            assert "attic" in caught.value.advice
        with pytest.raises(Unreachable, match=r"no-such-host\.invalid"):
            await client.pair("no-such-host.invalid", expect=board.fingerprint)


async def test_an_error_lists_no_more_devices_than_a_person_reads(board: Board, home: Path) -> None:
    many = [replace(board.advert(), device_id=f"{n:08}", name=f"d{n}") for n in range(300)]
    async with hearing(home, *many) as client:
        with pytest.raises(WindowClosed, match=f"and {300 - LISTED_DEVICES} more") as caught:
            await client.pair(confirm=says_yes)
    assert len(str(caught.value)) < 1000


async def test_a_flood_of_adverts_is_bounded_and_loses_nobody_for_sure(
    board: Board, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_app.finder.ADVERTS", 8)
    many = [replace(board.advert(), device_id=f"{n:08}", name=f"d{n}") for n in range(300)]
    async with hearing(home, *many) as client:
        assert len(await client.finder.all(1.0)) == 8
        assert len(await client.discover(timeout=1.0)) == 8
    # A device whose id is known is looked for among all of them.
    await board.open()
    board.answers.put_nowait(True)
    async with hearing(home, *many, board.advert(), *many) as client:
        assert (await client.pair(expect=board.fingerprint)).is_new


async def test_the_list_shows_what_each_said_last(board: Board, home: Path) -> None:
    true = replace(board.advert(), instance="kitchen._coaps")
    lie = replace(true, name="lie", instance="lie._coaps")
    async with hearing(home, true, lie, replace(true, port=1), *gone(lie)) as client:
        [shown] = await client.discover(timeout=1.0)
    assert (shown.port, shown.name) == (1, "kitchen")


def test_the_doctor_tells_and_raises_no_alarm(
    paired_shell: Shell, board_thread: BoardThread, lan: list[Advert]
) -> None:
    """The lie leads to the pairing port: another session with the same key, or to nowhere."""
    true = board_thread.board.advert()
    lan += [*closed(true), true, *nowhere(true)]
    done = paired_shell("doctor", "kitchen")
    assert done.code == 0
    assert "announced both as open and as closed" in done.out
    assert "the device answers and has the pinned key" in done.out


async def test_the_doctor_raises_no_alarm_for_a_key_that_was_only_announced(
    board: Board, other: Board, paired: Client, home: Path
) -> None:
    paired.book.put(replace(paired.devices[0], last_seen=f"{HOST}:9", port=9))
    async with hearing(home, *elsewhere_open(board.advert(), other)) as client:
        found = [check async for check in diagnose(client, "kitchen")]
        assert found[-1].exit_code == 3
        assert [check.verdict for check in found if check.name.startswith("address")] == [
            "note"
        ] * 2
        paired.book.put(replace(paired.devices[0], last_seen=f"{HOST}:{other.regular.port}"))
        found = [check async for check in diagnose(client, "kitchen")]
        assert found[-1].exit_code == 5  # that is where the device was
