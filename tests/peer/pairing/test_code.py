"""The method `code`: one guess a run, and a tag that is worth nothing in any other ceremony."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from peer.identity import Fingerprint
from peer.pairing.binding import Channel
from peer.pairing.code import CodeClient, CodeDevice, printed_secret, shown_secret
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.jpake import EcJpake, JpakeError

CHANNEL = Channel(b"\x01" * 32, Fingerprint(b"\x02" * 32), Fingerprint(b"\x03" * 32), b"\x04" * 16)
STRANGER = Fingerprint(b"\x09" * 32)
SECRET = b"48219930"


def dice(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def device(channel: Channel = CHANNEL, role: str = "guest", secret: bytes = SECRET) -> CodeDevice:
    return CodeDevice(channel, role, secret, entropy=dice(2))


class Client:
    """The client's half with the window and the role it will be told."""

    def __init__(
        self, channel: Channel = CHANNEL, role: str = "guest", secret: bytes = SECRET
    ) -> None:
        self.half = CodeClient(channel.ekm, channel.client, channel.device, secret, entropy=dice(1))
        self.window_id, self.role = channel.window_id, role

    def answer(self, both: object) -> tuple[bytes, bytes]:
        self.half.read_device_untrusted(both, window_id=self.window_id, role=self.role)
        return self.half.finish()


def test_both_sides_confirm() -> None:
    client, ours = Client(), device()
    ours.check_untrusted(*client.answer(ours.answer_untrusted(client.half.round_one())))
    client.half.verify_untrusted(ours.device_tag())


def test_the_messages_have_the_sizes_of_the_protocol() -> None:
    client, ours = Client(), device()
    first = client.half.round_one()
    answer = ours.answer_untrusted(first)
    second, tag = client.answer(answer)
    assert [len(one) for one in (first, answer, second, tag)] == [330, 330 + 3 + 165, 165, 32]


def lp(item: bytes) -> bytes:
    return len(item).to_bytes(4) + item


def test_the_tags_are_those_of_the_essay() -> None:
    """A second writing of them, on top of two bare exchanges with the same dice."""
    binding: dict[str, Any] = {
        "profile": "handfast",
        "context": b"\x01" * 32,
        "client": b"\x02" * 32,
        "device": b"\x03" * 32,
    }
    bare = EcJpake("client", SECRET, entropy=dice(1), **binding)
    client, ours = Client(), device()
    first = client.half.round_one()
    assert bare.write_round_one() == first
    answer = ours.answer_untrusted(first)
    bare.read_round_one(answer[:330])
    bare.read_round_two(answer[330:])
    second, tag = client.answer(answer)
    assert bare.write_round_two() == second

    x1, x2, x3, x4 = (one[at : at + 65] for one in (first, answer) for at in (1, 166))
    names = lp(b"C" + b"\x02" * 32), lp(b"D" + b"\x03" * 32)
    bound = lp(CHANNEL.binding(method="code", role="guest"))
    key = hashlib.sha256(lp(bare.shared_point()) + lp(b"JPAKE_KC")).digest()
    points = [lp(one) for one in (x1, x2, x3, x4)]
    texts = [
        lp(b"KC_1_U") + names[0] + names[1] + b"".join(points) + bound,
        lp(b"KC_1_U") + names[1] + names[0] + b"".join(points[2:] + points[:2]) + bound,
    ]
    assert tag == hmac.digest(key, texts[0], "sha256")
    ours.check_untrusted(second, tag)
    assert ours.device_tag() == hmac.digest(key, texts[1], "sha256")


def refusal(step: Callable[..., object], *arguments: Any) -> Mismatch:
    with pytest.raises(Mismatch) as caught:
        step(*arguments)
    assert caught.value.reason == "wrong-code"
    return caught.value


