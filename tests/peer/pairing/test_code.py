"""The method `code`: one guess a run, and a tag that is not valid in any other ceremony."""

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
STRANGER = Fingerprint(b"\x09" * 32)
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
    """A client that knows the window and the role it will be told."""

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
        """Take the answer to the start, and confirm."""
        self.started_untrusted(self.terms, answer)
        return self.confirm()


def test_both_sides_confirm() -> None:
    client, ours = Client(), device()
    ours.check_untrusted(client.answer(ours.begin_untrusted(client.begin())))
    client.verify_untrusted({"confirm": ours.device_tag()})


def test_the_messages_have_the_sizes_of_the_protocol() -> None:
    client, ours = Client(), device()
    first = client.begin()
    answer = ours.begin_untrusted(first)
    messages: dict[str, Any] = {**first, **answer, **client.answer(answer)}
    sizes = {name: len(value) for name, value in messages.items()}
    assert sizes == {"round_one": 330, "rounds": 330 + 3 + 165, "round_two": 165, "confirm": 32}


def lp(item: bytes) -> bytes:
    return len(item).to_bytes(4) + item


def test_the_tags_are_those_of_the_essay() -> None:
    """A second writing of them, on top of two bare exchanges with the same random bytes."""
    binding: dict[str, Any] = {
        "profile": "handfast",
        "context": b"\x01" * 32,
        "client": b"\x02" * 32,
        "device": b"\x03" * 32,
    }
    bare = EcJpake("client", SECRET, random_bytes=seeded_bytes(1), **binding)
    client, ours = Client(), device()
    begun = client.begin()
    first = bytes_field(begun, "round_one")
    assert bare.write_round_one() == first
    rounds = ours.begin_untrusted(begun)
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
    ours.check_untrusted(message)
    assert ours.device_tag() == hmac.digest(key, texts[1], "sha256")


def refusal(step: Callable[..., object], *arguments: Any) -> Mismatch:
    with pytest.raises(Mismatch) as caught:
        step(*arguments)
    assert caught.value.reason == "wrong-code"
    return caught.value


def test_a_wrong_code_fails_at_the_device_and_every_refusal_reads_the_same() -> None:
    said = set()
    spoilers: list[Callable[[bytes, bytes], tuple[bytes, bytes]]] = [
        lambda second, tag: (second, tag),  # the code alone is wrong
        lambda second, tag: (second, tag[:-1]),
        lambda second, tag: (second[:-1], tag),
        lambda second, tag: (second[:-1] + b"\0", tag),
        lambda second, tag: (b"\x41" + bytes(65) + second[66:], tag),
    ]
    for spoil in spoilers:
        client, ours = Client(code="48219931"), device()
        sent = client.answer(ours.begin_untrusted(client.begin()))
        second, tag = spoil(bytes_field(sent, "round_two"), bytes_field(sent, "confirm"))
        error = refusal(ours.check_untrusted, {"round_two": second, "confirm": tag})
        said.add((str(error), error.advice))
        with pytest.raises(Misuse):
            ours.device_tag()
    for first in (b"", bytes(330)):
        error = refusal(device().begin_untrusted, {"round_one": first})
        said.add((str(error), error.advice))
    for both in (b"", None, "text", bytes(498), 7):
        client = Client()
        client.begin()
        error = refusal(client.answer, {"rounds": both})
        said.add((str(error), error.advice))
    assert len(said) == 1
    assert CODE not in repr(said)


@pytest.mark.parametrize("junk", [None, "text", 7])
def test_what_is_not_bytes_may_be_sent_again(junk: object) -> None:
    client, ours = Client(), device()
    first = client.begin()
    with pytest.raises(Malformed):
        ours.begin_untrusted({"round_one": junk})
    sent = client.answer(ours.begin_untrusted(first))
    for field in sent:
        with pytest.raises(Malformed):
            ours.check_untrusted({**sent, field: junk})
    ours.check_untrusted(sent)


def test_a_wrong_tag_of_the_device_is_refused() -> None:
    client, ours = Client(), device()
    sent = client.answer(ours.begin_untrusted(client.begin()))
    refusal(client.verify_untrusted, {"confirm": sent["confirm"]})  # its own one, sent back
    for tag in (None, b"", bytes(32), "text"):
        client = Client()
        client.answer(device().begin_untrusted(client.begin()))
        refusal(client.verify_untrusted, {"confirm": tag})


