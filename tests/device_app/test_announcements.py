"""Announcements by mDNS: the address of the device and the state of its window (protocol §4)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from peer.errors import PeerError
from peer.net.advertiser import Advertiser
from peer.net.discovery import watch

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
    async with asyncio.timeout(30), aclosing(adverts):
        closed = await next_of(adverts, device, is_open=False)
        assert (closed.name, closed.port) == ("kitchen", device.app.server.port)
        await device.open()
        opened = await next_of(adverts, device, is_open=True)
        assert opened.pairing_port == device.app.pairing.port.number
        assert opened.addresses == ("127.0.0.1",)
        device.app.pairing.close_window()
        await next_of(adverts, device, is_open=False)


async def test_a_device_runs_and_pairs_without_multicast(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    async def fails(_self: object) -> None:
        raise PeerError("no multicast here")

    monkeypatch.setattr(Advertiser, "start", fails)
    device = await kit.device(advertise=True)
    await kit.paired(device, "olga")
    assert "no multicast here" in caplog.text


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