def test_a_wrong_code_fails_at_the_device_and_every_refusal_reads_the_same() -> None:
    said = set()
    for spoil in (
        lambda second, tag: (second, tag),  # the code alone is wrong
        lambda second, tag: (second, tag[:-1]),
        lambda second, tag: (second, None),
        lambda second, tag: (second[:-1], tag),
        lambda second, tag: (second[:-1] + b"\0", tag),
        lambda second, tag: (None, tag),
        lambda second, tag: (b"\x41" + bytes(65) + second[66:], tag),
    ):
        client, ours = Client(secret=b"48219931"), device()
        sent = client.answer(ours.answer_untrusted(client.half.round_one()))
        error = refusal(ours.check_untrusted, *spoil(*sent))
        said.add((str(error), error.advice))
        with pytest.raises(Misuse):
            ours.device_tag()
    for first in (b"", None, "text", bytes(330), 7):
        error = refusal(device().answer_untrusted, first)
        said.add((str(error), error.advice))
    for both in (b"", None, "text", bytes(498), 7):
        client = Client()
        client.half.round_one()
        error = refusal(client.answer, both)
        said.add((str(error), error.advice))
    assert len(said) == 1
    assert "48219930" not in repr(said)


def test_a_wrong_tag_of_the_device_is_refused() -> None:
    client, ours = Client(), device()
    sent = client.answer(ours.answer_untrusted(client.half.round_one()))
    refusal(client.half.verify_untrusted, sent[1])  # its own one, sent back
    for tag in (None, b"", bytes(32), "text"):
        client = Client()
        client.answer(device().answer_untrusted(client.half.round_one()))
        refusal(client.half.verify_untrusted, tag)


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
        ours.check_untrusted(*client.answer(ours.answer_untrusted(client.half.round_one())))

    refusal(pair)


def test_out_of_turn_is_misuse() -> None:
    client, ours = Client(), device()
    for early in (client.half.finish, lambda: client.answer(b""), ours.device_tag):
        with pytest.raises(Misuse):
            early()
    with pytest.raises(Misuse):
        client.half.verify_untrusted(bytes(32))
    with pytest.raises(Misuse):
        ours.check_untrusted(b"", b"")
    first = client.half.round_one()
    with pytest.raises(Misuse):
        client.half.round_one()
    answer = ours.answer_untrusted(first)
    with pytest.raises(Misuse):
        ours.answer_untrusted(first)
    with pytest.raises(Misuse):
        ours.device_tag()
    sent = client.answer(answer)
    with pytest.raises(Misuse):
        client.answer(answer)
    with pytest.raises(Misuse):
        client.half.finish()
    ours.check_untrusted(*sent)
    with pytest.raises(Misuse):
        ours.check_untrusted(*sent)
    tag = ours.device_tag()
    with pytest.raises(Misuse):
        ours.device_tag()
    client.half.verify_untrusted(tag)
    with pytest.raises(Misuse):
        client.half.verify_untrusted(tag)


def test_there_is_no_second_try() -> None:
    client, ours = Client(secret=b"1"), device()
    sent = client.answer(ours.answer_untrusted(client.half.round_one()))
    refusal(ours.check_untrusted, *sent)
    with pytest.raises(Misuse):
        ours.check_untrusted(*sent)


def test_broken_dice_are_no_wrong_code() -> None:
    ours = CodeDevice(CHANNEL, "guest", SECRET, entropy=lambda _: b"")
    with pytest.raises(Misuse):
        ours.answer_untrusted(Client().half.round_one())
    client = CodeClient(CHANNEL.ekm, CHANNEL.client, CHANNEL.device, SECRET, entropy=lambda _: b"")
    with pytest.raises(Misuse):
        client.round_one()


def test_a_device_does_not_pair_with_itself() -> None:
    with pytest.raises(JpakeError):
        device(replace(CHANNEL, client=CHANNEL.device))


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
    sent = client.answer(ours.answer_untrusted(client.half.round_one()))
    ours.check_untrusted(*sent)
    for one in (client.half, ours):
        assert "48219930" not in repr(one)
        assert "object at" in repr(one)
