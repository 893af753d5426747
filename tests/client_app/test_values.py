"""Parsing of addresses, encoding of bodies, and escaping of text for a terminal."""

import json

import pytest

from client_app.content import Format, Reply, encoded
from client_app.host_port import HostPort
from client_app.models import Check, CheckResult, DiscoveredDevice, KnownDevice, Whoami
from client_app.terminal import render_checks, render_devices  # noqa: F401 - registers types
from client_app.terminal.render import as_json, as_text, json_line
from client_app.terminal.render_replies import readable
from peer import cbor
from peer.errors import Malformed, UsageError
from peer.identity import Fingerprint
from peer.net.address import Address
from peer.terminal.text import on_lines, on_one_line

# ------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 0),
        ("192.0.2.1:5684", "192.0.2.1", 5684),
        ("lamp.example:1", "lamp.example", 1),
        ("kitchen", "kitchen", 0),
        ("lamp.example.:7", "lamp.example.", 7),
        ("my_lamp", "my_lamp", 0),
        ("2001:db8::1", "2001:db8::1", 0),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535),
        ("[2001:db8::1]", "2001:db8::1", 0),
        ("fe80::1%eth0", "fe80::1%eth0", 0),
        (" [fe80::1%eth0]:7 ", "fe80::1%eth0", 7),
    ],
)
def test_a_valid_address_is_parsed(text: str, host: str, port: int) -> None:
    address = HostPort.parse(text)
    assert (address.host, address.port) == (host, port)
    assert HostPort.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":5684",
        "a:b:c",
        "lamp:0",
        "lamp:65536",
        "lamp:+1",
        "lamp:",
        "[::1",
        "[::1]5",
        "a b",
        "a\nb",
        "a..b",
        ".a",
        "-a.example",
        f"{'a' * 64}.example",
        ".".join(["a" * 63] * 4) + ".b",
    ],
)
def test_an_invalid_address_raises_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        HostPort.parse(text)


def test_a_socket_address_converts_to_a_host_and_port() -> None:
    assert HostPort.from_address(Address("192.0.2.1", 9)) == HostPort("192.0.2.1", 9)
    assert HostPort.from_address(Address("2001:db8::1", 9)) == HostPort("2001:db8::1", 9)


# ---------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("body", "chosen", "payload", "number"),
    [
        (None, None, b"", None),
        (b"\x00", None, b"\x00", 42),
        (b"\xa0", Format.CBOR, b"\xa0", 60),
        ("on", None, b"on", 0),
        ({"a": 1}, None, cbor.encode({"a": 1}), 60),
        ({"a": 1}, Format.JSON, b'{"a": 1}', 50),
        (None, Format.CBOR, b"\xf6", 60),
    ],
)
def test_a_body_is_encoded(
    body: object, chosen: Format | None, payload: bytes, number: int | None
) -> None:
    assert encoded(body, chosen) == (payload, number)


@pytest.mark.parametrize(
    ("body", "chosen"),
    [
        ({1.5: 2}, None),
        (object(), Format.CBOR),
        (float("nan"), Format.JSON),
        ({"a": b""}, Format.JSON),
    ],
)
def test_a_body_that_cannot_be_encoded_raises_usage_error(
    body: object, chosen: Format | None
) -> None:
    with pytest.raises(UsageError):
        encoded(body, chosen)


def test_a_reply_is_decoded_by_its_content_format() -> None:
    assert Reply("2.05", b"\xa1aa\x01", 60).value == {"a": 1}
    assert Reply("2.05", b'{"a": 1}', 50).value == {"a": 1}
    assert Reply("2.05", b"hi", 0).value == "hi"
    assert Reply("2.05", b"hi", None).value == "hi"
    assert Reply("2.05", b"\xff", None).value == b"\xff"
    assert Reply("2.05", b"hi", 42).value == b"hi"


@pytest.mark.parametrize(("payload", "number"), [(b"\xa1", 60), (b"{", 50), (b"[" * 9000, 50)])
def test_a_reply_that_does_not_parse_is_malformed(payload: bytes, number: int) -> None:
    reply = Reply("2.05", payload, number)
    with pytest.raises(Malformed):
        _ = reply.value
    assert as_json(reply)["value"] == {"hex": payload.hex()}


