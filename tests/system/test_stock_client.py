"""A CoAP client that sends TTL 64, and a device in strict mode: docs/protocol.md §5.7."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.kit.interop import write_keys
from tests.kit.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.namespaces import Namespace
    from tests.kit.system import Stage

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_tool("ip", "openssl")]


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    """The namespaces of a device at 192.0.2.1 and of a client at 192.0.2.2, joined by a cable."""
    made = Namespaces()
    try:
        device, client = made.add(), made.add()
        made.join(device, client)
        device.ip("address", "add", "192.0.2.1/24", "dev", "eth0")
        client.ip("address", "add", "192.0.2.2/24", "dev", "eth0")
        device.await_addresses("192.0.2.1")
        client.await_addresses("192.0.2.2")
        yield device, client
    finally:
        made.close()


@pytest.mark.needs_tool("coap-client-openssl")
@pytest.mark.parametrize("setting", [64, 255])
def test_a_stock_client_pairs_in_strict_mode_if_its_machine_sends_255(
    stage: Stage, ends: tuple[Namespace, Namespace], setting: int
) -> None:
    of_device, of_client = ends
    kitchen = stage.device()
    kitchen.run_options, kitchen.place = [], ("ip", "netns", "exec", of_device.name)
    more = kitchen.home / "device.d" / "cables.toml"
    more.write_text('[network]\nlocal_interfaces = ["eth0"]\n')
    of_client.sysctl(ipv4__ip_default_ttl=setting)
    kitchen.boot()
    opening = kitchen.open()
    keys = write_keys(stage.folder, "stock", ec.generate_private_key(ec.SECP256R1()))
    uri = f"coaps://192.0.2.1:{opening.port}/pair?name=anna"
    here = ("ip", "netns", "exec", of_client.name)
    stock = stage.start(
        [*here, "coap-client-openssl", *map(str, keys.coap), "-B", "30", "-m", "post", uri],
        env=dict(os.environ),
    )
    if setting == 64:
        result = stock.end()
        assert "not-local" in result.out + result.err
        assert not kitchen.users()
        return
    kitchen.run("accept", opening.pending()["id"])
    opening.program.end(code=0)
    assert "paired as anna with role owner" in stock.end(code=0).out
    assert kitchen.users() == {"anna": [keys.fingerprint.hex]}
