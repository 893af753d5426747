"""A real daemon that announces itself, a real client, and a host that sends forged mDNS.

The attacker sends on the loopback interface, and only adverts with the ID of the test's device.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from peer.identity import Fingerprint
from peer.net.adverts import SERVICE, instance_label
from tests.kit.mdns import DECADES, mdns_sender, packet, service_records, text_record

if TYPE_CHECKING:
    from tests.kit.system import Device, Stage

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"
PAUSE_SECONDS = 0.05


def forged_adverts_of(device: Device, rogue: Device) -> list[bytes]:
    """Adverts of a closed window, of a rogue device with another key, and of dead addresses."""
    device_id = Fingerprint.parse(device.fingerprint).device_id
    own = f"{instance_label(device.name, device_id)}.{SERVICE}"
    host = f"handfast-{device_id.lower()}.local."
    rogue_port = rogue.status()["window"]["port"]
    text = text_record(id=device_id, name=device.name, pm="0")
    found = [
        packet(service_records(text, instance=own, host=host), flush=True, ttl=DECADES),
        packet(service_records(text, instance=own, host="evil.local."), flush=True, ttl=DECADES),
    ]
    for number, port in enumerate((rogue_port, 9)):
        text = text_record(id=device_id, name=device.name, pp=str(port))
        records = [
            record
            for last in range(1, 17 if port == 9 else 2)
            for record in service_records(
                text,
                instance=f"k{number} {device_id}.{SERVICE}",
                host=f"k{number}-{device_id.lower()}.local.",
                address=HOST if last == 1 else f"127.0.{number + 7}.{last}",
                port=rogue.port,
            )
        ]
        found.append(packet(list(dict.fromkeys(records)), flush=True, ttl=DECADES))
    return found


@contextmanager
def sending_repeatedly(packets: list[bytes]) -> Iterator[None]:
    """Send all packets repeatedly until the context ends."""
    stopped = threading.Event()

    def send() -> None:
        with mdns_sender(HOST) as sock:
            while not stopped.wait(PAUSE_SECONDS):
                for one in packets:
                    sock.send(one)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@pytest.mark.parametrize("form", ["label", "name", "id"])
def test_a_user_pairs_while_an_attacker_sends_forged_adverts(stage: Stage, form: str) -> None:
    device, rogue = stage.device("spoofed", announced=True), stage.device("rogue")
    anna = stage.client("anna")
    for one in (device, rogue):
        one.boot()
        one.run("close")
    label = device.json("label")["label"]
    for one in (device, rogue):
        one.run("open", "--no-wait")
    target = {"label": label["text"], "name": device.name, "id": device.id}[form]
    proof = [] if form == "label" else ["--code", label["code"], "--yes"]
    with sending_repeatedly(forged_adverts_of(device, rogue)):
        anna.run("--interface", HOST, "pair", target, "--name", "anna", *proof)
        [known] = anna.book.all()
        assert known.fingerprint.hex == device.fingerprint
        anna.book.put(replace(known, last_seen=f"{HOST}:9", port=9))  # the device has moved
        anna.run("--interface", HOST, "get", known.alias, "/hello")
    assert not rogue.events("ceremony-started")


def test_forged_adverts_alone_raise_unreachable(stage: Stage) -> None:
    device, rogue, anna = stage.device("spoofed"), stage.device("rogue"), stage.client("anna")
    for one in (device, rogue):
        one.boot()
        one.run("close")
        one.run("open", "--no-wait")
    text = device.json("label")["label"]["text"]
    with sending_repeatedly(forged_adverts_of(device, rogue)[:-1]):
        error = anna.run("--json", "--interface", HOST, "pair", text, code=3).error
    assert error["kind"] == "Unreachable"
    assert "another key answered" in error["message"]
    at = f"{HOST}:{rogue.status()['window']['port']}"
    assert anna.run("--json", "pair", text, "--at", at, code=5).error["kind"] == "PinMismatch"
    assert not anna.aliases