def test_an_address_is_listed_once() -> None:
    seen = "192.0.2.2:5684"
    device = KnownDevice("kitchen", Fingerprint.parse("ab" * 32), last_seen=seen, addresses=(seen,))
    assert as_text(device).count(seen) == 1


def test_conditional_actions_are_listed_separately() -> None:
    me = Whoami("anna", "guest", "ab", "", "local", ("A:B",), until=2**60, conditional=("C:\x1bD",))
    shown = as_text(me).splitlines()
    assert shown[1] == f"role   guest, until {2**60} s since 1970"
    assert shown[-2] == "may    A:B"
    assert shown[-1].startswith("also   C:\\x1bD (")
    assert as_json(me)["conditional"] == ["C:\x1bD"]


# ------------------------------------------------------------------------------------------ text

HOSTILE = {
    "\x1b[2J": "\\x1b[2J",
    "\x9b31m": "\\x9b31m",
    "a\rb": "a\\x0db",
    "\u202egnp.exe": "\\u202egnp.exe",
    "\u2066x": "\\u2066x",
    "\u200b": "\\u200b",
    "\U000e0041": "\\U000e0041",
    "\ue000": "\\ue000",
    "\u2028": "\\u2028",
    "\x07\x08\x7f": "\\x07\\x08\\x7f",
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items())
def test_control_and_format_characters_are_escaped(text: str, shown: str) -> None:
    assert on_one_line(text) == shown
    assert on_lines(text) == shown


def test_letters_of_all_scripts_are_not_escaped() -> None:
    for text in ("Küche", "台所", "кухня", "مطبخ", "a b", "e\u0301"):
        assert on_one_line(text) == text
    assert on_one_line("a\nb\tc") == "a\\x0ab\\x09c"
    assert on_lines("a\nb\tc") == "a\nb\tc"


@pytest.mark.parametrize("hostile", HOSTILE)
def test_every_text_from_a_peer_is_escaped(hostile: str) -> None:
    bodies = [
        Reply("2.05", hostile.encode(), 0),
        Reply("2.05", cbor.encode({hostile: hostile}), 60),
        Reply("2.05", json.dumps({hostile: hostile}, ensure_ascii=False).encode(), 50),
    ]
    seen = DiscoveredDevice(hostile, hostile, ("192.0.2.1",), 1, 0, False, True, hostile)
    for value in (*bodies, seen, Check(hostile, CheckResult.OK, hostile, hostile)):
        assert hostile not in as_text(value)
        assert hostile not in json_line(as_json(value))
        assert as_text(value).isprintable() or "\n" in as_text(value)


def test_values_are_printed_in_a_readable_form() -> None:
    assert readable({"load": [0.1], "raw": b"\x01\x02"}) == '{"load": [0.1], "raw": "h\'0102\'"}'
    assert "\n" in readable({"a" * 100: "b" * 100})
    assert as_text(Reply("2.05", b"\x00\xff", 42)) == "2 bytes: 00 ff"
    assert as_text(Reply("2.04", b"", None)) == ""


def test_the_json_output_is_valid_for_every_cbor_value() -> None:
    value = cbor.encode({1: float("nan"), "b": b"\x01", "l": [float("inf"), None, True]})
    line = json_line(as_json(Reply("2.05", value, 60)))
    assert json.loads(line) == {
        "schema": 1,
        "code": "2.05",
        "format": "cbor",
        "value": {"1": None, "b": {"hex": "01"}, "l": [None, None, True]},
    }


def test_a_check_names_an_address_once() -> None:
    said = "192.0.2.1:5684 does not answer on UDP"
    check = Check("address 192.0.2.1:5684", CheckResult.NOTE, said)
    assert as_text(check).split() == f"note address: {said}".split()
    assert as_json(check)["name"] == "address 192.0.2.1:5684"
    other = Check("address 192.0.2.1:5684", CheckResult.OK, "the device answers")
    assert "192.0.2.1:5684: the device answers" in as_text(other)
