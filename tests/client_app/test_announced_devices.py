"""The output of a search: one entry per device, and changes as changes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from client_app import finder as finder_module
from client_app.commands.discover import changes_of
from client_app.finder import AnnouncedDevices, Finder
from client_app.limits import ADVERTS, SHARED_ID_STARTS
from client_app.shared_ids import SharedIds
from client_app.terminal.render import as_json, as_text
from peer.net.adverts import Advert

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KITCHEN = Advert(
    "7F3K2M1Q",
    "kitchen",
    ("192.0.2.1",),
    5684,
    5685,
    False,
    1,
    "h.local.",
    instance="k",
    interface=2,
)
BY_WIFI = replace(KITCHEN, addresses=("192.0.2.3", "fe80::3%3"), interface=3)
ATTIC = replace(KITCHEN, device_id="8F3K2M1Q", name="attic", instance="a")


async def watched(*adverts: Advert) -> list[Advert]:
    async def look() -> AsyncIterator[Advert]:
        for advert in adverts:
            yield advert
            if advert.host == "pause":
                await asyncio.sleep(0.02)

    return [advert async for advert in Finder(look).watch()]


async def test_a_device_on_two_links_is_one_entry() -> None:
    [shown] = await watched(KITCHEN, BY_WIFI, KITCHEN)
    assert {*shown.addresses} == {"192.0.2.1", "192.0.2.3", "fe80::3%3"}


async def test_two_devices_are_two_entries() -> None:
    assert [one.name for one in await watched(KITCHEN, ATTIC)] == ["kitchen", "attic"]


async def test_what_comes_later_is_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder_module, "DISCOVERY_SETTLE_SECONDS", 0.001)
    slow = replace(KITCHEN, host="pause")
    moved = replace(slow, addresses=("192.0.2.9",))
    shown = await watched(slow, moved, moved)
    assert [one.addresses for one in shown] == [("192.0.2.1",), ("192.0.2.9",)]


async def test_a_device_that_leaves_at_once_is_shown_before() -> None:
    opened = replace(KITCHEN, pairing_open=True)
    shown = await watched(KITCHEN, opened, replace(opened, is_present=False, interface=0))
    states = [(one.is_present, one.pairing_open) for one in shown]
    assert states == [(True, True), (False, True)]


async def test_the_end_of_one_link_is_a_change_and_the_end_of_all_a_departure() -> None:
    devices = AnnouncedDevices()
    devices.note(KITCHEN)
    devices.note(BY_WIFI)
    less = devices.note(replace(BY_WIFI, is_present=False))
    assert less == KITCHEN
    assert devices.note(replace(BY_WIFI, is_present=False)) is None
    gone = devices.note(replace(KITCHEN, is_present=False, interface=0))
    assert gone == replace(KITCHEN, is_present=False)
    assert devices.devices() == []
    assert devices.note(replace(KITCHEN, is_present=False, interface=0)) is None


async def test_one_instance_name_with_two_ids_is_two_devices() -> None:
    """Any host can announce any name: it does not replace the device."""
    devices = AnnouncedDevices()
    devices.note(KITCHEN)
    forged = replace(KITCHEN, device_id="9F3K2M1Q", addresses=("192.0.2.66",))
    devices.note(forged)
    assert devices.devices() == [KITCHEN, forged]


async def test_a_flood_of_devices_is_bounded() -> None:
    shown = await watched(*(replace(KITCHEN, instance=str(n)) for n in range(2 * ADVERTS)))
    assert len(shown) == ADVERTS


async def test_changes_of_addresses_are_shown_with_a_sign() -> None:
    async def adverts() -> AsyncIterator[Advert]:
        yield KITCHEN
        yield replace(KITCHEN, addresses=("192.0.2.9", "fe80::1%2"))
        yield replace(KITCHEN, addresses=("192.0.2.9", "fe80::1%2"), pairing_open=True)
        yield replace(KITCHEN, is_present=False)

    found = [one async for one in changes_of(adverts(), dict)]
    assert [as_text(one) for one in found] == [
        "kitchen  7F3K2M1Q  192.0.2.1:5684  closed",
        "kitchen  7F3K2M1Q  +192.0.2.9:5684, +[fe80::1%2]:5684, -192.0.2.1:5684  closed",
        "kitchen  7F3K2M1Q  192.0.2.9:5684, [fe80::1%2]:5684  open for pairing",
        "kitchen  7F3K2M1Q  left",
    ]
    value = json.loads(json.dumps(as_json(found[1])))
    assert value["addresses"] == ["192.0.2.9", "fe80::1%2"]  # all of them, as before
    assert (value["added"], value["gone"]) == (["192.0.2.9", "fe80::1%2"], ["192.0.2.1"])


COPY = replace(KITCHEN, addresses=("192.0.2.9",), start="00000002")
ORIGINAL = replace(KITCHEN, start="00000001")


def test_two_devices_with_one_id_are_one_entry_that_says_so() -> None:
    now = 0.0
    announced = AnnouncedDevices(now=lambda: now)
    for advert in (ORIGINAL, COPY):
        announced.note(advert)
    [both] = announced.devices()
    assert both.is_shared
    assert {*both.addresses} == {"192.0.2.1", "192.0.2.9"}
    # They answer in turns: that is no change, however long it takes.
    for advert in (ORIGINAL, COPY) * 3:
        now += 1000.0
        assert announced.note(advert) is None


def test_a_device_that_moved_is_not_two() -> None:
    now = 0.0
    announced = AnnouncedDevices(now=lambda: now)
    announced.note(ORIGINAL)
    now = 5.0
    announced.note(COPY)
    assert [(one.is_shared, one.addresses) for one in announced.devices()] == [
        (False, ("192.0.2.9",))
    ]


def test_records_in_separate_datagrams_do_not_unite_two_devices() -> None:
    """A datagram without addresses gets those of both devices, since they have one host name."""
    announced = AnnouncedDevices(now=lambda: 0.0)
    either = replace(KITCHEN, addresses=(*ORIGINAL.addresses, *COPY.addresses))
    for advert in (either, ORIGINAL, either, COPY, either):
        announced.note(advert)
    [both] = announced.devices()
    assert both.is_shared
    assert {*both.addresses} == {*either.addresses}


def test_a_device_alone_is_not_two_whatever_arrives_separately() -> None:
    announced = AnnouncedDevices(now=lambda: 0.0)
    for advert in (KITCHEN, ORIGINAL, KITCHEN, replace(KITCHEN, addresses=("192.0.2.9",))):
        announced.note(advert)
    assert [one.is_shared for one in announced.devices()] == [False]


def test_after_one_of_both_left_the_other_is_alone() -> None:
    announced = AnnouncedDevices(now=lambda: 0.0)
    for advert in (ORIGINAL, COPY, replace(COPY, is_present=False, interface=0), ORIGINAL):
        announced.note(advert)
    assert [one.is_shared for one in announced.devices()] == [False]


def test_a_flood_of_starts_costs_bounded_memory() -> None:
    """Any host can announce any ID with any digits."""
    shared = SharedIds(lambda: 0.0)
    for number in range(10 * SHARED_ID_STARTS):
        heard = shared.others(
            replace(KITCHEN, start=f"{number:08x}", addresses=(f"192.0.2.{number}",))
        )
        assert len(heard) < SHARED_ID_STARTS


async def test_a_shared_id_is_marked_on_the_screen_and_in_json() -> None:
    async def adverts() -> AsyncIterator[Advert]:
        yield replace(KITCHEN, is_shared=True)

    [seen] = [one async for one in changes_of(adverts(), dict)]
    assert "7F3K2M1Q (two devices)" in as_text(seen)
    assert json.loads(json.dumps(as_json(seen)))["shared"] is True
