"""Messages that an attacker sends to /pair over its own session, for every method.

The messages contain invalid points, chosen points, and values from other ceremonies, sessions and
methods. Each is answered without a crash; no key is stored, the attempt is counted, and the next
honest client can pair.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from typing import TYPE_CHECKING, Any

import pytest

from peer.pairing import code, jpake, p256
from peer.pairing.binding import Channel, Confirmation, lp
from peer.pairing.jpake import ROUND_ONE_BYTES
from peer.pairing.methods import Method
from peer.pairing.sas import offer as offer_sas
from peer.pairing.schnorr import Item, Reader, challenge
from peer.pairing.sides import Terms
from tests.kit import internals
from tests.kit.device import LINGERING
from tests.kit.methods import (
    PRINTED,
    WAYS,
    LabelledDevice,
    Run,
    add_label,
    client_side_of,
    method_of,
    open_window,
    paired,
    session_of,
)

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller, Device, Kit

pytestmark = pytest.mark.slow

N = p256.ORDER
G = p256.base()
INFINITY = b"\4" + bytes(64)


# -- points chosen by an attacker -----------------------------------------------------------------


def times(point: Any, number: int) -> Any:
    return p256.times(point, p256.public_scalar((number % N).to_bytes(32)))


def encoded(point: Any) -> bytes:
    """Encode a point; infinity is encoded as zeros."""
    x, y = point.xy
    return b"\4" + int(x).to_bytes(32) + int(y).to_bytes(32)


def framed(*parts: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in parts)


def proved(generator: Any, x: int, label: bytes, *, v: int = 77) -> bytes:
    """The point x·generator with a valid proof, also for x = 0."""
    point, commitment = encoded(times(generator, x)), encoded(times(generator, v))
    h = int.from_bytes(p256.scalar_bytes(challenge(encoded(generator), commitment, point, label)))
    return framed(point, commitment, ((v - x * h) % N).to_bytes(32))


def own_label(run: Run) -> bytes:
    return lp(b"C" + run.session.client.digest) + lp(run.session.ekm)


def off_the_curve() -> bytes:
    return b"\4" + (5).to_bytes(32) + (1).to_bytes(32)


def above_the_field() -> bytes:
    """The base point with x + p instead of x, a second encoding of the same point."""
    x, y = (int(one) for one in G.xy)
    return b"\4" + ((x + p256.FIELD) % 2**256).to_bytes(32) + y.to_bytes(32)


UNPROVED = framed(encoded(times(G, 3)), encoded(times(G, 4)), bytes(32))
INVALID_ITEMS: dict[str, bytes] = {
    "infinity": framed(INFINITY, encoded(G), bytes(32)),
    "infinity in one byte": framed(b"\0", encoded(G), bytes(32)),
    "an infinite commitment": framed(encoded(G), INFINITY, bytes(32)),
    "off the curve": framed(off_the_curve(), encoded(G), bytes(32)),
    "a commitment off the curve": framed(encoded(G), off_the_curve(), bytes(32)),
    "above the field": framed(above_the_field(), encoded(G), bytes(32)),
    "compressed": framed(b"\2" + encoded(G)[1:33], encoded(G), bytes(32)),
    "hybrid": framed(b"\6" + encoded(G)[1:], encoded(G), bytes(32)),
    "r equal to the order": framed(encoded(G), encoded(G), N.to_bytes(32)),
    "r of 33 bytes": framed(encoded(G), encoded(G), bytes(33)),
    "no r": framed(encoded(G), encoded(G), b""),
    "no proof": UNPROVED,
    "nothing": b"",
    "random bytes": random.Random(1).randbytes(165),
    "half": UNPROVED[:100],
    "a length above the size": b"\xff" + UNPROVED[1:],
}


async def assert_counted(device: Device, answer: Answer, failures: int) -> None:
    assert (answer.code, answer.reason) == ("4.03", "wrong-code")
    assert device.app.pairing.budget.failures == failures
    assert device.app.access.store.attempts["pairing"]["failures"] == failures  # type: ignore[index]
    assert not device.users.users


@pytest.mark.parametrize("at", [0, 1, 2], ids=["X1", "X2", "more than both"])
@pytest.mark.parametrize("bad", INVALID_ITEMS)
async def test_an_invalid_first_round_costs_an_attempt_and_changes_the_code(
    kit: Kit, device: Device, bad: str, at: int
) -> None:
    """The invalid item replaces X1 or X2, or follows two valid items."""
    labelled_device = add_label(device)
    await open_window(device, Method.CODE)
    mallory = kit.caller(device)
    run = await Run.of(mallory, labelled_device, Method.CODE)
    right = [proved(G, 5, own_label(run)), proved(G, 6, own_label(run))]
    right[at : at + 1] = [INVALID_ITEMS[bad]]
    shown = labelled_device.shown
    if (bad, at) == ("nothing", 2):
        right.append(b"\0")
    await assert_counted(device, await run.start(round_one=b"".join(right)), 1)
    assert labelled_device.shown not in {shown, ""}
    await paired(mallory, labelled_device, Method.CODE)


@pytest.mark.parametrize("bad", INVALID_ITEMS)
async def test_an_invalid_second_round_ends_the_ceremony(
    kit: Kit, device: Device, bad: str
) -> None:
    """The code and the tag are right."""
    labelled_device = add_label(device)
    await open_window(device, Method.CODE)
    mallory = kit.caller(device)
    run = await Run.of(mallory, labelled_device, Method.CODE)
    await run.start()
    await assert_counted(device, await run.confirm(round_two=INVALID_ITEMS[bad]), 1)
    again = await mallory.pair_ask("POST", run.path, run.sent[-1])
    assert again.code == "4.03"
    await paired(mallory, labelled_device, Method.CODE)


@pytest.mark.parametrize("value", [None, 7, "text", [b"x"], {}, True])
async def test_a_field_of_the_wrong_type_is_not_counted_as_an_attempt(
    kit: Kit, device: Device, value: object
) -> None:
    """The answer is 4.00, and a ceremony that has started continues."""
    labelled_device = add_label(device)
    await open_window(device, Method.CODE)
    caller = kit.caller(device)
    assert (
        await (await Run.of(caller, labelled_device, Method.CODE)).start(round_one=value)
    ).code == "4.00"
    assert device.app.pairing.budget.failures == 0
    run = await Run.of(caller, labelled_device, Method.CODE)
    await run.start()
    answer = run.side.confirm()
    for changed in ({"confirm": value}, {"round_two": value}):
        assert (await caller.pair_ask("POST", run.path, {**answer, **changed})).code == "4.00"
    assert (await caller.pair_ask("POST", run.path, dict(answer))).code == "2.04"


# -- chosen points --------------------------------------------------------------------------------


async def pair_at_infinity(caller: Caller) -> Answer:
    """Pair with X2 and A at infinity and valid proofs, so that K is infinity for every code."""
    session = await session_of(caller)
    label = lp(b"C" + session.client.digest) + lp(session.ekm)
    first = proved(G, 5, label) + proved(G, 0, label)
    body = {"method": "code", "name": "mallory", "round_one": first}
    started = await caller.pair_ask("POST", "/pair", body)
    if started.code != "2.01":
        return started
    rounds = started.body["rounds"]
    x3, x4 = (p256.decode_untrusted(rounds[at : at + 65]) for at in (1, 166))
    second = proved(times(G, 5) + x3 + x4, 0, label)
    channel = Channel(session.ekm, session.client, session.device, started.body["window"])
    names = (b"C" + session.client.digest, b"D" + session.device.digest)
    points = (first[1:66], INFINITY, encoded(x3), encoded(x4))
    bound = channel.binding(method="code", role=started.body["role"])
    key = hashlib.sha256(lp(INFINITY) + lp(b"JPAKE_KC")).digest()
    tag = hmac.digest(key, b"".join(map(lp, (b"KC_1_U", *names, *points, bound))), "sha256")
    path = f"/pair/{started.body['id']}"
    return await caller.pair_ask("POST", path, {"round_two": second, "confirm": tag})


async def test_without_the_infinity_check_an_attacker_pairs_without_the_code(
    kit: Kit, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_window(device, Method.CODE)
    mallory = kit.caller(device)
    await assert_counted(device, await pair_at_infinity(mallory), 1)
    monkeypatch.setattr(p256, "is_infinity", lambda _point: False)
    assert (await pair_at_infinity(mallory)).code == "2.04"
    assert list(device.users.users) == ["mallory"]


def read_without_verification(reader: Reader, _generator: Item, _label: bytes) -> Item:
    """Read an item without verifying its proof."""
    item, _, _ = reader.point_untrusted(), reader.point_untrusted(), reader.response_untrusted()
    return item


@pytest.mark.parametrize("weak", [False, True], ids=["with defence", "without defence"])
async def test_a_reflected_first_round_of_the_device_is_refused(
    kit: Kit, device: Device, weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first round of the device in another ceremony of this session has valid proofs, but under
    the device's identity. If both sides had the same identity, it would be accepted."""
    if weak:
        same_identity = {"client": b"me", "server": b"me"}
        monkeypatch.setattr(jpake, "identities", lambda *_: same_identity)
        monkeypatch.setattr(code, "identities", lambda *_: same_identity)
    labelled_device = add_label(device)
    await open_window(device, Method.CODE)
    mallory = kit.caller(device)
    first = await Run.of(mallory, labelled_device, Method.CODE)
    theirs = (await first.start()).body["rounds"][:ROUND_ONE_BYTES]
    body = {"method": Method.CODE, "name": "mallory", "round_one": theirs}
    again = await mallory.pair_ask("POST", "/pair", body)
    assert again.code == ("2.01" if weak else "4.03")
    if not weak:
        await assert_counted(device, again, 2)


