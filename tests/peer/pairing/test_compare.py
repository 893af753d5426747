"""The method `compare`: the tags of one ceremony are not valid in any other."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.binding import Channel, confirmation
from peer.pairing.compare import CompareClient, CompareDevice
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.sides import Terms, bytes_field

CHANNEL = Channel(b"\x01" * 32, Fingerprint(b"\x02" * 32), Fingerprint(b"\x03" * 32), b"\x04" * 16)
OTHER_KEY = Fingerprint(b"\x09" * 32)


def device_side(channel: Channel = CHANNEL, role: str = "guest") -> CompareDevice:
    """A device that has answered the start."""
    device = CompareDevice(Terms(channel, role, "anna", "c1"))
    device.begin_untrusted({})
    return device


def client_side(channel: Channel = CHANNEL, role: str = "guest") -> CompareClient:
    """A client that has the answer to its start."""
    client = CompareClient()
    client.begin()
    client.started_untrusted(Terms(channel, role, "anna", "c1"), {})
    return client


def tag_of(client: CompareClient) -> bytes:
    return bytes_field(client.confirm(), "confirm")


def test_both_sides_confirm() -> None:
    client, device = client_side(), device_side()
    device.check_untrusted(client.confirm())
    client.verify_untrusted({"confirm": device.device_tag()})


OTHER_PARAMETERS: list[Callable[[], tuple[Channel, str]]] = [
    lambda: (replace(CHANNEL, ekm=b"\x09" * 32), "guest"),
    lambda: (replace(CHANNEL, client=OTHER_KEY), "guest"),
    lambda: (replace(CHANNEL, device=OTHER_KEY), "guest"),
    lambda: (replace(CHANNEL, client=CHANNEL.device, device=CHANNEL.client), "guest"),
    lambda: (replace(CHANNEL, window_id=b"\x09" * 16), "guest"),
    lambda: (CHANNEL, "owner"),
    lambda: (CHANNEL, ""),
]
IDS = ["session", "client key", "device key", "keys swapped", "window", "role", "no role"]


@pytest.mark.parametrize("other", OTHER_PARAMETERS, ids=IDS)
def test_a_client_tag_of_another_ceremony_is_rejected(
    other: Callable[[], tuple[Channel, str]],
) -> None:
    with pytest.raises(Mismatch):
        device_side().check_untrusted(client_side(*other()).confirm())


@pytest.mark.parametrize("other", OTHER_PARAMETERS, ids=IDS)
def test_a_device_tag_of_another_ceremony_is_rejected(
    other: Callable[[], tuple[Channel, str]],
) -> None:
    client = client_side()
    client.confirm()
    foreign = device_side(*other())
    foreign.check_untrusted(client_side(*other()).confirm())
    with pytest.raises(Mismatch):
        client.verify_untrusted({"confirm": foreign.device_tag()})


@pytest.mark.parametrize("method", ["sas", "code", "label", "button", ""])
def test_a_tag_of_another_method_is_rejected(method: str) -> None:
    b = CHANNEL.binding(method=method, role="guest")
    with pytest.raises(Mismatch):
        device_side().check_untrusted({"confirm": confirmation(CHANNEL.ekm, b, method).client_tag})


def test_a_tag_with_the_key_of_another_method_is_rejected() -> None:
    b = CHANNEL.binding(method="compare", role="guest")
    with pytest.raises(Mismatch):
        device_side().check_untrusted({"confirm": confirmation(CHANNEL.ekm, b, "sas").client_tag})


def test_a_reflected_tag_is_rejected() -> None:
    client = client_side()
    own = client.confirm()
    with pytest.raises(Mismatch):
        client.verify_untrusted(own)

    device = device_side()
    device.check_untrusted(own)
    with pytest.raises(Mismatch):
        device_side().check_untrusted({"confirm": device.device_tag()})


@pytest.mark.parametrize("tag", [b"", b"\0", b"\0" * 31, b"\0" * 32, b"\0" * 33, b"\0" * 4096])
def test_any_other_tag_bytes_are_rejected(tag: bytes) -> None:
    with pytest.raises(Mismatch):
        device_side().check_untrusted({"confirm": tag})


@pytest.mark.parametrize("length", range(1, 32))
def test_a_prefix_of_the_tag_is_rejected(length: int) -> None:
    with pytest.raises(Mismatch):
        device_side().check_untrusted({"confirm": tag_of(client_side())[:length]})


@pytest.mark.parametrize("tag", [None, "text", 7, [1], {"confirm": b""}])
def test_a_client_rejects_a_tag_that_is_not_bytes(tag: object) -> None:
    client = client_side()
    client.confirm()
    with pytest.raises(Mismatch):
        client.verify_untrusted({"confirm": tag})


def test_a_device_accepts_another_message_after_a_malformed_one() -> None:
    device, client = device_side(), client_side()
    for tag in (None, "text", 7, [1]):
        with pytest.raises(Malformed):
            device.check_untrusted({"confirm": tag})
    device.check_untrusted(client.confirm())


def test_a_wrong_tag_allows_no_second_attempt() -> None:
    device = device_side()
    with pytest.raises(Mismatch):
        device.check_untrusted({"confirm": b"\0" * 32})
    with pytest.raises(Misuse):
        device.check_untrusted(client_side().confirm())
    with pytest.raises(Misuse):
        device.device_tag()


def test_steps_out_of_turn_raise_misuse() -> None:
    device, client = CompareDevice(Terms(CHANNEL, "guest", "anna", "c1")), CompareClient()
    for early in (
        lambda: device.check_untrusted({"confirm": b"\0" * 32}),
        device.device_tag,
        client.confirm,
        lambda: client.started_untrusted(Terms(CHANNEL, "guest", "anna", "c1"), {}),
    ):
        with pytest.raises(Misuse):
            early()
    device, client = device_side(), client_side()
    with pytest.raises(Misuse):
        device.device_tag()
    with pytest.raises(Misuse):
        client.verify_untrusted({"confirm": b"\0" * 32})
    device.check_untrusted(client.confirm())
    with pytest.raises(Misuse):
        client.confirm()
    tag = device.device_tag()
    with pytest.raises(Misuse):
        device.device_tag()
    client.verify_untrusted({"confirm": tag})
    with pytest.raises(Misuse):
        client.verify_untrusted({"confirm": tag})


def test_a_repr_or_an_error_shows_no_tag() -> None:
    client = client_side()
    tag = tag_of(client)
    with pytest.raises(Mismatch) as caught:
        client.verify_untrusted({"confirm": tag})
    for text in (repr(client), str(caught.value), caught.value.advice):
        assert tag.hex() not in text
        assert repr(tag)[2:-1] not in text
