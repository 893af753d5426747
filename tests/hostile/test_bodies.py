"""Bodies from a client with a session: broken, huge, deep, and of the wrong type in every field.

Each gets its 4.xx (protocol §7) with a reason, the daemon writes no
traceback, and nothing is stored. The bodies are made from one table of what the API takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peer import cbor
from tests.kit.internals import partial_transfers

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller, Device, Kit


FP = "ab" * 32


@dataclass(frozen=True)
class Place:
    """A place of the API that takes a body, and a good body for it."""

    method: str
    path: str
    good: dict[str, Any]

    @property
    def pairing(self) -> bool:
        """Whether it is on the pairing port."""
        return self.path.startswith("/pair")


_TIMES = {"not_before": 1, "not_after": 4_000_000_000}
_CHANGES = {"name": "gus", "role": "user", "display": "G", **_TIMES}
PLACES = [
    Place("POST", "/pair", {"method": "compare", "name": "anna", "role": "guest"}),
    Place("POST", "/pair/{id}", {"confirm": bytes(32)}),
    Place(
        "POST",
        "/iam/users",
        {
            "name": "bert",
            "role": "guest",
            "display": "Bert",
            **_TIMES,
            "keys": [{"fingerprint": FP, "name": "laptop"}],
        },
    ),
    *(Place(method, "/iam/users/gustav", _CHANGES) for method in ("POST", "PATCH", "iPATCH")),
    Place("PUT", f"/iam/users/gustav/keys/{FP}", {"name": "phone"}),
]
at_every_place = pytest.mark.parametrize(
    "place", PLACES, ids=[f"{place.method} {place.path}" for place in PLACES]
)
#: No text of a user is one of these: too long, or not what a screen shows as itself.
UNFIT = [
    "x" * 65,
    "x" * 3000,
    "a\x00b",
    "a\nb",
    "\x1b[2J",
    "\x9b31m",
    "\u202eanna",
    "a\u2066b",
    "a\u200db",
    "\u2028",
    "\ue000",
    "\U000e0041",
]
VALUES: list[Any] = [
    *UNFIT,
    None,
    True,
    0,
    -1,
    2**64 - 1,
    -(2**64),
    1.5,
    float("nan"),
    float("inf"),
    -float("inf"),
    1e300,
    -1e300,
    b"",
    b"\xff" * 32,
    "",
    "_((;;.::)",
    "a/b",
    "../x",
    " ",
    "e" + "\u0301" * 40,
    [],
    [[]],
    ["anna"],
    [None],
    [{"fingerprint": 1}],
    [{"fingerprint": FP, "more": 1}],
    [FP, FP],
    {},
    {"anna": 1},
    {1: 2},
]


def wrong(good: dict[str, Any]) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The good body with one thing changed."""
    for field in good:
        for value in VALUES:
            yield field, {**good, field: value}
        yield field, {key: value for key, value in good.items() if key != field}
    yield "extra", {**good, "extra": 1}
    yield "number", {**good, 1: 1}


async def ready(kit: Kit, device: Device, *, pairing: bool) -> tuple[Caller, str]:
    """A client that may send this body; on the pairing port, the id of its accepted ceremony."""
    if not pairing:
        owner = kit.known(device, "olga", "owner")
        kit.known(device, "gustav", "guest")
        return owner, ""
    await device.open(role="guest")
    caller = kit.caller(device)
    return caller, await begun(caller, device)


async def begun(caller: Caller, device: Device) -> str:
    """A ceremony that its device's user has accepted; wrong tags have closed the window before."""
    await device.open(role="guest", clears_backoff=True)
    started = await caller.start("anna")
    if started.code == "4.29":
        await device.open(role="guest", clears_backoff=True)
        started = await caller.start("anna")
    assert started.code == "2.01", started.body
    device.decide(accept=True)
    return str(started.body["id"])


def honest(answer: Answer) -> bool:
    """A refusal in the words of protocol §7, or a success."""
    if answer.code.startswith("2."):
        return True
    body = answer.body
    return answer.code.startswith("4.") and bool(body[-1] and body[-2] and answer.reason)