OTHERS: list[Callable[[], tuple[Channel, str]]] = [
    lambda: (replace(CHANNEL, ekm=b"\x09" * 32), "guest"),
    lambda: (replace(CHANNEL, client=STRANGER), "guest"),
    lambda: (replace(CHANNEL, device=STRANGER), "guest"),
    lambda: (replace(CHANNEL, window_id=b"\x09" * 16), "guest"),
    lambda: (replace(CHANNEL, client=CHANNEL.device, device=CHANNEL.client), "guest"),
    lambda: (CHANNEL, "owner"),
    lambda: (CHANNEL, ""),
]
IDS = ["session", "client key", "device key", "window", "keys swapped", "role", "no role"]


@pytest.mark.parametrize("other", OTHERS, ids=IDS)
def test_sides_that_mean_different_things_do_not_pair(
    other: Callable[[], tuple[Channel, str]],
) -> None:
    client, ours = Client(*other()), device()

    def pair() -> None:
        ours.check_untrusted(client.answer(ours.begin_untrusted(client.begin())))

    refusal(pair)


def test_out_of_turn_is_misuse() -> None:
    client, ours = Client(), device()
    for early in (client.confirm, lambda: client.answer({}), ours.device_tag):
        with pytest.raises(Misuse):
            early()
    with pytest.raises(Misuse):
        client.verify_untrusted({"confirm": bytes(32)})
    with pytest.raises(Misuse):
        ours.check_untrusted({"round_two": b"", "confirm": b""})
    first = client.begin()
    with pytest.raises(Misuse):
        client.begin()
    answer = ours.begin_untrusted(first)
    with pytest.raises(Misuse):
        ours.begin_untrusted(first)
    with pytest.raises(Misuse):
        ours.device_tag()
    sent = client.answer(answer)
    with pytest.raises(Misuse):
        client.answer(answer)
    with pytest.raises(Misuse):
        client.confirm()
    ours.check_untrusted(sent)
    with pytest.raises(Misuse):
        ours.check_untrusted(sent)
    tag = {"confirm": ours.device_tag()}
    with pytest.raises(Misuse):
        ours.device_tag()
    client.verify_untrusted(tag)
    with pytest.raises(Misuse):
        client.verify_untrusted(tag)
    with pytest.raises(Misuse):
        client.verify_receipt_untrusted(receipt(tag["confirm"]))


def test_there_is_no_second_try() -> None:
    client, ours = Client(code="1"), device()
    sent = client.answer(ours.begin_untrusted(client.begin()))
    refusal(ours.check_untrusted, sent)
    with pytest.raises(Misuse):
        ours.check_untrusted(sent)


def test_a_broken_random_source_is_no_wrong_code() -> None:
    with pytest.raises(Misuse):
        device(random_bytes=lambda _: b"").begin_untrusted(Client().begin())
    with pytest.raises(Misuse):
        Client(random_bytes=lambda _: b"").begin()


def test_a_device_does_not_pair_with_itself() -> None:
    with pytest.raises(Misuse):
        device(replace(CHANNEL, client=CHANNEL.device)).begin_untrusted(Client().begin())


def test_secrets_of_the_two_kinds_of_codes() -> None:
    assert shown_secret("48219930") == b"48219930"
    kitchen, other = Fingerprint(b"\x03" * 32), STRANGER
    stretched = printed_secret("7K3MQ2ZX", kitchen)
    salt = b"\0\0\0\x0fhandfast/1 code" + b"\0\0\0\x20" + kitchen.digest
    assert stretched == hashlib.scrypt(
        b"7K3MQ2ZX", salt=salt, n=2**15, r=8, p=1, maxmem=2**26, dklen=48
    )
    assert stretched != printed_secret("7K3MQ2ZX", other)


def test_nothing_secret_is_in_a_repr() -> None:
    client, ours = Client(), device()
    ours.check_untrusted(client.answer(ours.begin_untrusted(client.begin())))
    for one in (client, ours):
        assert CODE not in repr(one)
        assert "object at" in repr(one)
