"""Malformed, huge and deeply nested bodies, and wrong types in every field.

A client with a session sends them. Each is answered with a 4.xx code and a reason (protocol §7),
the daemon logs no traceback, and nothing is stored. The bodies are derived from one table of valid
ones.
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
class Endpoint:
    """A method and path that accept a body, and a valid body for them."""

    method: str
    path: str
    good: dict[str, Any]

    @property
    def pairing(self) -> bool:
        """Whether it is on the pairing port."""
        return self.path.startswith("/pair")


_TIMES = {"not_before": 1, "not_after": 4_000_000_000}
_CHANGES = {"name": "gus", "role": "user", "display": "G", **_TIMES}
ENDPOINTS = [
    Endpoint("POST", "/pair", {"method": "compare", "name": "anna", "role": "guest"}),
    Endpoint("POST", "/pair/{id}", {"confirm": bytes(32)}),
    Endpoint(
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
    *(Endpoint(method, "/iam/users/gustav", _CHANGES) for method in ("POST", "PATCH", "iPATCH")),
    Endpoint("PUT", f"/iam/users/gustav/keys/{FP}", {"name": "phone"}),
]
for_every_endpoint = pytest.mark.parametrize(
    "endpoint", ENDPOINTS, ids=[f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS]
)
#: Texts that are never stored: too long, or with characters that a terminal would not display.
UNPRINTABLE = [
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
    *UNPRINTABLE,
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


def variants(good: dict[str, Any]) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The valid body with one field changed, removed or added, and the name of that field."""
    for field in good:
        for value in VALUES:
            yield field, {**good, field: value}
        yield field, {key: value for key, value in good.items() if key != field}
    yield "extra", {**good, "extra": 1}
    yield "number", {**good, 1: 1}


async def ready(kit: Kit, device: Device, *, pairing: bool) -> tuple[Caller, str]:
    """A client that may send the body, and the id of its accepted ceremony on the pairing port."""
    if not pairing:
        owner = kit.known(device, "olga", "owner")
        kit.known(device, "gustav", "guest")
        return owner, ""
    await device.open(role="guest")
    caller = kit.caller(device)
    return caller, await accepted_ceremony(caller, device)


async def accepted_ceremony(caller: Caller, device: Device) -> str:
    """The id of a new ceremony that the device's user has accepted.

    Wrong tags may have closed the window before, so it is opened again.
    """
    await device.open(role="guest", clears_backoff=True)
    started = await caller.start("anna")
    if started.code == "4.29":
        await device.open(role="guest", clears_backoff=True)
        started = await caller.start("anna")
    assert started.code == "2.01", started.body
    device.decide(accept=True)
    return str(started.body["id"])


def is_valid_answer(answer: Answer) -> bool:
    """Whether the answer is a success, or a 4.xx with the fields of protocol §7."""
    if answer.code.startswith("2."):
        return True
    body = answer.body
    return answer.code.startswith("4.") and bool(body[-1] and body[-2] and answer.reason)


@for_every_endpoint
async def test_a_wrong_type_or_value_in_any_field_is_rejected(
    kit: Kit,
    device: Device,
    caplog: pytest.LogCaptureFixture,
    endpoint: Endpoint,
) -> None:
    """Every answer has a valid form, no unprintable text is stored, and a valid body is accepted
    afterwards."""
    method, path, pairing, good = endpoint.method, endpoint.path, endpoint.pairing, endpoint.good
    caller, ceremony = await ready(kit, device, pairing=pairing)
    for field, body in variants(good):
        try:
            raw = cbor.encode(body)
        except ValueError:  # this encoder refuses the value
            continue
        if "{id}" in path:
            ceremony = await accepted_ceremony(caller, device)
        elif pairing:
            await device.open(role="guest", clears_backoff=True)
        users = device.users
        answer = await caller.ask(method, path.format(id=ceremony), pairing=pairing, raw=raw)
        assert is_valid_answer(answer), (field, body, answer.message)
        assert body.get(field) not in UNPRINTABLE or answer.code.startswith("4."), (field, body)
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


