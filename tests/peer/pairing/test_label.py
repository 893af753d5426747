"""The method `label`: the printed text, and a token that is sent only to its own device."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.armour import LABEL, armour_fields, base32
from peer.pairing.binding import Channel
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.label import Label, LabelClient, LabelDevice, token_verifier
from peer.pairing.sides import Session, Terms, bytes_field

CHANNEL = Channel(b"\x01" * 32, Fingerprint(b"\x02" * 32), Fingerprint(b"\x03" * 32), b"\x04" * 16)
OTHER_KEY = Fingerprint(b"\x09" * 32)
LABEL_OF_DEVICE = Label(CHANNEL.device, bytes(range(16)))
QR_ALPHANUMERICS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"

labels = st.builds(
    Label, st.binary(min_size=32, max_size=32).map(Fingerprint), st.binary(min_size=16, max_size=16)
)


def device_side(
    channel: Channel = CHANNEL, role: str = "guest", *, verifier: bytes = LABEL_OF_DEVICE.verifier
) -> LabelDevice:
    """A device that has answered the start."""
    device = LabelDevice(Terms(channel, role, "anna", "c1"), verifier=verifier)
    device.begin_untrusted({})
    return device


def client_side(
    channel: Channel = CHANNEL, role: str = "guest", *, label: Label | None = None
) -> LabelClient:
    """A client that has the answer to its start."""
    label = label or replace(LABEL_OF_DEVICE, device=channel.device)
    client = LabelClient(Session(channel.ekm, channel.client, channel.device), label)
    client.begin()
    client.started_untrusted(Terms(channel, role, "anna", "c1"), {})
    return client


def tag_of(client: LabelClient) -> bytes:
    return bytes_field(client.confirm(), "confirm")


# ------------------------------------------------------------------------------------------- text


def test_the_label_text_matches_a_known_value() -> None:
    # Test vector for other implementations, as in docs/protocol.md.
    assert LABEL_OF_DEVICE.text == (
        "HANDFAST:1:0C1G60R3:0C1G60R30C1G60R30C1G60R30C1G60R30C1G60R30C1G60R30C1G"
        ":000G40R40M30E209185GR38E1WD"
    )


@given(labels)
def test_a_label_is_read_back_from_its_text(label: Label) -> None:
    parts = label.text.removeprefix("HANDFAST:").split(":")
    assert parts[1] == label.device.device_id == parts[2][:8]
    assert len(label.text) == 100
    assert Label.parse_untrusted(label.text) == label
    assert Label.parse_untrusted(f" {label.text[:50].lower()}\n  {label.text[50:]}\r\n") == label


@given(labels)
def test_the_text_fits_a_qr_code_of_version_5_m(label: Label) -> None:
    code = segno.make(label.text, error="m", boost_error=False, micro=False)
    assert code.mode == "alphanumeric"
    assert int(code.version) <= 5


def test_every_typing_error_is_detected() -> None:
    """Substitutions by each QR symbol, swaps, omissions, doubled symbols and truncation."""

    text = LABEL_OF_DEVICE.text
    misread = text.replace("0", "O").replace("1", "I", 1)
    variants = {text[:at] + text[at + 1] + text[at] + text[at + 2 :] for at in range(99)}
    for at in range(100):
        variants |= {text[:at] + symbol + text[at + 1 :] for symbol in QR_ALPHANUMERICS}
        variants |= {text[:at] + text[at + 1 :], text[: at + 1] + text[at:], text[:at]}
    variants.remove("H" + text)  # what precedes a text is not a part of it
    assert misread not in variants
    wrong = 0
    for variant in variants - {text}:
        try:
            assert Label.parse_untrusted(variant) == LABEL_OF_DEVICE  # O for 0, I or L for 1
            read = variant[11:].translate(str.maketrans("OIL*$", "011:U"))
            assert read == text[11:]
        except Malformed:
            wrong += 1
    assert wrong > 4200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (("0C1G60R3", base32(b"\x03" * 31), base32(b"t" * 16)), "do not match"),
        (("0C1G60R3", base32(b"\x03" * 33), base32(b"t" * 16)), "do not match"),
        (("0C1G60R4", base32(b"\x03" * 32), base32(b"t" * 16)), "do not match"),
        (("", base32(b"\x03" * 32), base32(b"t" * 16)), "do not match"),
        (("0C1G60R", base32(b"\x03" * 32), base32(b"t" * 16)), "do not match"),
        (("0C1G60R3", "", base32(b"t" * 16)), "do not match"),
        (("0C1G60R3", base32(b"\x03" * 32), base32(b"t" * 15)), "wrong length"),
        (("0C1G60R3", base32(b"\x03" * 32), base32(b"t" * 17)), "wrong length"),
        (("0C1G60R3", base32(b"\x03" * 32), ""), "wrong length"),
        (("0C1G60R3", base32(b"\x03" * 32), "0Z"), "contains an error"),
        (("0C1G60R3", base32(b"\x03" * 32)), "does not support"),
        (("0C1G60R3", base32(b"\x03" * 32), base32(b"t" * 16), "00"), "does not support"),
    ],
)
def test_an_armoured_text_that_is_not_a_label_is_rejected(
    fields: tuple[str, ...], words: str
) -> None:
    with pytest.raises(Malformed, match=words) as caught:
        Label.parse_untrusted(armour_fields(LABEL, *fields))
    assert caught.value.advice


@given(st.text() | st.text(QR_ALPHANUMERICS) | st.none() | st.binary())
def test_any_input_is_a_label_or_malformed(junk: object) -> None:
    for thing in (junk, f"HANDFAST:1:{junk}", f"{LABEL_OF_DEVICE.text}{junk}"):
        try:
            assert Label.parse_untrusted(thing) == LABEL_OF_DEVICE
        except Malformed as error:
            assert error.advice  # noqa: PT017 - only this error may come


# ---------------------------------------------------------------------------------------- ceremony


def test_both_sides_confirm() -> None:
    client, device = client_side(), device_side()
    message = client.confirm()
    assert message["token"] == LABEL_OF_DEVICE.token
    device.check_untrusted(message)
    client.verify_untrusted({"confirm": device.device_tag()})


def test_the_token_is_never_sent_to_another_key() -> None:
    with pytest.raises(Mismatch) as caught:
        LabelClient(Session(CHANNEL.ekm, CHANNEL.client, OTHER_KEY), LABEL_OF_DEVICE)
    assert OTHER_KEY.hex in str(caught.value)
    assert LABEL_OF_DEVICE.device.hex in str(caught.value)


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"\0" * 16,
        LABEL_OF_DEVICE.token[:15],
        LABEL_OF_DEVICE.token + b"\0",
        LABEL_OF_DEVICE.token[::-1],
        LABEL_OF_DEVICE.verifier,  # the stored value, which an attacker could copy
        base32(LABEL_OF_DEVICE.token).encode(),
    ],
)
def test_a_wrong_token_ends_the_ceremony(token: bytes) -> None:
    device = device_side()
    with pytest.raises(Mismatch, match="token"):
        device.check_untrusted({**client_side().confirm(), "token": token})
    with pytest.raises(Misuse):
        device.check_untrusted(client_side().confirm())
    with pytest.raises(Misuse):
        device.device_tag()


@pytest.mark.parametrize("field", ["token", "confirm"])
@pytest.mark.parametrize("value", [None, "text", 7, [LABEL_OF_DEVICE.token]])
def test_a_field_that_is_not_bytes_may_be_sent_again(field: str, value: object) -> None:
    device, message = device_side(), client_side().confirm()
    with pytest.raises(Malformed):
        device.check_untrusted({**message, field: value})
    device.check_untrusted(message)


def test_the_verifier_is_valid_for_one_device() -> None:
    token = LABEL_OF_DEVICE.token
    assert LABEL_OF_DEVICE.verifier == token_verifier(CHANNEL.device, token)
    assert token_verifier(OTHER_KEY, token) != LABEL_OF_DEVICE.verifier
    with pytest.raises(Mismatch):
        device_side(replace(CHANNEL, device=OTHER_KEY)).check_untrusted(client_side().confirm())


OTHER_PARAMETERS: dict[str, Callable[[], tuple[Channel, str]]] = {
    "session": lambda: (replace(CHANNEL, ekm=b"\x09" * 32), "guest"),
    "client key": lambda: (replace(CHANNEL, client=OTHER_KEY), "guest"),
    "device key": lambda: (replace(CHANNEL, device=OTHER_KEY), "guest"),
    "keys swapped": lambda: (
        replace(CHANNEL, client=CHANNEL.device, device=CHANNEL.client),
        "guest",
    ),
    "window": lambda: (replace(CHANNEL, window_id=b"\x09" * 16), "guest"),
    "role": lambda: (CHANNEL, "owner"),
}


@pytest.mark.parametrize("other", OTHER_PARAMETERS.values(), ids=OTHER_PARAMETERS.keys())
def test_a_client_tag_of_another_ceremony_is_rejected(
    other: Callable[[], tuple[Channel, str]],
) -> None:
    with pytest.raises(Mismatch, match="confirmation"):
        device_side().check_untrusted(client_side(*other()).confirm())


@pytest.mark.parametrize("other", OTHER_PARAMETERS.values(), ids=OTHER_PARAMETERS.keys())
def test_a_device_tag_of_another_ceremony_is_rejected(
    other: Callable[[], tuple[Channel, str]],
) -> None:
    channel, role = other()
    other_label = replace(LABEL_OF_DEVICE, device=channel.device)
    device = device_side(channel, role, verifier=other_label.verifier)
    device.check_untrusted(client_side(channel, role, label=other_label).confirm())
    client = client_side()
    client.confirm()
    with pytest.raises(Mismatch):
        client.verify_untrusted({"confirm": device.device_tag()})


def test_the_tag_depends_on_the_token() -> None:
    tag = tag_of(client_side(label=Label(CHANNEL.device, b"t" * 16)))
    with pytest.raises(Mismatch, match="confirmation"):
        device_side().check_untrusted({"token": LABEL_OF_DEVICE.token, "confirm": tag})


def test_a_device_that_does_not_know_the_token_cannot_answer() -> None:
    # It learns the token from the client, but it cannot make its tag before that.
    client = client_side()
    own = tag_of(client)
    blind = device_side(verifier=token_verifier(CHANNEL.device, b""))
    with pytest.raises(Mismatch):
        blind.check_untrusted({"token": b"", "confirm": own})
    with pytest.raises(Mismatch):
        client.verify_untrusted({"confirm": own})  # reflected


@pytest.mark.parametrize("tag", [b"", b"\0" * 31, b"\0" * 32, b"\0" * 33])
def test_any_other_tag_is_rejected(tag: bytes) -> None:
    client, device = client_side(), device_side()
    with pytest.raises(Mismatch):
        device.check_untrusted({**client.confirm(), "confirm": tag})
    with pytest.raises(Misuse):
        device.device_tag()
    with pytest.raises(Mismatch):
        client.verify_untrusted({"confirm": tag})


def test_steps_out_of_turn_raise_misuse() -> None:
    client, device = client_side(), device_side()
    with pytest.raises(Misuse):
        client.verify_untrusted({"confirm": b"\0" * 32})
    with pytest.raises(Misuse):
        device.device_tag()
    message = client.confirm()
    with pytest.raises(Misuse):
        client.confirm()
    device.check_untrusted(message)
    with pytest.raises(Misuse):
        device.check_untrusted(message)
    answer = {"confirm": device.device_tag()}
    with pytest.raises(Misuse):
        device.device_tag()
    client.verify_untrusted(answer)
    with pytest.raises(Misuse):
        client.verify_untrusted(answer)


def test_a_repr_or_an_error_shows_no_token() -> None:
    label, client, device = LABEL_OF_DEVICE, client_side(), device_side()
    output = f"{label!r} {label} {client!r} {device!r}"
    with pytest.raises(Mismatch) as caught:
        LabelClient(Session(CHANNEL.ekm, CHANNEL.client, OTHER_KEY), label)
    output += f"{caught.value!r} {caught.value.advice}"
    for text in (label.text + "0", label.text[:-1], label.text.replace(":1", ":2")):
        with pytest.raises(Malformed) as malformed:
            Label.parse_untrusted(text)
        output += f"{malformed.value!r} {malformed.value.advice} {malformed.value.__cause__}"
    for secret in (label.token.hex(), repr(label.token)[2:-1], base32(label.token)):
        assert secret not in output