@at_every_place
async def test_a_wrong_type_or_value_in_any_field(
    kit: Kit,
    device: Device,
    caplog: pytest.LogCaptureFixture,
    place: Place,
) -> None:
    """Every answer is honest, no value that could not be shown again is stored, and a good body
    works afterwards."""
    method, path, pairing, good = place.method, place.path, place.pairing, place.good
    caller, ceremony = await ready(kit, device, pairing=pairing)
    for field, body in wrong(good):
        try:
            raw = cbor.encode(body)
        except ValueError:  # what this protocol cannot say, another library can
            continue
        if "{id}" in path:
            ceremony = await begun(caller, device)
        elif pairing:
            await device.open(role="guest", clears_backoff=True)
        users = device.users
        answer = await caller.ask(method, path.format(id=ceremony), pairing=pairing, raw=raw)
        assert honest(answer), (field, body, answer.message)
        assert body.get(field) not in UNFIT or answer.code.startswith("4."), (field, body)
        if answer.code.startswith("4."):
            assert device.users is users, (field, body)
        elif not pairing and device.users is not users:
            listed = await caller.ask("GET", "/iam/users")
            assert listed.code == "2.05", (field, body, "and now no one can list the users")
            device.app.access.writer.commit(users)
    assert "Traceback" not in caplog.text
    if "{id}" not in path:
        if pairing:
            await device.open(role="guest", clears_backoff=True)
        done = await caller.ask(method, path, good, pairing=pairing)
        assert done.code.startswith("2."), done.body


