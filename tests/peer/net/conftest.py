"""Fixtures of the tests of `peer.net`: sockets, network namespaces and raw packets."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.kit.namespaces import (
    DEVICE_MAC,
    Lan,
    Namespaces,
    TwoLinks,
    add_addresses,
    two_links,
)
from tests.kit.sockets import Inbox, Open
from tests.kit.sockets import udp_packet as make_packet


@pytest.fixture
def sockets() -> Iterator[Open]:
    opened = Open([])
    yield opened
    for made in opened.made:
        made.close()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with closing(Namespaces()) as made:
        yield made


@pytest.fixture
def lan(namespaces: Namespaces) -> Lan:
    made = Lan(namespaces.add(), namespaces.add())
    namespaces.join(made.device, made.client)
    made.device.ip("link", "set", "eth0", "address", DEVICE_MAC)
    for number, end in enumerate((made.device, made.client), start=1):
        add_addresses(end, "eth0", number)
    return made


@pytest.fixture
def links(namespaces: Namespaces) -> TwoLinks:
    return two_links(namespaces)


@pytest.fixture
def udp_packet() -> Callable[..., bytes]:
    return make_packet
