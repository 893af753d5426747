"""The remote settings: encoding, decoding, and values that they cannot have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer import cbor
from peer.errors import Malformed
from peer.remote.settings import RemoteSettings, Server, is_prefix
from peer.secret import Secret

BROKER = Server("mqtts://broker.example", "alice", Secret("hunter2"), bytes(range(32)))
RELAY = Server("turn:relay.example?transport=udp", "alice", Secret("hunter3"))
OTHER_BROKER = Server("wss://broker.example/mqtt")
FULL = RemoteSettings(
    secret=Secret(bytes(32)),
    prefix="hf1/alice",
    brokers=(BROKER,),
    stun=("stun.example:3478",),
    turn=(RELAY,),
)


def fields(**changes: object) -> dict[str, Any]:
    decoded = cbor.decode_untrusted(FULL.encode())
    assert isinstance(decoded, dict)
    return {**decoded, **changes}


def test_settings_survive_encoding() -> None:
    again = RemoteSettings.decode_untrusted(FULL.encode())
    assert again == FULL
    assert again.revision == FULL.revision
    assert again.encode() == FULL.encode()


def test_every_member_changes_the_revision() -> None:
    changed = [
        replace(FULL, revision=-1, secret=Secret(bytes(31) + b"x")),
        replace(FULL, revision=-1, prefix="hf1/bob"),
        replace(FULL, revision=-1, brokers=(OTHER_BROKER, BROKER)),
        replace(FULL, revision=-1, stun=()),
        replace(FULL, revision=-1, turn=()),
    ]
    assert len({FULL.revision, *(one.revision for one in changed)}) == 6


def test_a_representation_shows_no_secret() -> None:
    assert "hunter" not in repr(FULL)
    assert "x00" not in repr(FULL.secret)


def test_the_settings_of_a_newer_device_keep_their_revision() -> None:
    settings = RemoteSettings.decode_untrusted(cbor.encode(fields(revision=7, newer=True)))
    assert settings == FULL
    assert settings.revision == 7


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("mqtts://broker.example", ("mqtts", "broker.example", 8883, "", "")),
        ("mqtts://192.0.2.1:1234/", ("mqtts", "192.0.2.1", 1234, "", "")),
        ("mqtts://[2001:db8::1]", ("mqtts", "2001:db8::1", 8883, "", "")),
        ("wss://broker.example", ("wss", "broker.example", 443, "/", "")),
        ("wss://broker.example:8084/mqtt", ("wss", "broker.example", 8084, "/mqtt", "")),
        ("turn:relay.example", ("turn", "relay.example", 3478, "", "udp")),
        ("turn:relay.example:99?transport=tcp", ("turn", "relay.example", 99, "", "tcp")),
        ("turns:[2001:db8::1]", ("turns", "2001:db8::1", 5349, "", "tcp")),
        ("turns:relay.example?transport=tcp", ("turns", "relay.example", 5349, "", "tcp")),
    ],
)
def test_a_url_has_these_parts(url: str, parts: tuple[object, ...]) -> None:
    address = Server(url).address
    found = (address.scheme, address.host, address.port, address.path, address.transport)
    assert found == parts


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mqtt://broker.example",
        "mqtts:broker.example",
        "mqtts://alice@broker.example",
        "mqtts://broker.example/path",
        "mqtts://broker.example:0",
        "mqtts://broker.example:65536",
        "mqtts://broker.example?transport=udp",
        "ws://broker.example",
        "turn://relay.example",
        "turn:relay.example?transport=sctp",
        "turns:relay.example?transport=udp",
        "turn:relay.example/path",
        "turn:" + "a" * 300,
        "mqtts://broker.example\n",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(Malformed):
        Server(url)


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "a//b", "a/+", "a/#", "$SYS", "a\0", "a" * 161])
def test_a_prefix_has_no_wildcards_and_no_empty_levels(prefix: str) -> None:
    assert not is_prefix(prefix)


SERVER: dict[str, Any] = {"url": "mqtts://b.example", "username": "", "password": ""}


@pytest.mark.parametrize(
    "change",
    [
        {"secret": bytes(31)},
        {"secret": "0" * 32},
        {"prefix": "hf1/+"},
        {"revision": -1},
        {"revision": 2**32},
        {"revision": True},
        {"brokers": []},
        {"brokers": [SERVER] * 5},
        {"brokers": [{**SERVER, "url": "turn:b.example"}]},
        {"brokers": [{**SERVER, "pin": b""}]},
        {"brokers": [{**SERVER, "pin": bytes(31)}]},
        {"brokers": [{**SERVER, "pin": "0" * 32}]},
        {"brokers": [{**SERVER, "username": "a\0"}]},
        {"brokers": [{**SERVER, "username": "a" * 129}]},
        {"brokers": [{**SERVER, "password": "a\nb"}]},
        {"brokers": [{"url": "mqtts://b.example"}]},
        {"brokers": ["mqtts://b.example"]},
        {"stun": [7]},
        {"stun": ["stun.example"]},
        {"stun": ["stun.example:3478"] * 5},
        {"turn": [SERVER]},
        {"turn": None},
    ],
)
def test_invalid_settings_are_refused(change: dict[str, Any]) -> None:
    RemoteSettings.decode_untrusted(cbor.encode(fields()))
    with pytest.raises(Malformed):
        RemoteSettings.decode_untrusted(cbor.encode(fields(**change)))


@given(st.binary(max_size=300))
def test_any_bytes_are_settings_or_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        RemoteSettings.decode_untrusted(data)
