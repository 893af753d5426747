"""The method `sas`, compared with an independent implementation, and the limits of its steps."""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import replace

import cbor2
import pytest

from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.binding import Channel, confirmation
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.sas import commitment, grouped, number, transcript
from peer.pairing.sides import Terms
from tests.kit.sas import RealClient, RealDevice

CHANNEL = Channel(b"\x01" * 32, Fingerprint(b"\x02" * 32), Fingerprint(b"\x03" * 32), b"\x04" * 16)
OTHER_KEY = Fingerprint(b"\x09" * 32)
B = CHANNEL.binding(method="sas", role="guest")
N_CLIENT, N_DEVICE = b"\x0c" * 32, b"\x0d" * 32


def seeded_bytes(nonce: bytes) -> Callable[[int], bytes]:
    return lambda count: nonce[:count]


def device_side(
    channel: Channel = CHANNEL,
    role: str = "guest",
    *,
    ceremony_id: str = "7f",
    user: str = "anna",
    nonce: bytes = N_DEVICE,
    digits: int = 6,
) -> RealDevice:
    terms = Terms(channel, role, user, ceremony_id)
    return RealDevice(terms, random_bytes=seeded_bytes(nonce), digits=digits)


def client_side(
    channel: Channel = CHANNEL,
    role: str = "guest",
    *,
    ceremony_id: str = "7f",
    user: str = "anna",
    nonce: bytes = N_CLIENT,
    digits: int = 6,
) -> RealClient:
    client = RealClient(seeded_bytes(nonce), digits=digits)
    client.terms = Terms(channel, role, user, ceremony_id)
    return client


def exchange(client: RealClient, device: RealDevice) -> None:
    """Exchange messages 2 to 4."""
    client.open(device.reveal(client.answer(device.commit())))


def lp(item: bytes) -> bytes:
    return len(item).to_bytes(4, "big") + item


