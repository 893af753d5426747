"""`handfast import` takes a file that a person or a program has written."""

import json
from typing import Any

import pytest

from client_app.home import Home
from client_app.known_devices import DeviceBook
from client_app.known_devices_format import imported_untrusted
from peer.errors import Malformed
from tests.kit.shell import Shell

KEY = "ab" * 32
DEVICE = {"alias": "kitchen", "fingerprint": KEY}


@pytest.mark.parametrize(
    ("content", "aliases"),
    [
        ([DEVICE], ["kitchen"]),
        ({"devices": [DEVICE]}, ["kitchen"]),
        ({"schema": 1, "devices": [DEVICE]}, ["kitchen"]),
        ([{"fingerprint": " ".join([KEY[:32], KEY[32:]])}], ["NENTQAXB"]),
        ([{"fingerprint": KEY, "name": "attic", "addresses": ["192.168.1.20"]}], ["attic"]),
        ([], []),
    ],
)
def test_a_fingerprint_is_enough(shell: Shell, content: Any, aliases: list[str]) -> None:
    done = shell("import", "-", stdin=json.dumps(content).encode())
    assert done.code == 0, done.err
    assert [one.alias for one in DeviceBook(Home.at(shell.home).devices).all()] == aliases
    assert [one.fingerprint.hex for one in DeviceBook(Home.at(shell.home).devices).all()] == [
        KEY
    ] * len(aliases)
    assert shell("devices").code == 0
    assert shell("import", "-", stdin=json.dumps(content).encode()).code == 0


@pytest.mark.parametrize(
    ("content", "why", "advice"),
    [
        ([{"alias": "kitchen"}], r"device 1 \('kitchen'\) has no fingerprint", "for example"),
        ([DEVICE, {}], "device 2 has no fingerprint", "for example"),
        ([{**DEVICE, "adress": "x"}], "fields that are not known: 'adress'", "addresses"),
        ([{**DEVICE, "addresses": "192.168.1.20"}], "addresses is not a list", ""),
        ([{**DEVICE, "port": "5684"}], "port is not a whole number", ""),
        ([{**DEVICE, "fingerprint": "ab"}], "it has 2 hex digits", "64 hex digits"),
        ([{"fingerprint": 7}], "fingerprint is not text", ""),
        ([DEVICE, DEVICE], "device 2 .* the alias or the fingerprint of an earlier one", ""),
        (["kitchen"], "device 1 is not an object", "for example"),
        ({"kitchen": KEY}, "it has no list of devices", "for example"),
        ({"schema": 9, "devices": []}, "newer version", "Update"),
    ],
)
def test_an_error_names_the_device_and_what_is_missing(content: Any, why: str, advice: str) -> None:
    with pytest.raises(Malformed, match=why) as caught:
        imported_untrusted(json.dumps(content).encode())
    assert advice in caught.value.advice
