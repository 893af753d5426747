"""Behaviour 42: no key, tag or exporter value in any log at DEBUG, event, answer, status or state.

A whole life of a device is lived under a log that keeps all, with attacks in it. The secrets of it
are known to the test; they are looked for in everything that was written, in each form that a
program may write bytes.
"""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from device_app.pairing_terms import NewsKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peer.identity import Identity
    from tests.hostile.conftest import Caller, Device, Kit

pytestmark = pytest.mark.asyncio


def forms(secret: bytes) -> Iterator[bytes]:
    """How bytes get into text: raw, hex, base64, as a repr, as a number, as a list of numbers."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield secret.hex(" ").encode()
    yield secret.hex(":").encode()
    yield base64.b64encode(secret).rstrip(b"=")[:-1]
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")[:-1]
    yield base64.b32encode(secret).rstrip(b"=")[:-1]
    yield repr(secret)[2:-1].encode()
    yield str(int.from_bytes(secret)).encode()
    yield ", ".join(map(str, secret)).encode()


def private_parts(identity: Identity) -> Iterator[bytes]:
    key = identity.private_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    yield key.private_numbers().private_value.to_bytes(32)
    lines = [line for line in identity.key_pem().splitlines() if b"-----" not in line]
    yield from (base64.b64decode(line + b"==") for line in lines[:1])


def found(secrets: dict[str, bytes], text: bytes) -> list[str]:
    return [name for name, secret in secrets.items() if any(form in text for form in forms(secret))]


async def live(kit: Kit, device: Device, secrets: dict[str, bytes]) -> list[Caller]:
    """A pairing, wrong and stolen tags, a stranger, and a crash of a handler."""
    anna, eve = kit.caller(device), kit.caller(device)
    await device.open(role="user")
    for turn in ("wrong", "reflected", "cut", "right"):
        if not device.app.door.is_open:
            await device.closed()
            await device.open(role="user", clears_backoff=True)
        started = await anna.start("anna")
        if started.code != "2.01":
            await device.open(role="user", clears_backoff=True)
            started = await anna.start("anna")
        tags = anna.tags(started)
        secrets |= {f"client tag {turn}": tags.client_tag, f"device tag {turn}": tags.device_tag}
        secrets[f"exporter {turn}"] = anna._held[True].peer.exporter
        device.decide(accept=True)
        await eve.pair_ask("POST", f"/pair/{started.body['id']}", {"confirm": tags.client_tag})
        tag = {
            "wrong": bytes(32),
            "reflected": tags.device_tag,
            "cut": tags.client_tag[:-1],
            "right": tags.client_tag,
        }[turn]
        done = await anna.confirm(started, tag)
        assert done.code == ("2.04" if turn == "right" else "4.03")
    await anna.ask("GET", "/hello")
    await eve.ask("GET", "/hello")
    await eve.ask("POST", "/iam/users", raw=b"\xff" * 40)
    hello = device.app.site.paths()["hello",]

    async def breaks(_request: object) -> None:
        raise RuntimeError("the handler breaks")

    hello.render_get = breaks
    assert (await anna.ask("GET", "/hello")).code == "5.00"
    secrets["exporter regular"] = anna._held[False].peer.exporter
    secrets["exporter stranger"] = eve._held[False].peer.exporter
    return [anna, eve]


async def test_nothing_secret_is_written_anywhere(
    kit: Kit, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("handfast", "handfast.coap", "coap", "coap-server", "asyncio", "peer", "iam"):
        caplog.set_level(logging.DEBUG, logger=name)
    secrets: dict[str, bytes] = {}
    callers = await live(kit, device, secrets)
    for who, identity in (
        ("device", device.app.identity),
        *((f"caller {n}", c.identity) for n, c in enumerate(callers)),
    ):
        for number, part in enumerate(private_parts(identity)):
            secrets[f"private key {number} of the {who}"] = part

    formatter = logging.Formatter("%(message)s")
    log = "\n".join(formatter.format(record) for record in caplog.records)
    assert "Incoming message" in log, "the log is not at DEBUG"
    assert "Traceback" in log, "the breaking handler is not in the log"
    assert not found(secrets, log.encode("utf-8", "surrogateescape"))

    trail = device.app.whitelist.store.trail
    events = [record.event for record in trail.iterate()]
    kinds = {event.kind for event in events}
    assert {"window-opened", "ceremony-started", "mismatch", "registered", "paired"} <= kinds
    assert not found(secrets, repr(events).encode())
    assert not found(secrets, repr(device.app.status()).encode())
    assert not found(secrets, repr(device.news).encode())
    assert (await device.heard(NewsKind.ENDED)).ceremony is not None

    for held in (*callers[0]._held.values(), *callers[1]._held.values()):
        assert not found(secrets, repr(held.peer).encode())
    assert not found(secrets, repr(device.app.identity).encode())
    assert not found(secrets, repr(device.app.door.window).encode())

    await device.app.close()
    for path in kit.home.rglob("*"):
        if path.is_file():
            kept = path.read_bytes()
            own = {"private key 0 of the device", "private key 1 of the device"}
            leaked = set(found(secrets, kept))
            assert leaked <= (own if path.suffix == ".pem" or "key" in path.name else set()), path
            if leaked:
                assert path.stat().st_mode & 0o777 == 0o600
                assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_the_search_finds_what_is_there() -> None:
    """The net has no holes: each form of a secret is found in a line of log."""
    secret = bytes(range(200, 232))
    for form in forms(secret):
        assert found({"it": secret}, b"before " + form + b" after") == ["it"]
    assert not found({"it": secret}, b"before after")
