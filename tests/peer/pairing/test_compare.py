"""The method `compare`: the tags of one ceremony are worth nothing in any other."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from peer.identity import Fingerprint
from peer.pairing.binding import Channel, confirmation
from peer.pairing.compare import CompareClient, CompareDevice
from peer.pairing.errors import Mismatch, Misuse

CHANNEL = Channel(b"\x01" * 32, Fingerprint(b"\x02" * 32), Fingerprint(b"\x03" * 32), b"\x04" * 16)
STRANGER = Fingerprint(b"\x09" * 32)


def test_both_sides_confirm() -> None:
    client, device = CompareClient(CHANNEL, "guest"), CompareDevice(CHANNEL, "guest")
    device.check_untrusted(client.accept())
    client.verify_untrusted(device.device_tag())


OTHERS: list[Callable[[], tuple[Channel, str]]] = [
    lambda: (replace(CHANNEL, ekm=b"\x09" * 32), "guest"),
    lambda: (replace(CHANNEL, client=STRANGER), "guest"),
    lambda: (replace(CHANNEL, device=STRANGER), "guest"),
    lambda: (replace(CHANNEL, client=CHANNEL.device, device=CHANNEL.client), "guest"),
    lambda: (replace(CHANNEL, window_id=b"\x09" * 16), "guest"),
    lambda: (CHANNEL, "owner"),
    lambda: (CHANNEL, ""),
]
IDS = ["session", "client key", "device key", "keys swapped", "window", "role", "no role"]


@pytest.mark.parametrize("other", OTHERS, ids=IDS)
def test_a_tag_of_another_ceremony_is_refused(other: Callable[[], tuple[Channel, str]]) -> None:
    with pytest.raises(Mismatch):
        CompareDevice(CHANNEL, "guest").check_untrusted(CompareClient(*other()).accept())


@pytest.mark.parametrize("other", OTHERS, ids=IDS)
def test_an_answer_of_another_ceremony_is_refused(
    other: Callable[[], tuple[Channel, str]],
) -> None:
    client = CompareClient(CHANNEL, "guest")
    client.accept()
    foreign = CompareDevice(*other())
    foreign.check_untrusted(CompareClient(*other()).accept())
    with pytest.raises(Mismatch):
        client.verify_untrusted(foreign.device_tag())


@pytest.mark.parametrize("method", ["sas", "code", "label", "button", ""])
def test_a_tag_of_another_method_is_refused(method: str) -> None:
    b = CHANNEL.binding(method=method, role="guest")
    with pytest.raises(Mismatch):
        CompareDevice(CHANNEL, "guest").check_untrusted(
            confirmation(CHANNEL.ekm, b, method).client_tag
        )


def test_a_key_for_another_method_over_our_binding_is_refused() -> None:
    b = CHANNEL.binding(method="compare", role="guest")
    with pytest.raises(Mismatch):
        CompareDevice(CHANNEL, "guest").check_untrusted(
            confirmation(CHANNEL.ekm, b, "sas").client_tag
        )


def test_reflection_is_refused() -> None:
    client = CompareClient(CHANNEL, "guest")
    own = client.accept()
    with pytest.raises(Mismatch):
        client.verify_untrusted(own)

    device = CompareDevice(CHANNEL, "guest")
    device.check_untrusted(own)
    with pytest.raises(Mismatch):
        CompareDevice(CHANNEL, "guest").check_untrusted(device.device_tag())


@pytest.mark.parametrize("tag", [b"", b"\0", b"\0" * 31, b"\0" * 32, b"\0" * 33, b"\0" * 4096])
def test_any_other_bytes_are_refused(tag: bytes) -> None:
    with pytest.raises(Mismatch):
        CompareDevice(CHANNEL, "guest").check_untrusted(tag)


@pytest.mark.parametrize("length", range(1, 32))
def test_a_part_of_the_tag_is_refused(length: int) -> None:
    with pytest.raises(Mismatch):
        CompareDevice(CHANNEL, "guest").check_untrusted(
            CompareClient(CHANNEL, "guest").accept()[:length]
        )


@pytest.mark.parametrize("tag", [None, "text", 7, [1], {"confirm": b""}])
def test_a_client_refuses_what_is_not_bytes(tag: object) -> None:
    client = CompareClient(CHANNEL, "guest")
    client.accept()
    with pytest.raises(Mismatch):
        client.verify_untrusted(tag)


def test_no_second_try() -> None:
    device = CompareDevice(CHANNEL, "guest")
    with pytest.raises(Mismatch):
        device.check_untrusted(b"\0" * 32)
    with pytest.raises(Misuse):
        device.check_untrusted(CompareClient(CHANNEL, "guest").accept())
    with pytest.raises(Misuse):
        device.device_tag()


def test_steps_out_of_turn_are_misuse() -> None:
    device, client = CompareDevice(CHANNEL, "guest"), CompareClient(CHANNEL, "guest")
    with pytest.raises(Misuse):
        device.device_tag()
    with pytest.raises(Misuse):
        client.verify_untrusted(b"\0" * 32)
    device.check_untrusted(client.accept())
    with pytest.raises(Misuse):
        client.accept()
    tag = device.device_tag()
    with pytest.raises(Misuse):
        device.device_tag()
    client.verify_untrusted(tag)
    with pytest.raises(Misuse):
        client.verify_untrusted(tag)


def test_no_tag_in_a_repr_or_an_error() -> None:
    client = CompareClient(CHANNEL, "guest")
    tag = client.accept()
    with pytest.raises(Mismatch) as caught:
        client.verify_untrusted(tag)
    for text in (repr(client), str(caught.value), caught.value.advice):
        assert tag.hex() not in text
        assert repr(tag)[2:-1] not in text