def hkdf(ikm: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF for one block of output (RFC 5869)."""
    return hmac.digest(hmac.digest(salt, ikm, "sha256"), info + b"\x01", "sha256")


# --------------------------------------------------------------------------------------- formulas


def test_both_sides_show_the_same_number_and_confirm() -> None:
    client, device = client_side(), device_side()
    exchange(client, device)
    assert client.number == device.number
    device.check_untrusted({"confirm": client.accept()})
    client.verify_untrusted({"confirm": device.device_tag()})


def test_the_number_and_the_tags_match_the_formulas_of_the_protocol() -> None:
    assert (
        commitment(B, N_DEVICE)
        == hashlib.sha256(lp(b"handfast/1 commit") + lp(B) + lp(N_DEVICE)).digest()
    )
    drawn = hkdf(N_CLIENT + N_DEVICE, B, b"handfast/1 sas")[:8]
    assert number(B, N_CLIENT, N_DEVICE) == f"{int.from_bytes(drawn, 'big') % 10**6:06}"

    messages = (
        {"name": "anna", "method": "sas"},
        {"id": "7f", "role": "guest", "commit": commitment(B, N_DEVICE), "window": b"\x04" * 16},
        {"nonce": N_CLIENT},
        {"nonce": N_DEVICE},
    )
    encoded = [cbor2.dumps(message, canonical=True) for message in messages]
    assert [item[0] for item in encoded] == [0xA2, 0xA4, 0xA1, 0xA1]
    t = hashlib.sha256(lp(b"handfast/1 sas") + b"".join(map(lp, encoded))).digest()
    key = hkdf(CHANNEL.ekm, t, b"handfast/1 sas confirm")
    client, device = client_side(), device_side()
    exchange(client, device)
    tag = client.accept()
    assert tag == hmac.digest(key, b"C" + t, "sha256")
    device.check_untrusted({"confirm": tag})
    assert device.device_tag() == hmac.digest(key, b"D" + t, "sha256")


def test_commitment_number_and_transcript_match_known_values() -> None:
    # Test vectors for other implementations, as in docs/protocol.md.
    assert B.hex() == "ef1ec9649de6cb0a7bd7d8340f2863fd77a1347267dc955032f1397d2a3f1c40"
    assert (
        commitment(B, N_DEVICE).hex()
        == "819e06b054aa11367653fe1db89e7fe86a1c3daff2bcceb6b95eb2556247347e"
    )
    assert number(B, N_CLIENT, N_DEVICE) == "580063"
    t = transcript(
        name="anna",
        ceremony_id="7f",
        window_id=CHANNEL.window_id,
        role="guest",
        commit=commitment(B, N_DEVICE),
        client_nonce=N_CLIENT,
        device_nonce=N_DEVICE,
    )
    assert t.hex() == "6c293f7625e82b013669cd46efa46e033548afe938ab4cc7bb65eeb27e692c3a"


def test_leading_zeros_of_the_number_are_shown() -> None:
    found = next(
        shown
        for seed in range(10_000)
        if (shown := number(B, seed.to_bytes(32, "big"), N_DEVICE)).startswith("0")
    )
    assert len(found) == 6
    assert grouped(found) == f"{found[:3]} {found[3:]}"


@pytest.mark.parametrize("digits", [3, 4, 6, 9])
def test_both_numbers_have_the_configured_digits(digits: int) -> None:
    client, device = client_side(digits=digits), device_side(digits=digits)
    exchange(client, device)
    assert len(client.number) == digits
    assert client.number == device.number
    assert grouped(client.number).replace(" ", "") == client.number


def test_the_client_draws_its_nonce_after_the_commitment_arrived() -> None:
    order: list[str] = []

    def draw(count: int) -> bytes:
        order.append("drawn")
        return b"\x0c" * count

    client = RealClient(draw)
    client.terms = Terms(CHANNEL, "guest", "anna", "7f")
    assert order == []
    client.answer(commitment(B, N_DEVICE))
    assert order == ["drawn"]


def test_equivalent_spellings_of_a_name_pair() -> None:
    client, device = client_side(user="Zoe\u0308"), device_side(user="Zoë")
    exchange(client, device)
    device.check_untrusted({"confirm": client.accept()})
    client.verify_untrusted({"confirm": device.device_tag()})
    with pytest.raises(Malformed):
        client_side(user="two  spaces").answer(commitment(B, N_DEVICE))
    with pytest.raises(Malformed):
        device_side(user="two  spaces")


# ---------------------------------------------------------------------------------- the binding

OTHER_PARAMETERS: dict[str, Callable[[], dict[str, object]]] = {
    "session": lambda: {"channel": replace(CHANNEL, ekm=b"\x09" * 32)},
    "client key": lambda: {"channel": replace(CHANNEL, client=OTHER_KEY)},
    "device key": lambda: {"channel": replace(CHANNEL, device=OTHER_KEY)},
    "keys swapped": lambda: {
        "channel": replace(CHANNEL, client=CHANNEL.device, device=CHANNEL.client)
    },
    "window": lambda: {"channel": replace(CHANNEL, window_id=b"\x09" * 16)},
    "role": lambda: {"role": "owner"},
    "no role": lambda: {"role": ""},
}
ONLY_IN_MESSAGES: dict[str, dict[str, str]] = {
    "ceremony": {"ceremony_id": "80"},
    "name": {"user": "berta"},
}


@pytest.mark.parametrize("other", OTHER_PARAMETERS.values(), ids=OTHER_PARAMETERS.keys())
def test_with_different_parameters_the_commitment_does_not_open(
    other: Callable[[], dict[str, object]],
) -> None:
    client, device = client_side(), device_side(**other())  # type: ignore[arg-type]
    with pytest.raises(Mismatch, match="commitment"):
        exchange(client, device)
    with pytest.raises(Misuse):
        _ = client.number
    assert device.number != number(B, N_CLIENT, N_DEVICE)


@pytest.mark.parametrize("other", ONLY_IN_MESSAGES.values(), ids=ONLY_IN_MESSAGES.keys())
def test_the_tags_bind_the_ceremony_id_and_the_name(other: dict[str, str]) -> None:
    client, device = client_side(), device_side(**other)  # type: ignore[arg-type]
    exchange(client, device)
    with pytest.raises(Mismatch):
        device.check_untrusted({"confirm": client.accept()})


@pytest.mark.parametrize(
    "part", ["name", "ceremony_id", "window_id", "role", "commit", "client_nonce", "device_nonce"]
)
def test_the_transcript_depends_on_every_part(part: str) -> None:
    def t(**changed: object) -> bytes:
        parts: dict[str, object] = {
            "name": "anna",
            "ceremony_id": "7f",
            "window_id": b"\x04" * 16,
            "role": "guest",
            "commit": b"\x05" * 32,
            "client_nonce": N_CLIENT,
            "device_nonce": N_DEVICE,
        }
        return transcript(**(parts | changed))  # type: ignore[arg-type]

    other: object = "other" if part in {"name", "ceremony_id", "role"} else b"\x0e" * 32
    assert t(**{part: other}) != t()


@pytest.mark.parametrize("method", ["compare", "code", "label", "button", ""])
def test_values_of_another_method_are_rejected(method: str) -> None:
    b = CHANNEL.binding(method=method, role="guest")
    client = client_side()
    client.answer(commitment(b, N_DEVICE))
    with pytest.raises(Mismatch, match="commitment"):
        client.open(N_DEVICE)
    client, device = client_side(), device_side()
    exchange(client, device)
    with pytest.raises(Mismatch):
        device.check_untrusted({"confirm": confirmation(CHANNEL.ekm, b, method).client_tag})


# ----------------------------------------------------------------------------- steps out of turn

DEVICE_STEPS: dict[str, Callable[[RealDevice], object]] = {
    "commit": lambda device: device.commit(),
    "reveal": lambda device: device.reveal(N_CLIENT),
    "check": lambda device: device.check_untrusted({"confirm": honest_tag()}),
    "tag": lambda device: device.device_tag(),
}
CLIENT_STEPS: dict[str, Callable[[RealClient], object]] = {
    "answer": lambda client: client.answer(commitment(B, N_DEVICE)),
    "open": lambda client: client.open(N_DEVICE),
    "accept": lambda client: client.accept(),
    "verify": lambda client: client.verify_untrusted({"confirm": honest_answer()}),
}


def honest_tag() -> bytes:
    client = client_side()
    exchange(client, device_side())
    return client.accept()


def honest_answer() -> bytes:
    client, device = client_side(), device_side()
    exchange(client, device)
    device.check_untrusted({"confirm": client.accept()})
    return device.device_tag()


@pytest.mark.parametrize("done", range(5))
@pytest.mark.parametrize("step", DEVICE_STEPS)
def test_device_steps_out_of_turn_raise_misuse(done: int, step: str) -> None:
    device, names = device_side(), list(DEVICE_STEPS)
    for name in names[:done]:
        DEVICE_STEPS[name](device)
    if done < 4 and step == names[done]:
        DEVICE_STEPS[step](device)
    else:
        with pytest.raises(Misuse) as caught:
            DEVICE_STEPS[step](device)
        assert caught.value.advice


@pytest.mark.parametrize("done", range(5))
@pytest.mark.parametrize("step", CLIENT_STEPS)
def test_client_steps_out_of_turn_raise_misuse(done: int, step: str) -> None:
    client, names = client_side(), list(CLIENT_STEPS)
    for name in names[:done]:
        CLIENT_STEPS[name](client)
    if done < 4 and step == names[done]:
        CLIENT_STEPS[step](client)
    else:
        with pytest.raises(Misuse):
            CLIENT_STEPS[step](client)


def test_the_number_is_available_only_after_both_nonces() -> None:
    client, device = client_side(), device_side()
    for side in (client, device):
        with pytest.raises(Misuse):
            _ = side.number
    commit = device.commit()
    nonce = client.answer(commit)
    for side in (client, device):
        with pytest.raises(Misuse):
            _ = side.number
    device.reveal(nonce)
    with pytest.raises(Misuse):
        _ = client.number


@pytest.mark.parametrize("count", [0, 16, 31])
def test_a_nonce_of_another_length_raises_misuse(count: int) -> None:
    with pytest.raises(Misuse, match="random source"):
        device_side(nonce=b"x" * count).commit()
    with pytest.raises(Misuse, match="random source"):
        client_side(nonce=b"x" * count).answer(commitment(B, N_DEVICE))


# ------------------------------------------------------------------------------- invalid input

JUNK: list[object] = [None, "text", 7, [1], {}, b"", b"x", b"x" * 31, b"x" * 33, b"x" * 4096]


@pytest.mark.parametrize("junk", JUNK)
def test_invalid_input_ends_the_ceremony(junk: object) -> None:
    def sides() -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
        client, device = client_side(), device_side()
        yield lambda: client.answer(junk), lambda: client.open(N_DEVICE)
        if isinstance(junk, bytes):
            device.commit()
            yield lambda: device.reveal(junk), lambda: device.reveal(N_CLIENT)
        client, device = client_side(), device_side()
        client.answer(device.commit())
        yield lambda: client.open(junk), lambda: client.open(N_DEVICE)
        client, device = client_side(), device_side()
        exchange(client, device)
        if isinstance(junk, bytes):
            yield (
                lambda: device.check_untrusted({"confirm": junk}),
                lambda: device.check_untrusted({"confirm": honest_tag()}),
            )
        client.accept()
        yield (
            lambda: client.verify_untrusted({"confirm": junk}),
            lambda: client.verify_untrusted({"confirm": honest_answer()}),
        )

    for wrong, again in sides():
        with pytest.raises(Mismatch) as caught:
            wrong()
        assert caught.value.advice
        with pytest.raises(Misuse):
            again()


@pytest.mark.parametrize("junk", [one for one in JUNK if not isinstance(one, bytes)])
def test_the_device_accepts_another_message_after_a_malformed_one(junk: object) -> None:
    client, device = client_side(), device_side()
    nonce = client.answer(device.commit())
    with pytest.raises(Malformed):
        device.reveal(junk)
    client.open(device.reveal(nonce))
    with pytest.raises(Malformed):
        device.check_untrusted({"confirm": junk})
    device.check_untrusted(client.confirm())


def test_a_repr_or_an_error_shows_no_secret() -> None:
    client, device = client_side(), device_side()
    exchange(client, device)
    tag = client.accept()
    output = f"{client!r} {device!r}"
    with pytest.raises(Mismatch) as caught:
        client.verify_untrusted({"confirm": tag})
    output += f"{caught.value!r} {caught.value.advice}"
    with pytest.raises(Misuse) as misuse:
        client.accept()
    output += f"{misuse.value!r} {misuse.value.advice}"
    for secret in (tag, N_CLIENT, N_DEVICE, CHANNEL.ekm):
        assert secret.hex() not in output
        assert repr(secret)[2:-1] not in output
    assert client.number not in output