@at_every_place
async def test_broken_cbor_and_other_formats(
    kit: Kit,
    device: Device,
    caplog: pytest.LogCaptureFixture,
    place: Place,
) -> None:
    method, path, pairing, good = place.method, place.path, place.pairing, place.good
    caller, ceremony = await ready(kit, device, pairing=pairing)
    at, users = path.format(id=ceremony), device.users
    whole = cbor.encode(good)
    beside = bytes([whole[0] + 1]) + whole[1:] + b"\x61z"
    first_key = next(iter(good)).encode()
    twice = bytes([0xA2]) + (bytes([0x60 + len(first_key)]) + first_key + b"\x01") * 2
    broken = {
        "cut": whole[:-1],
        "half": whole[: len(whole) // 2],
        "more": whole + b"\x00",
        "deep list": b"\x81" * 1000 + b"\x00",
        "deep map": b"\xa1\x61a" * 1000 + b"\x00",
        "deep in a field": b"\xa1\x64name" + b"\x81" * 1000 + b"\x00",
        "deep beside the rest": beside + b"\x81" * 40 + b"\x00",
        "a huge promise": b"\xbb" + b"\xff" * 8,
        "a huge text": b"\xa1\x7b" + b"\xff" * 8,
        "a tag": b"\xc0" + whole,
        "a bignum": b"\xa1\x64name\xc2\x41\x01",
        "no end": b"\xbf\x64name\x61a\xff",
        "one key twice": twice,
        "no map": b"\x80",
        "text": b"\x64anna",
        "not UTF-8": b"\xa1\x64name\x62\xff\xfe",
        "bytes for a key": b"\xa1\x41a\x01",
        "a list for a key": b"\xa1\x80\x01",
        "reserved": b"\x1c",
        "nothing": b"",
    }
    for what, raw in broken.items():
        answer = await caller.ask(method, at, pairing=pairing, raw=raw)
        if what == "nothing" and method == "PUT":
            assert answer.code == "2.04"  # the name of a key may be left out
            device.app.access.writer.commit(users)
            continue
        assert (answer.code, answer.reason) == ("4.00", "malformed"), what
        assert answer.text.strip()
    for ct in (0, 40, 42, 50, 112, 65535, None):
        answer = await caller.ask(method, at, pairing=pairing, raw=whole, ct=ct)
        assert (answer.code, answer.reason) == ("4.15", "content-format"), ct
    assert "Traceback" not in caplog.text
    assert set(device.users.users) == set(users.users)


@at_every_place
async def test_bodies_over_the_bound(kit: Kit, device: Device, place: Place) -> None:
    """In blocks, announced by Size1, or by a block with a high number: 4.13."""
    method, path, pairing, good = place.method, place.path, place.pairing, place.good
    caller, ceremony = await ready(kit, device, pairing=pairing)
    at, users, most = path.format(id=ceremony), device.users, 4096 if pairing else 65536
    padded = {**good, next(iter(good)): "x" * most}
    answers = [
        await caller.ask(method, at, padded, pairing=pairing),
        await caller.ask(method, at, good, pairing=pairing, size1=most + 1),
        await caller.ask(method, at, good, pairing=pairing, size1=2**32 - 1),
        await caller.ask(
            method, at, pairing=pairing, raw=bytes(1024), block1=(most // 1024, True, 6)
        ),
        await caller.ask(method, at, pairing=pairing, raw=bytes(16), block1=(2**20 - 1, False, 0)),
    ]
    for answer in answers:
        assert (answer.code, answer.reason) == ("4.13", "too-large")
    assert partial_transfers() == 0
    assert device.users is users


async def test_half_bodies_are_few_and_only_their_sender_can_finish_them(
    kit: Kit, device: Device, owner: Caller, guest: Caller
) -> None:
    """RFC 7959 §2.5: blocks belong together within one session."""
    admin = kit.known(device, "adam", "admin")
    whole = cbor.encode({"name": "bert", "role": "guest", "display": "x" * 60}).ljust(16)
    first = await admin.ask("POST", "/iam/users", raw=whole[:64], block1=(0, True, 2))
    assert first.code == "2.31"
    stolen = await owner.ask("POST", "/iam/users", raw=whole[64:], block1=(1, False, 2))
    assert stolen.code == "4.08"
    assert "bert" not in device.users.users
    done = await admin.ask("POST", "/iam/users", raw=whole[64:], block1=(1, False, 2))
    assert done.code == "2.01"
    for number in range(100):
        path = f"/iam/users/u{number}"
        assert (await admin.ask("POST", path, raw=bytes(16), block1=(0, True, 0))).code == "2.31"
    assert 0 < partial_transfers() <= device.app.settings.limits.block_assemblies
    assert (await guest.ask("POST", "/iam/users", raw=bytes(16), block1=(0, True, 0))).code == (
        "4.03"
    )


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (FP.upper(), "2.04"),
        (" ".join(FP[n : n + 4] for n in range(0, 64, 4)), "2.04"),
        (":".join(FP[n : n + 2] for n in range(0, 64, 2)), "2.04"),
        (FP[:-1], "4.00"),
        (FP + "0", "4.00"),
        ("g" * 64, "4.00"),
        ("\uff11" * 64, "4.00"),
        ("0x" + FP, "4.00"),
        ("", "4.04"),
    ],
)
async def test_fingerprints_in_any_spelling_but_no_other(
    device: Device, owner: Caller, guest: Caller, value: str, code: str
) -> None:
    answer = await owner.ask("PUT", f"/iam/users/gustav/keys/{value}")
    assert answer.code == code, answer.body
    keys = device.users.user("gustav").fingerprints
    assert keys == ({guest.fingerprint, FP} if code == "2.04" else {guest.fingerprint})


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats()
    | st.text(max_size=80)
    | st.binary(max_size=40)
)
_FIELDS = st.sampled_from(
    ["name", "role", "method", "confirm", "keys", "display", "not_after", "fingerprint", "x"]
)
_BODIES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_FIELDS, inner, max_size=5)
)


class TestAnything:
    """What hypothesis thinks of: any CBOR, and any bytes, at every place that takes a body."""

    async def test_any_value_and_any_bytes(
        self, kit: Kit, device: Device, caplog: pytest.LogCaptureFixture
    ) -> None:
        owner, _ = await ready(kit, device, pairing=False)
        await device.open(role="guest")
        examples: list[bytes] = []

        @settings(
            max_examples=60,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(_BODIES.map(_encoded) | st.binary(max_size=60))
        def collect(raw: bytes) -> None:
            examples.append(raw)

        collect()
        for raw in examples:
            for place in PLACES:
                at = place.path.format(id="x")
                answer = await owner.ask(place.method, at, pairing=place.pairing, raw=raw)
                assert honest(answer), (place.method, at, raw)
            assert (await owner.ask("GET", "/iam/users")).code == "2.05", raw
        assert "Traceback" not in caplog.text


def _encoded(value: object) -> bytes:
    try:
        return cbor.encode(value)
    except ValueError:
        return b"\xff"