@pytest.mark.parametrize("weak", [False, True], ids=["with defence", "without defence"])
async def test_points_without_a_valid_proof_are_refused(
    kit: Kit, device: Device, weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points of another client's ceremony are accepted only if the proofs are not verified."""
    if weak:
        monkeypatch.setattr(jpake, "read_item_untrusted", read_without_verification)
    labelled_device = add_label(device)
    await open_window(device, Method.CODE)
    mallory = kit.caller(device)
    run = await Run.of(mallory, labelled_device, Method.CODE)
    answer = await run.start(
        round_one=UNPROVED + framed(encoded(times(G, 9)), encoded(G), bytes(32))
    )
    assert answer.code == ("2.01" if weak else "4.03")


# -- messages of another session ------------------------------------------------------------------


def reuse_random_bytes(device: Device) -> None:
    """Make the device reuse its random bytes: window, ceremony, nonces and scalars repeat."""

    def repeated_bytes(count: int) -> bytes:
        return random.Random(count).randbytes(count)

    internals.reuse_random_bytes(device.app.pairing, repeated_bytes)


def without_sessions(patch: pytest.MonkeyPatch) -> None:
    """Make proofs and tags valid in any session."""
    derived = Confirmation.derive.__func__  # type: ignore[attr-defined]

    def derive_unbound(
        cls: type[Confirmation], _ekm: bytes, salt: bytes, method: str, *, transcript: bytes = b""
    ) -> Confirmation:
        made: Confirmation = derived(cls, bytes(32), salt, method, transcript=transcript)
        return made

    def unbound(role: str, secret: bytes, *, random_bytes: Any, **_: Any) -> jpake.EcJpake:
        return jpake.EcJpake(role, secret, profile="handfast", random_bytes=random_bytes)

    patch.setattr(Confirmation, "derive", classmethod(derive_unbound))
    patch.setattr(Channel, "binding", lambda _self, **_: bytes(32))
    patch.setattr(code, "EcJpake", unbound)
    patch.setattr(code, "identities", lambda *_: {"client": b"C", "server": b"D"})


async def replayed(caller: Caller, run: Run, device: Device) -> Answer:
    """Replay all messages of a client from another client; the device's user accepts."""
    answer = await caller.pair_ask("POST", "/pair", run.sent[0])
    if answer.code != "2.01":
        return answer
    path = f"/pair/{answer.body['id']}"
    for body in run.sent[1:]:
        if device.app.pairing.ceremonies.pending() is not None:
            device.decide(accept=True)
        answer = await caller.pair_ask("POST", path, body)
    return answer


@pytest.mark.parametrize("who", ["the same key", "another key"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_replayed_ceremony_is_refused(kit: Kit, device: Device, way: str, who: str) -> None:
    labelled_device = add_label(device)
    await open_window(device, way)
    anna = kit.caller(device)
    run = await paired(anna, labelled_device, way)
    device.app.access.registry.remove_user(None, "anna")
    await open_window(device, way)
    eve = kit.caller(device, anna.identity if who == "the same key" else None)
    await assert_counted(device, await replayed(eve, run, device), 1)


@pytest.mark.parametrize("way", WAYS)
async def test_a_replay_succeeds_without_session_binding_and_fresh_random_bytes(
    kit: Kit, device: Device, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_sessions(monkeypatch)
    reuse_random_bytes(device)
    labelled_device = add_label(device)
    await open_window(device, way)
    run = await paired(kit.caller(device), labelled_device, way)
    device.app.access.registry.remove_user(None, "anna")
    await open_window(device, way)
    eve = kit.caller(device)
    assert (await replayed(eve, run, device)).code == "2.04"
    assert device.users.users["anna"].fingerprints == {eve.fingerprint}


@pytest.mark.parametrize("kept", ["fresh nonces", "session binding"])
@pytest.mark.parametrize("way", [Method.CODE, PRINTED, Method.SAS])
async def test_session_binding_or_fresh_nonces_alone_prevent_a_replay(
    kit: Kit, device: Device, way: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kept == "fresh nonces":
        without_sessions(monkeypatch)
    else:
        reuse_random_bytes(device)
    labelled_device = add_label(device)
    await open_window(device, way)
    run = await paired(kit.caller(device), labelled_device, way)
    device.app.access.registry.remove_user(None, "anna")
    await open_window(device, way)
    await assert_counted(device, await replayed(kit.caller(device), run, device), 1)


# -- tags of another method -----------------------------------------------------------------------


async def started_run(caller: Caller, labelled_device: LabelledDevice, way: str) -> Run:
    """Run a ceremony up to the step before the client's confirmation."""
    await open_window(labelled_device.device, way)
    run = await Run.of(caller, labelled_device, way)
    assert (await run.run_to_decision()).code == "2.01"
    if labelled_device.device.app.pairing.ceremonies.pending() is not None:
        labelled_device.device.decide(accept=True)
    return run


TAGGED = (Method.LABEL, Method.SAS, Method.COMPARE, Method.BUTTON)


async def confirmed_as(run: Run, labelled_device: LabelledDevice, other: str) -> Answer:
    """Confirm with the tag that this session, window, key and role have in another method."""
    started = run.got[0].body
    channel = Channel(run.session.ekm, run.session.client, run.session.device, started["window"])
    terms = Terms(channel, started["role"], run.name, run.id)
    half = client_side_of(other, run.session, label=labelled_device.label)
    half.begin()
    if other == Method.SAS:  # `sas` needs an exchange first
        device = offer_sas(random.Random(1).randbytes).create_side(terms)
        message = half.started_untrusted(terms, device.begin_untrusted({}))
        assert message is not None
        half.exchanged_untrusted(device.exchange_untrusted(message))
    else:
        half.started_untrusted(terms, {})
    return await run.confirm(confirm=half.confirm()["confirm"])


@pytest.mark.parametrize("other", TAGGED)
@pytest.mark.parametrize("way", TAGGED)
async def test_a_tag_of_one_method_is_invalid_in_another(
    kit: Kit, device: Device, way: str, other: str
) -> None:
    labelled_device = add_label(device)
    run = await started_run(kit.caller(device), labelled_device, way)
    answer = await confirmed_as(run, labelled_device, other)
    if way == other != Method.SAS:
        assert answer.code == "2.04"
    else:
        await assert_counted(device, answer, 1)


async def test_without_binding_to_the_method_a_button_tag_is_valid_for_compare(
    kit: Kit, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that used the button, without a comparison, would have the tag of `compare`."""
    binding = Channel.binding
    derived = Confirmation.derive.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Channel, "binding", lambda self, *, role, **_method: binding(self, method="", role=role)
    )
    monkeypatch.setattr(
        Confirmation,
        "derive",
        classmethod(
            lambda cls, ekm, salt, _method, *, transcript=b"": derived(
                cls, ekm, salt, "", transcript=transcript
            )
        ),
    )
    labelled_device = add_label(device)
    run = await started_run(kit.caller(device), labelled_device, Method.COMPARE)
    assert (await confirmed_as(run, labelled_device, Method.BUTTON)).code == "2.04"
    assert device.users.users["anna"].keys[0].verified


@pytest.mark.parametrize(("way", "printed"), [(Method.CODE, True), (PRINTED, False)])
async def test_a_code_is_invalid_under_the_other_kind_of_code(
    kit: Kit, device: Device, way: str, printed: bool
) -> None:
    """The client sends the right code, but announces the other kind."""
    labelled_device = add_label(device)
    await open_window(device, way)
    run = await Run.of(kit.caller(device), labelled_device, way)
    assert (await run.start(printed=printed)).code == "2.01"
    await assert_counted(device, await run.confirm(), 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("offered", [Method.COMPARE, Method.SAS, Method.CODE])
async def test_a_method_that_the_window_does_not_offer_is_refused(
    kit: Kit, device: Device, way: str, offered: str
) -> None:
    labelled_device = add_label(device)
    await device.open(role="user", methods=[offered])
    run = await Run.of(kit.caller(device), labelled_device, way, code="1234-5678")
    answer = await run.start()
    if method_of(way) == offered:
        assert answer.code == "2.01"
    else:
        assert (answer.code, answer.reason) == ("4.03", "denied")
        assert device.app.pairing.budget.failures == 0


@pytest.mark.parametrize("way", WAYS)
async def test_steps_out_of_order_are_refused_and_reveal_no_tag(kit: Kit, way: str) -> None:
    """An early confirmation, an exchange in a method without one, and a repeated step."""
    device = await kit.device(limits=LINGERING)
    labelled_device = add_label(device)
    await open_window(device, way)
    caller = kit.caller(device)
    run = await Run.of(caller, labelled_device, way)
    await run.start()
    asks = device.app.pairing.ceremonies.pending() is not None
    nonce, tag = {"nonce": bytes(32)}, {"confirm": bytes(32)}
    if way == Method.SAS:
        early = await caller.pair_ask("POST", run.path, tag)
        assert early.code == "4.00"
        await run.exchange()
        asks = True
    for body in (nonce, tag) if asks else (nonce,):
        early = await caller.pair_ask("POST", run.path, body)
        assert early.code in {"4.00", "4.09"}
        assert "confirm" not in early.body
    if asks:
        device.decide(accept=True)
    assert (await caller.pair_ask("POST", run.path, nonce)).code == "4.00"
    assert (await run.confirm()).code == "2.04"
    assert "confirm" not in (await caller.pair_ask("POST", run.path, run.sent[-1])).body
