"""Announcements by mDNS: the address of the device and the state of its window (protocol §4)."""

from __future__ import annotations

import asyncio
import errno
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from device_app.terminal.render_status import status_lines
from peer.net import link_follower, mdns
from peer.net.advertiser import Advertiser
from peer.net.discovery import watch
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.kit.device import Device, Kit

LOOPBACK = ["127.0.0.1"]


async def next_of(adverts: AsyncGenerator[Any, None], device: Device, *, is_open: bool) -> Any:
    async for advert in adverts:
        is_this_device = advert.device_id == device.fingerprint.device_id
        if is_this_device and advert.pairing_open is is_open:
            return advert
    raise AssertionError("the watch has ended")


async def test_opening_and_closing_the_window_is_announced(kit: Kit) -> None:
    device = await kit.device(advertise=True, interfaces=tuple(LOOPBACK))
    adverts: Any = watch(interfaces=LOOPBACK)
    async with asyncio.timeout(60), aclosing(adverts):
        closed = await next_of(adverts, device, is_open=False)
        assert (closed.name, closed.port) == ("kitchen", device.app.server.port)
        await device.open()
        opened = await next_of(adverts, device, is_open=True)
        assert opened.pairing_port == device.app.pairing.port.number
        assert opened.addresses == ("127.0.0.1",)
        device.app.pairing.close_window()
        await next_of(adverts, device, is_open=False)


async def test_a_device_pairs_without_multicast_and_is_announced_once_it_works(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(link_follower, "MULTICAST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(link_follower, "MULTICAST_RETRY_MAX_SECONDS", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(mdns, "LinkZeroconf", refuse)
        device = await kit.device(advertise=True, interfaces=tuple(LOOPBACK))
        await kit.paired(device, "olga")
        trouble = device.app.status()["announcement"]["trouble"]
        assert "already in use" in trouble
        assert "5353" in trouble
        assert f"announced    no, trying again until it works: {trouble}" in shown_status(device)
    await until(lambda: not device.app.status()["announcement"]["trouble"])
    assert "announced    yes, by mDNS" in shown_status(device)
    said = [one for one in caplog.messages if "announced by mDNS" in one]
    assert said == [f"not announced by mDNS, trying again until it works: {trouble}"]
    adverts: Any = watch(interfaces=LOOPBACK)
    async with asyncio.timeout(60), aclosing(adverts):
        await next_of(adverts, device, is_open=False)


async def test_a_device_that_is_not_to_be_announced_says_so(kit: Kit) -> None:
    device = await kit.device(advertise=False)
    assert device.app.status()["announcement"] == {"enabled": False, "trouble": ""}
    assert "announced    no: `advertise` is off in the settings" in shown_status(device)


def shown_status(device: Device) -> list[str]:
    return status_lines(device.app.status())


async def test_a_device_pairs_if_an_announcement_fails(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(_self: object, **_options: object) -> None:
        raise OSError("the network is gone")

    monkeypatch.setattr(Advertiser, "set_pairing", fails)
    device = await kit.device(advertise=True, interfaces=tuple(LOOPBACK))
    await kit.paired(device, "olga")
    await device.app.close()
    assert "the network is gone" in caplog.text
