"""The method `label`: the text on the box, and a token that only that device ever sees."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.armour import LABEL, armoured, base32
from peer.pairing.binding import Channel
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.label import Label, LabelClient, LabelDevice, token_verifier

CHANNEL = Channel(b"\x01" * 32, Fingerprint(b"\x02" * 32), Fingerprint(b"\x03" * 32), b"\x04" * 16)
STRANGER = Fingerprint(b"\x09" * 32)
LABEL_OF_DEVICE = Label(CHANNEL.device, bytes(range(16)))
QR_ALPHANUMERICS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"

labels = st.builds(
    Label, st.binary(min_size=32, max_size=32).map(Fingerprint), st.binary(min_size=16, max_size=16)
)


def device_side(channel: Channel = CHANNEL, role: str = "guest") -> LabelDevice:
    return LabelDevice(channel, role, verifier=LABEL_OF_DEVICE.verifier)


def client_side(channel: Channel = CHANNEL, role: str = "guest") -> LabelClient:
    return LabelClient(channel, role, replace(LABEL_OF_DEVICE, device=channel.device))


# ------------------------------------------------------------------------------------------- text


def test_known_answer() -> None:
    # For other implementations: docs/protocol.md may quote it.
    assert LABEL_OF_DEVICE.text == (
        "HANDFAST:1*0C1G60R3*0C1G60R30C1G60R30C1G60R30C1G60R30C1G60R30C1G60R30C1G"
        "*000G40R40M30E209185GR38E1WD"
    )


@given(labels)
def test_every_label_is_read_back(label: Label) -> None:
    parts = label.text.split("*")
    assert parts[1] == label.device.device_id == parts[2][:8]
    assert len(label.text) == 100
    assert Label.parse_untrusted(label.text) == label
    assert Label.parse_untrusted(f" {label.text[:50].lower()}\n  {label.text[50:]}\r\n") == label


@given(labels)
def test_the_text_fits_a_qr_code_of_version_5_m(label: Label) -> None:
    code = segno.make(label.text, error="m", boost_error=False, micro=False)
    assert code.mode == "alphanumeric"
    assert int(code.version) <= 5


def test_every_typing_error_is_found() -> None:
    """Every place with every QR symbol, every swap, every omission, every symbol doubled."""
    text = LABEL_OF_DEVICE.text
    misread = text.replace("0", "O").replace("1", "I", 1)
    variants = {text[:at] + text[at + 1] + text[at] + text[at + 2 :] for at in range(99)}
    for at in range(100):
        variants |= {text[:at] + symbol + text[at + 1 :] for symbol in QR_ALPHANUMERICS}
        variants |= {text[:at] + text[at + 1 :], text[: at + 1] + text[at:], text[:at]}
    assert misread not in variants
    wrong = 0
    for variant in variants - {text}:
        try:
            assert Label.parse_untrusted(variant) == LABEL_OF_DEVICE  # O for 0, I or L for 1
            assert variant.replace("O", "0")[11:].replace("I", "1").replace("L", "1") == text[11:]
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
def test_a_text_that_checks_but_is_no_label_is_refused(fields: tuple[str, ...], words: str) -> None:
    with pytest.raises(Malformed, match=words) as caught:
        Label.parse_untrusted(armoured(LABEL, *fields))
    assert caught.value.advice


@given(st.text() | st.text(QR_ALPHANUMERICS) | st.none() | st.binary())
def test_anything_is_a_label_or_malformed(junk: object) -> None:
    for thing in (junk, f"HANDFAST:1*{junk}", f"{LABEL_OF_DEVICE.text}{junk}"):
        try:
            assert Label.parse_untrusted(thing) == LABEL_OF_DEVICE
        except Malformed as error:
            assert error.advice  # noqa: PT017 - only this error may come


# ---------------------------------------------------------------------------------------- ceremony


def test_both_sides_confirm() -> None:
    client, device = client_side(), device_side()
    token, tag = client.reveal()
    assert token == LABEL_OF_DEVICE.token
    device.check_token_untrusted(token)
    device.check_untrusted(tag)
    client.verify_untrusted(device.device_tag())


def test_the_token_never_leaves_towards_another_key() -> None:
    with pytest.raises(Mismatch) as caught:
        LabelClient(replace(CHANNEL, device=STRANGER), "guest", LABEL_OF_DEVICE)
    assert STRANGER.hex in str(caught.value)
    assert LABEL_OF_DEVICE.device.hex in str(caught.value)


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"\0" * 16,
        LABEL_OF_DEVICE.token[:15],
        LABEL_OF_DEVICE.token + b"\0",
        LABEL_OF_DEVICE.token[::-1],
        LABEL_OF_DEVICE.verifier,  # what a thief of the store has
        base32(LABEL_OF_DEVICE.token).encode(),
        None,
        "text",
        7,
        [LABEL_OF_DEVICE.token],
    ],
)
def test_a_wrong_token_is_refused_and_ends_it(token: object) -> None:
    device = device_side()
    with pytest.raises(Mismatch):
        device.check_token_untrusted(token)
    with pytest.raises(Misuse):
        device.check_token_untrusted(LABEL_OF_DEVICE.token)
    with pytest.raises(Misuse):
        device.check_untrusted(client_side().reveal()[1])
    with pytest.raises(Misuse):
        device.device_tag()


def test_the_verifier_belongs_to_one_device() -> None:
    token = LABEL_OF_DEVICE.token
    assert LABEL_OF_DEVICE.verifier == token_verifier(CHANNEL.device, token)
    assert token_verifier(STRANGER, token) != LABEL_OF_DEVICE.verifier
    with pytest.raises(Mismatch):
        device_side(replace(CHANNEL, device=STRANGER)).check_token_untrusted(token)


OTHERS: dict[str, Callable[[], tuple[Channel, str]]] = {
    "session": lambda: (replace(CHANNEL, ekm=b"\x09" * 32), "guest"),
    "client key": lambda: (replace(CHANNEL, client=STRANGER), "guest"),
    "device key": lambda: (replace(CHANNEL, device=STRANGER), "guest"),
    "keys swapped": lambda: (
        replace(CHANNEL, client=CHANNEL.device, device=CHANNEL.client),
        "guest",
    ),
    "window": lambda: (replace(CHANNEL, window_id=b"\x09" * 16), "guest"),
    "role": lambda: (CHANNEL, "owner"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_a_tag_of_another_ceremony_is_refused(other: Callable[[], tuple[Channel, str]]) -> None:
    _, tag = client_side(*other()).reveal()
    device = device_side()
    device.check_token_untrusted(LABEL_OF_DEVICE.token)
    with pytest.raises(Mismatch):
        device.check_untrusted(tag)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_an_answer_of_another_ceremony_is_refused(other: Callable[[], tuple[Channel, str]]) -> None:
    channel, role = other()
    theirs = replace(LABEL_OF_DEVICE, device=channel.device)
    device = LabelDevice(channel, role, verifier=theirs.verifier)
    token, tag = LabelClient(channel, role, theirs).reveal()
    device.check_token_untrusted(token)
    device.check_untrusted(tag)
    client = client_side()
    client.reveal()
    with pytest.raises(Mismatch):
        client.verify_untrusted(device.device_tag())


def test_the_tag_depends_on_the_token() -> None:
    device = device_side()
    device.check_token_untrusted(LABEL_OF_DEVICE.token)
    _, tag = LabelClient(CHANNEL, "guest", Label(CHANNEL.device, b"t" * 16)).reveal()
    with pytest.raises(Mismatch):
        device.check_untrusted(tag)


def test_a_device_that_does_not_know_the_token_cannot_answer() -> None:
    # It can learn the token, being the device of the label; a tag made before that is worthless.
    client = client_side()
    _, own = client.reveal()
    blind = LabelDevice(CHANNEL, "guest", verifier=token_verifier(CHANNEL.device, b""))
    blind.check_token_untrusted(b"")
    with pytest.raises(Mismatch):
        blind.check_untrusted(own)
    with pytest.raises(Mismatch):
        client.verify_untrusted(own)  # reflected


@pytest.mark.parametrize("tag", [None, "text", 7, b"", b"\0" * 31, b"\0" * 32, b"\0" * 33])
def test_any_other_tag_is_refused(tag: object) -> None:
    client, device = client_side(), device_side()
    device.check_token_untrusted(client.reveal()[0])
    with pytest.raises(Mismatch):
        device.check_untrusted(tag)
    with pytest.raises(Misuse):
        device.device_tag()
    with pytest.raises(Mismatch):
        client.verify_untrusted(tag)


def test_steps_out_of_turn_are_misuse() -> None:
    client, device = client_side(), device_side()
    with pytest.raises(Misuse):
        client.verify_untrusted(b"\0" * 32)
    with pytest.raises(Misuse):
        device.check_untrusted(b"\0" * 32)
    with pytest.raises(Misuse):
        device.device_tag()
    token, tag = client.reveal()
    with pytest.raises(Misuse):
        client.reveal()
    device.check_token_untrusted(token)
    with pytest.raises(Misuse):
        device.check_token_untrusted(token)
    with pytest.raises(Misuse):
        device.device_tag()
    device.check_untrusted(tag)
    with pytest.raises(Misuse):
        device.check_untrusted(tag)
    answer = device.device_tag()
    with pytest.raises(Misuse):
        device.device_tag()
    client.verify_untrusted(answer)
    with pytest.raises(Misuse):
        client.verify_untrusted(answer)


def test_no_token_in_a_repr_or_an_error() -> None:
    label, client, device = LABEL_OF_DEVICE, client_side(), device_side()
    said = f"{label!r} {label} {client!r} {device!r}"
    with pytest.raises(Mismatch) as caught:
        LabelClient(replace(CHANNEL, device=STRANGER), "guest", label)
    said += f"{caught.value!r} {caught.value.advice}"
    for text in (label.text + "0", label.text[:-1], label.text.replace(":1", ":2")):
        with pytest.raises(Malformed) as malformed:
            Label.parse_untrusted(text)
        said += f"{malformed.value!r} {malformed.value.advice} {malformed.value.__cause__}"
    for secret in (label.token.hex(), repr(label.token)[2:-1], base32(label.token)):
        assert secret not in said