@for_every_endpoint
async def test_malformed_cbor_and_other_content_formats_are_rejected(
    kit: Kit,
    device: Device,
    caplog: pytest.LogCaptureFixture,
    endpoint: Endpoint,
) -> None:
    method, path, pairing, good = endpoint.method, endpoint.path, endpoint.pairing, endpoint.good
    caller, ceremony = await ready(kit, device, pairing=pairing)
    at, users = path.format(id=ceremony), device.users
    whole = cbor.encode(good)
    with_extra_field = bytes([whole[0] + 1]) + whole[1:] + b"\x61z"
    first_key = next(iter(good)).encode()
    twice = bytes([0xA2]) + (bytes([0x60 + len(first_key)]) + first_key + b"\x01") * 2
    broken = {
        "cut": whole[:-1],
        "half": whole[: len(whole) // 2],
        "trailing byte": whole + b"\x00",
        "deep list": b"\x81" * 1000 + b"\x00",
        "deep map": b"\xa1\x61a" * 1000 + b"\x00",
        "deep in a field": b"\xa1\x64name" + b"\x81" * 1000 + b"\x00",
        "deep in an extra field": with_extra_field + b"\x81" * 40 + b"\x00",
        "huge announced length": b"\xbb" + b"\xff" * 8,
        "a huge text": b"\xa1\x7b" + b"\xff" * 8,
        "a tag": b"\xc0" + whole,
        "a bignum": b"\xa1\x64name\xc2\x41\x01",
        "indefinite length": b"\xbf\x64name\x61a\xff",
        "one key twice": twice,
        "no map": b"\x80",
        "text": b"\x64anna",
        "not UTF-8": b"\xa1\x64name\x62\xff\xfe",
        "bytes for a key": b"\xa1\x41a\x01",
        "a list for a key": b"\xa1\x80\x01",
        "reserved value": b"\x1c",
        "nothing": b"",
    }
    for what, raw in broken.items():
        answer = await caller.ask(method, at, pairing=pairing, raw=raw)
        if what == "nothing" and method == "PUT":
            assert answer.code == "2.04"  # the name of a key is optional
            device.app.access.writer.commit(users)
            continue
        assert (answer.code, answer.reason) == ("4.00", "malformed"), what
        assert answer.text.strip()
    for ct in (0, 40, 42, 50, 112, 65535, None):
        answer = await caller.ask(method, at, pairing=pairing, raw=whole, ct=ct)
        assert (answer.code, answer.reason) == ("4.15", "content-format"), ct
    assert "Traceback" not in caplog.text
    assert set(device.users.users) == set(users.users)


@for_every_endpoint
async def test_bodies_above_the_size_limit_are_rejected(
    kit: Kit, device: Device, endpoint: Endpoint
) -> None:
    """The size shows in the blocks, in Size1, or in a high block number. The answer is 4.13."""
    method, path, pairing, good = endpoint.method, endpoint.path, endpoint.pairing, endpoint.good
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


async def test_incomplete_bodies_are_bounded_and_only_their_sender_can_complete_them(
    kit: Kit, device: Device, owner: Caller, guest: Caller
) -> None:
    """RFC 7959 §2.5: blocks of one body come from one endpoint, here one session."""
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
        ("\u0661" * 64, "4.00"),
        ("0x" + FP, "2.04"),
        ("", "4.04"),
    ],
)
async def test_a_fingerprint_is_accepted_in_each_notation_and_rejected_if_malformed(
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


class TestGeneratedBodies:
    """Generated CBOR values and generated bytes, for every method and path that accept a body."""

    async def test_any_generated_body_gets_a_valid_answer(
        self, kit: Kit, device: Device, caplog: pytest.LogCaptureFixture
    ) -> None:
        owner, _ = await ready(kit, device, pairing=False)
        await device.open(role="guest")
        examples: list[bytes] = []

        @settings(
            max_examples=60,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(_BODIES.map(_encoded) | st.binary(max_size=60))
        def collect(raw: bytes) -> None:
            examples.append(raw)

        collect()
        for raw in examples:
            for endpoint in ENDPOINTS:
                at = endpoint.path.format(id="x")
                answer = await owner.ask(endpoint.method, at, pairing=endpoint.pairing, raw=raw)
                assert is_valid_answer(answer), (endpoint.method, at, raw)
            assert (await owner.ask("GET", "/iam/users")).code == "2.05", raw
        assert "Traceback" not in caplog.text


def _encoded(value: object) -> bytes:
    try:
        return cbor.encode(value)
    except ValueError:
        return b"\xff"
