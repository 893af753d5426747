"""Another host announces this device's ID: a copy of its SD card, or any host of the network."""

import socket
from collections.abc import Callable, Iterator

import pytest

from device_app.access import elsewhere
from device_app.console.status import problems_of
from device_app.terminal.render_status import status_lines
from tests.kit.device import Device, Kit
from tests.kit.mdns import GROUP, A, packet
from tests.kit.waiting import until

LOOPBACK, OTHER = "127.0.0.1", "127.0.0.2"
Announce = Callable[[Device, str], None]


@pytest.fixture
def announce() -> Iterator[Announce]:
    """Announces a device's host name as another host does, with an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sender.bind((OTHER, 5353))
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))

        def send(device: Device, address: str) -> None:
            host = f"handfast-{device.fingerprint.device_id.lower()}.local."
            sender.sendto(packet([(host, A, socket.inet_aton(address))], ttl=120), GROUP)

        yield send


async def test_a_copy_of_the_device_is_a_notice_and_stops_nothing(
    kit: Kit, announce: Announce, caplog: pytest.LogCaptureFixture
) -> None:
    device = await kit.device(advertise=True, interfaces=(LOOPBACK,))
    owner = await kit.paired(device, "olga")

    def is_noticed() -> bool:
        announce(device, OTHER)
        return bool(device.app.status()["elsewhere"])

    await until(is_noticed)
    (seen,) = device.app.status()["elsewhere"]
    assert (seen["address"], seen["interface"]) == (OTHER, "lo")
    (event,) = device.events("identity-elsewhere")
    assert (event.address, event.interface) == (OTHER, "lo")
    lines = "\n".join(status_lines(device.app.status()))
    assert f"is also announced from {OTHER}" in lines
    assert "handfast-device new-identity" in lines
    assert f"is also announced from {OTHER}" in caplog.text
    # A notice, and no problem: any host can cause it.
    assert problems_of(device.app.status()) == []
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    assert device.app.status()["announcement"]["trouble"] == ""


async def test_a_flood_of_such_announcements_causes_one_event(kit: Kit) -> None:
    device = await kit.device()
    now = 0.0
    found = elsewhere.Elsewhere(device.app.access.audit, monotonic=lambda: now)
    for number in range(1000):
        now = number * 3.0
        found.note(f"10.0.{number // 256}.{number % 256}", "eth0")
    assert len(device.events("identity-elsewhere")) == 1
    assert len(found.view()) == 4
    now = 3600.0
    found.note("10.0.0.1", "eth0")
    assert len(device.events("identity-elsewhere")) == 2
    now += 3600.0
    assert found.view() == []
