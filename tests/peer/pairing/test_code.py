"""The method `code`: one guess per run, and tags that are invalid in any other ceremony."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.binding import Channel, receipt
from peer.pairing.ceremony import Fields
from peer.pairing.code import CodeClient, CodeDevice
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.jpake import EcJpake
from peer.pairing.sides import Session, Terms, bytes_field
from peer.pairing.typed import TypedCode, printed_secret, shown_secret

CHANNEL = Channel(b"\x01" * 32, Fingerprint(b"\x02" * 32), Fingerprint(b"\x03" * 32), b"\x04" * 16)
OTHER_KEY = Fingerprint(b"\x09" * 32)
CODE = "48219930"
SECRET = CODE.encode()


def seeded_bytes(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def terms_of(channel: Channel = CHANNEL, role: str = "guest") -> Terms:
    return Terms(channel, role, "anna", "c1")


def device(
    channel: Channel = CHANNEL,
    role: str = "guest",
    secret: bytes = SECRET,
    random_bytes: Callable[[int], bytes] | None = None,
) -> CodeDevice:
    return CodeDevice(
        terms_of(channel, role),
        secret=lambda **_kind: secret,
        random_bytes=random_bytes or seeded_bytes(2),
        on_attempt=lambda **_kind: None,
    )


class Client(CodeClient):
    """A client whose channel and role may differ from those of the device."""

    def __init__(
        self,
        channel: Channel = CHANNEL,
        role: str = "guest",
        code: str = CODE,
        random_bytes: Callable[[int], bytes] | None = None,
    ) -> None:
        session = Session(channel.ekm, channel.client, channel.device)
        super().__init__(session, TypedCode(code), random_bytes or seeded_bytes(1))
        self.terms = terms_of(channel, role)

    def answer(self, answer: Fields) -> Fields:
        """Read the answer to the start, and return the confirmation."""
        self.started_untrusted(self.terms, answer)
        return self.confirm()


def test_both_sides_confirm() -> None:
    client, device_side = Client(), device()
    device_side.check_untrusted(client.answer(device_side.begin_untrusted(client.begin())))
    client.verify_untrusted({"confirm": device_side.device_tag()})


def test_the_messages_have_the_sizes_of_the_protocol() -> None:
    client, device_side = Client(), device()
    first = client.begin()
    answer = device_side.begin_untrusted(first)
    messages: dict[str, Any] = {**first, **answer, **client.answer(answer)}
    sizes = {name: len(value) for name, value in messages.items()}
    assert sizes == {"round_one": 330, "rounds": 330 + 3 + 165, "round_two": 165, "confirm": 32}


def lp(item: bytes) -> bytes:
    return len(item).to_bytes(4) + item


def test_the_tags_match_the_documented_formulas() -> None:
    """Recomputed from two plain J-PAKE exchanges with the same random bytes."""
    binding: dict[str, Any] = {
        "profile": "handfast",
        "context": b"\x01" * 32,
        "client": b"\x02" * 32,
        "device": b"\x03" * 32,
    }
    bare = EcJpake("client", SECRET, random_bytes=seeded_bytes(1), **binding)
    client, device_side = Client(), device()
    begun = client.begin()
    first = bytes_field(begun, "round_one")
    assert bare.write_round_one() == first
    rounds = device_side.begin_untrusted(begun)
    answer = bytes_field(rounds, "rounds")
    bare.read_round_one(answer[:330])
    bare.read_round_two(answer[330:])
    message = client.answer(rounds)
    assert bare.write_round_two() == message["round_two"]

    x1, x2, x3, x4 = (one[at : at + 65] for one in (first, answer) for at in (1, 166))
    names = lp(b"C" + b"\x02" * 32), lp(b"D" + b"\x03" * 32)
    bound = lp(CHANNEL.binding(method="code", role="guest"))
    key = hashlib.sha256(lp(bare.shared_point()) + lp(b"JPAKE_KC")).digest()
    points = [lp(one) for one in (x1, x2, x3, x4)]
    texts = [
        lp(b"KC_1_U") + names[0] + names[1] + b"".join(points) + bound,
        lp(b"KC_1_U") + names[1] + names[0] + b"".join(points[2:] + points[:2]) + bound,
    ]
    assert message["confirm"] == hmac.digest(key, texts[0], "sha256")
    device_side.check_untrusted(message)
    assert device_side.device_tag() == hmac.digest(key, texts[1], "sha256")


def mismatch_of(step: Callable[..., object], *arguments: Any) -> Mismatch:
    with pytest.raises(Mismatch) as caught:
        step(*arguments)
    assert caught.value.reason == "wrong-code"
    return caught.value


def test_a_wrong_code_fails_at_the_device_and_all_refusals_are_equal() -> None:
    messages = set()
    spoilers: list[Callable[[bytes, bytes], tuple[bytes, bytes]]] = [
        lambda second, tag: (second, tag),  # only the code is wrong
        lambda second, tag: (second, tag[:-1]),
        lambda second, tag: (second[:-1], tag),
        lambda second, tag: (second[:-1] + b"\0", tag),
        lambda second, tag: (b"\x41" + bytes(65) + second[66:], tag),
    ]
    for spoil in spoilers:
        client, device_side = Client(code="48219931"), device()
        sent = client.answer(device_side.begin_untrusted(client.begin()))
        second, tag = spoil(bytes_field(sent, "round_two"), bytes_field(sent, "confirm"))
        error = mismatch_of(device_side.check_untrusted, {"round_two": second, "confirm": tag})
        messages.add((str(error), error.advice))
        with pytest.raises(Misuse):
            device_side.device_tag()
    for first in (b"", bytes(330)):
        error = mismatch_of(device().begin_untrusted, {"round_one": first})
        messages.add((str(error), error.advice))
    for both in (b"", None, "text", bytes(498), 7):
        client = Client()
        client.begin()
        error = mismatch_of(client.answer, {"rounds": both})
        messages.add((str(error), error.advice))
    assert len(messages) == 1
    assert CODE not in repr(messages)


@pytest.mark.parametrize("junk", [None, "text", 7])
def test_a_field_that_is_not_bytes_may_be_sent_again(junk: object) -> None:
    client, device_side = Client(), device()
    first = client.begin()
    with pytest.raises(Malformed):
        device_side.begin_untrusted({"round_one": junk})
    sent = client.answer(device_side.begin_untrusted(first))
    for field in sent:
        with pytest.raises(Malformed):
            device_side.check_untrusted({**sent, field: junk})
    device_side.check_untrusted(sent)


def test_a_wrong_device_tag_is_rejected() -> None:
    client, device_side = Client(), device()
    sent = client.answer(device_side.begin_untrusted(client.begin()))
    mismatch_of(client.verify_untrusted, {"confirm": sent["confirm"]})  # its own tag, reflected
    for tag in (None, b"", bytes(32), "text"):
        client = Client()
        client.answer(device().begin_untrusted(client.begin()))
        mismatch_of(client.verify_untrusted, {"confirm": tag})


OTHER_PARAMETERS: list[Callable[[], tuple[Channel, str]]] = [
    lambda: (replace(CHANNEL, ekm=b"\x09" * 32), "guest"),
    lambda: (replace(CHANNEL, client=OTHER_KEY), "guest"),
    lambda: (replace(CHANNEL, device=OTHER_KEY), "guest"),
    lambda: (replace(CHANNEL, window_id=b"\x09" * 16), "guest"),
    lambda: (replace(CHANNEL, client=CHANNEL.device, device=CHANNEL.client), "guest"),
    lambda: (CHANNEL, "owner"),
    lambda: (CHANNEL, ""),
]
IDS = ["session", "client key", "device key", "window", "keys swapped", "role", "no role"]


@pytest.mark.parametrize("other", OTHER_PARAMETERS, ids=IDS)
def test_sides_with_different_parameters_do_not_pair(
    other: Callable[[], tuple[Channel, str]],
) -> None:
    client, device_side = Client(*other()), device()

    def pair() -> None:
        device_side.check_untrusted(client.answer(device_side.begin_untrusted(client.begin())))

    mismatch_of(pair)


def test_steps_out_of_turn_raise_misuse() -> None:
    client, device_side = Client(), device()
    for early in (client.confirm, lambda: client.answer({}), device_side.device_tag):
        with pytest.raises(Misuse):
            early()
    with pytest.raises(Misuse):
        client.verify_untrusted({"confirm": bytes(32)})
    with pytest.raises(Misuse):
        device_side.check_untrusted({"round_two": b"", "confirm": b""})
    first = client.begin()
    with pytest.raises(Misuse):
        client.begin()
    answer = device_side.begin_untrusted(first)
    with pytest.raises(Misuse):
        device_side.begin_untrusted(first)
    with pytest.raises(Misuse):
        device_side.device_tag()
    sent = client.answer(answer)
    with pytest.raises(Misuse):
        client.answer(answer)
    with pytest.raises(Misuse):
        client.confirm()
    device_side.check_untrusted(sent)
    with pytest.raises(Misuse):
        device_side.check_untrusted(sent)
    tag = {"confirm": device_side.device_tag()}
    with pytest.raises(Misuse):
        device_side.device_tag()
    client.verify_untrusted(tag)
    with pytest.raises(Misuse):
        client.verify_untrusted(tag)
    with pytest.raises(Misuse):
        client.verify_receipt_untrusted(receipt(tag["confirm"]))


def test_a_wrong_code_allows_no_second_attempt() -> None:
    client, device_side = Client(code="1"), device()
    sent = client.answer(device_side.begin_untrusted(client.begin()))
    mismatch_of(device_side.check_untrusted, sent)
    with pytest.raises(Misuse):
        device_side.check_untrusted(sent)


def test_a_failing_random_source_raises_misuse() -> None:
    with pytest.raises(Misuse):
        device(random_bytes=lambda _: b"").begin_untrusted(Client().begin())
    with pytest.raises(Misuse):
        Client(random_bytes=lambda _: b"").begin()


def test_a_device_cannot_pair_with_itself() -> None:
    with pytest.raises(Misuse):
        device(replace(CHANNEL, client=CHANNEL.device)).begin_untrusted(Client().begin())


def test_only_a_printed_code_is_stretched() -> None:
    assert shown_secret("48219930") == b"48219930"
    kitchen, other = Fingerprint(b"\x03" * 32), OTHER_KEY
    stretched = printed_secret("7K3MQ2ZX", kitchen)
    salt = b"\0\0\0\x0fhandfast/1 code" + b"\0\0\0\x20" + kitchen.digest
    assert stretched == hashlib.scrypt(
        b"7K3MQ2ZX", salt=salt, n=2**15, r=8, p=1, maxmem=2**26, dklen=48
    )
    assert stretched != printed_secret("7K3MQ2ZX", other)


def test_a_repr_shows_no_code() -> None:
    client, device_side = Client(), device()
    device_side.check_untrusted(client.answer(device_side.begin_untrusted(client.begin())))
    for one in (client, device_side):
        assert CODE not in repr(one)
        assert "object at" in repr(one)
