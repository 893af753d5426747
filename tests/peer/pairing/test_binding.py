"""Binding and confirmation tags (protocol §5), compared with an independent implementation."""

import hashlib
import hmac

import pytest

from peer.identity import Fingerprint
from peer.pairing.binding import Channel, Confirmation, binding, confirmation, lp, tags_equal

EKM, CLIENT, DEVICE, WINDOW = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, b"\x04" * 16


def test_lp_prefixes_an_item_with_its_length() -> None:
    assert lp(b"") == b"\0\0\0\0"
    assert lp(b"abc") == b"\0\0\0\x03abc"
    assert lp(b"x" * 258)[:4] == b"\0\0\x01\x02"


def test_the_binding_matches_the_formula_of_the_protocol() -> None:
    text = (
        b"\0\0\0\x0fhandfast/1 bind\0\0\0\x20" + EKM + b"\0\0\0\x20" + CLIENT + b"\0\0\0\x20"
    ) + (DEVICE + b"\0\0\0\x10" + WINDOW + b"\0\0\0\x07compare\0\0\0\x05guest")
    assert binding(EKM, CLIENT, DEVICE, WINDOW, "compare", "guest") == hashlib.sha256(text).digest()


def test_the_binding_matches_a_known_value() -> None:
    # Test vector for other implementations, as in docs/protocol.md.
    b = binding(EKM, CLIENT, DEVICE, WINDOW, "compare", "guest")
    assert b.hex() == "43bd5ec1d6f31441ac266c6cde51bb00775cfb407bd9c6588a73284d01786d4e"
    tags = confirmation(EKM, b, "compare")
    assert (
        tags.client_tag.hex() == "066aec4fb4d5706b275a8482138ad81b093baec0dc8aca9d8167d07d22d5f005"
    )
    assert (
        tags.device_tag.hex() == "8f93646c9e4ad2691e39ee95a76262ba6f7a25b8da5bc2421b8b602100bda470"
    )


def test_tags_are_derived_by_hkdf_and_hmac() -> None:
    b = binding(EKM, CLIENT, DEVICE, WINDOW, "compare", "guest")
    extracted = hmac.digest(b, EKM, "sha256")  # RFC 5869 §2.2
    key = hmac.digest(extracted, b"handfast/1 compare confirm\x01", "sha256")  # §2.3, one block
    tags = confirmation(EKM, b, "compare")
    assert tags.client_tag == hmac.digest(key, b"C", "sha256")
    assert tags.device_tag == hmac.digest(key, b"D", "sha256")


def test_the_tags_depend_on_the_transcript() -> None:
    plain = Confirmation.derive(EKM, b"s" * 32, "sas")
    bound = Confirmation.derive(EKM, b"s" * 32, "sas", transcript=b"T")
    assert plain.client_tag != bound.client_tag
    assert plain.device_tag != bound.device_tag


@pytest.mark.parametrize(
    "other",
    [
        (b"\x09" * 32, CLIENT, DEVICE, WINDOW, "compare", "guest"),
        (EKM, b"\x09" * 32, DEVICE, WINDOW, "compare", "guest"),
        (EKM, CLIENT, b"\x09" * 32, WINDOW, "compare", "guest"),
        (EKM, DEVICE, CLIENT, WINDOW, "compare", "guest"),
        (EKM, CLIENT, DEVICE, b"\x09" * 16, "compare", "guest"),
        (EKM, CLIENT, DEVICE, WINDOW, "button", "guest"),
        (EKM, CLIENT, DEVICE, WINDOW, "compare", "owner"),
        (EKM, CLIENT, DEVICE, WINDOW, "compareguest", ""),  # ambiguous without the length prefixes
        (EKM, CLIENT, DEVICE, WINDOW, "compareg", "uest"),
    ],
)
def test_the_binding_depends_on_every_item(
    other: tuple[bytes, bytes, bytes, bytes, str, str],
) -> None:
    assert binding(*other) != binding(EKM, CLIENT, DEVICE, WINDOW, "compare", "guest")


def test_tags_are_equal_only_if_all_bytes_are_equal() -> None:
    assert tags_equal(b"a" * 32, b"a" * 32)
    assert not tags_equal(b"a" * 32, b"a" * 31 + b"b")
    assert not tags_equal(b"a" * 32, b"")
    assert not tags_equal(b"a" * 32, b"a" * 33)


def test_a_repr_shows_no_secrets() -> None:
    channel = Channel(EKM, Fingerprint(CLIENT), Fingerprint(DEVICE), WINDOW)
    assert "x01" not in repr(channel)
    tags = confirmation(EKM, channel.binding(method="compare", role="guest"), "compare")
    assert repr(tags) == "Confirmation(…)"


@pytest.mark.parametrize(("ekm", "window"), [(b"short", WINDOW), (EKM, b"short")])
def test_a_channel_rejects_values_of_another_length(ekm: bytes, window: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        Channel(ekm, Fingerprint(CLIENT), Fingerprint(DEVICE), window)
