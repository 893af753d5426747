"""What an attacker sends to /pair himself, over his own session, in every method.

Bytes that are no points, points with a back door, words of other ceremonies and sessions, tags of
other methods, a second key, and silence. Each gets an answer and never causes a crash; no one is
stored, the attempt is counted, and the next honest client pairs.
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
from tests.kit.methods import (
    PRINTED,
    WAYS,
    LabelledDevice,
    Run,
    client_side_of,
    labelled,
    method_of,
    opened,
    paired,
    session_of,
)

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller, Device, Kit

N = p256.ORDER
G = p256.base()
INFINITY = b"\4" + bytes(64)


# -- points, as an attacker makes them ------------------------------------------------------------


def times(point: Any, number: int) -> Any:
    return p256.times(point, p256.public_scalar((number % N).to_bytes(32)))


def coded(point: Any) -> bytes:
    """Infinity too, as zeros."""
    x, y = point.xy
    return b"\4" + int(x).to_bytes(32) + int(y).to_bytes(32)


def framed(*parts: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in parts)


def proved(generator: Any, x: int, label: bytes, *, v: int = 77) -> bytes:
    """An honest item for x·generator, also for x = 0."""
    point, commitment = coded(times(generator, x)), coded(times(generator, v))
    h = int.from_bytes(p256.scalar_bytes(challenge(coded(generator), commitment, point, label)))
    return framed(point, commitment, ((v - x * h) % N).to_bytes(32))


def own_label(run: Run) -> bytes:
    return lp(b"C" + run.session.client.digest) + lp(run.session.ekm)


def off_the_curve() -> bytes:
    return b"\4" + (5).to_bytes(32) + (1).to_bytes(32)


def above_the_field() -> bytes:
    """The base point, with x + p for x: another spelling of the same."""
    x, y = (int(one) for one in G.xy)
    return b"\4" + ((x + p256.FIELD) % 2**256).to_bytes(32) + y.to_bytes(32)


GOOD = framed(coded(times(G, 3)), coded(times(G, 4)), bytes(32))
BAD: dict[str, bytes] = {
    "infinity": framed(INFINITY, coded(G), bytes(32)),
    "infinity in one byte": framed(b"\0", coded(G), bytes(32)),
    "an infinite commitment": framed(coded(G), INFINITY, bytes(32)),
    "off the curve": framed(off_the_curve(), coded(G), bytes(32)),
    "a commitment off the curve": framed(coded(G), off_the_curve(), bytes(32)),
    "above the field": framed(above_the_field(), coded(G), bytes(32)),
    "compressed": framed(b"\2" + coded(G)[1:33], coded(G), bytes(32)),
    "hybrid": framed(b"\6" + coded(G)[1:], coded(G), bytes(32)),
    "r of the order": framed(coded(G), coded(G), N.to_bytes(32)),
    "r of 33 bytes": framed(coded(G), coded(G), bytes(33)),
    "no r": framed(coded(G), coded(G), b""),
    "no proof": GOOD,
    "nothing": b"",
    "noise": random.Random(1).randbytes(165),
    "half": GOOD[:100],
    "a length that is longer": b"\xff" + GOOD[1:],
}


async def counted(device: Device, answer: Answer, failures: int) -> None:
    assert (answer.code, answer.reason) == ("4.03", "wrong-code")
    assert device.app.pairing.budget.failures == failures
    assert device.app.access.store.attempts["pairing"]["failures"] == failures  # type: ignore[index]
    assert not device.users.users


@pytest.mark.parametrize("at", [0, 1, 2], ids=["X1", "X2", "more than both"])
@pytest.mark.parametrize("bad", BAD)
async def test_a_first_round_that_is_none_costs_an_attempt_and_a_code(
    kit: Kit, device: Device, bad: str, at: int
) -> None:
    """Also behind two that are right, where anything at all is too much."""
    bearer = labelled(device)
    await opened(device, Method.CODE)
    mallory = kit.caller(device)
    run = await Run.of(mallory, bearer, Method.CODE)
    right = [proved(G, 5, own_label(run)), proved(G, 6, own_label(run))]
    right[at : at + 1] = [BAD[bad]]
    shown = bearer.shown
    if (bad, at) == ("nothing", 2):
        right.append(b"\0")
    await counted(device, await run.start(round_one=b"".join(right)), 1)
    assert bearer.shown not in {shown, ""}
    await paired(mallory, bearer, Method.CODE)


@pytest.mark.parametrize("bad", BAD)
async def test_a_second_round_that_is_none_ends_it(kit: Kit, device: Device, bad: str) -> None:
    """Even with the right code, and a tag that would be right."""
    bearer = labelled(device)
    await opened(device, Method.CODE)
    mallory = kit.caller(device)
    run = await Run.of(mallory, bearer, Method.CODE)
    await run.start()
    await counted(device, await run.confirm(round_two=BAD[bad]), 1)
    again = await mallory.pair_ask("POST", run.path, run.sent[-1])
    assert again.code == "4.03"
    await paired(mallory, bearer, Method.CODE)


@pytest.mark.parametrize("value", [None, 7, "text", [b"x"], {}, True])
async def test_a_field_of_another_type_is_no_attempt(
    kit: Kit, device: Device, value: object
) -> None:
    """Nothing was tried by it: 4.00, and the same ceremony continues."""
    bearer = labelled(device)
    await opened(device, Method.CODE)
    caller = kit.caller(device)
    assert (await (await Run.of(caller, bearer, Method.CODE)).start(round_one=value)).code == "4.00"
    assert device.app.pairing.budget.failures == 0
    run = await Run.of(caller, bearer, Method.CODE)
    await run.start()
    answer = run.side.confirm()
    for changed in ({"confirm": value}, {"round_two": value}):
        assert (await caller.pair_ask("POST", run.path, {**answer, **changed})).code == "4.00"
    assert (await caller.pair_ask("POST", run.path, dict(answer))).code == "2.04"


# -- points with a back door ----------------------------------------------------------------------


async def without_the_code(caller: Caller) -> Answer:
    """X2 and A at infinity, with proofs that hold: K is there too, whatever the code is."""
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
    points = (first[1:66], INFINITY, coded(x3), coded(x4))
    bound = channel.binding(method="code", role=started.body["role"])
    key = hashlib.sha256(lp(INFINITY) + lp(b"JPAKE_KC")).digest()
    tag = hmac.digest(key, b"".join(map(lp, (b"KC_1_U", *names, *points, bound))), "sha256")
    path = f"/pair/{started.body['id']}"
    return await caller.pair_ask("POST", path, {"round_two": second, "confirm": tag})


async def test_infinity_would_open_the_door_without_a_code(
    kit: Kit, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(device, Method.CODE)
    mallory = kit.caller(device)
    await counted(device, await without_the_code(mallory), 1)
    monkeypatch.setattr(p256, "is_infinity", lambda _point: False)
    assert (await without_the_code(mallory)).code == "2.04"
    assert list(device.users.users) == ["mallory"]


def believing(reader: Reader, _generator: Item, _label: bytes) -> Item:
    """Reads an item without a look at its proof."""
    item, _, _ = reader.point_untrusted(), reader.point_untrusted(), reader.response_untrusted()
    return item


@pytest.mark.parametrize("weak", [False, True])
async def test_the_devices_own_words_sent_back_to_it(
    kit: Kit, device: Device, weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first round that another ceremony of this session got from the device: its proofs hold, but
    under the device's name. Where both have the same name it is as good as an own one."""
    if weak:
        nobody = {"client": b"me", "server": b"me"}
        monkeypatch.setattr(jpake, "identities", lambda *_: nobody)
        monkeypatch.setattr(code, "identities", lambda *_: nobody)
    bearer = labelled(device)
    await opened(device, Method.CODE)
    mallory = kit.caller(device)
    first = await Run.of(mallory, bearer, Method.CODE)
    theirs = (await first.start()).body["rounds"][:ROUND_ONE_BYTES]
    body = {"method": Method.CODE, "name": "mallory", "round_one": theirs}
    again = await mallory.pair_ask("POST", "/pair", body)
    assert again.code == ("2.01" if weak else "4.03")
    if not weak:
        await counted(device, again, 2)


@pytest.mark.parametrize("weak", [False, True])
async def test_points_nobody_knows_the_secret_of(
    kit: Kit, device: Device, weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points of another client's ceremony: unproved ones get an answer only without the check."""
    if weak:
        monkeypatch.setattr(jpake, "read_item_untrusted", believing)
    bearer = labelled(device)
    await opened(device, Method.CODE)
    mallory = kit.caller(device)
    run = await Run.of(mallory, bearer, Method.CODE)
    answer = await run.start(round_one=GOOD + framed(coded(times(G, 9)), coded(G), bytes(32)))
    assert answer.code == ("2.01" if weak else "4.03")


# -- words of another session ---------------------------------------------------------------------


def with_the_same_random_bytes(device: Device) -> None:
    """A device with the same random bytes each time: window, ceremony, nonces and scalars recur."""

    def alike(count: int) -> bytes:
        return random.Random(count).randbytes(count)

    pairing = device.app.pairing
    pairing._factory._random_bytes = alike
    pairing.ceremonies._random_bytes = alike
    pairing.methods._random_bytes = alike


def without_sessions(patch: pytest.MonkeyPatch) -> None:
    """Proofs and tags that hold in any session."""
    derived = Confirmation.derive.__func__  # type: ignore[attr-defined]

    def anywhere(
        cls: type[Confirmation], _ekm: bytes, salt: bytes, method: str, *, transcript: bytes = b""
    ) -> Confirmation:
        made: Confirmation = derived(cls, bytes(32), salt, method, transcript=transcript)
        return made

    def unbound(role: str, secret: bytes, *, random_bytes: Any, **_: Any) -> jpake.EcJpake:
        return jpake.EcJpake(role, secret, profile="handfast", random_bytes=random_bytes)

    patch.setattr(Confirmation, "derive", classmethod(anywhere))
    patch.setattr(Channel, "binding", lambda _self, **_: bytes(32))
    patch.setattr(code, "EcJpake", unbound)
    patch.setattr(code, "identities", lambda *_: {"client": b"C", "server": b"D"})


async def replayed(caller: Caller, run: Run, device: Device) -> Answer:
    """All that a client said, word for word, by another client; the device's user says yes."""
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
async def test_a_ceremony_that_went_well_cannot_be_said_again(
    kit: Kit, device: Device, way: str, who: str
) -> None:
    bearer = labelled(device)
    await opened(device, way)
    anna = kit.caller(device)
    run = await paired(anna, bearer, way)
    device.app.access.registry.remove_user(None, "anna")
    await opened(device, way)
    eve = kit.caller(device, anna.identity if who == "the same key" else None)
    await counted(device, await replayed(eve, run, device), 1)


@pytest.mark.parametrize("way", WAYS)
async def test_it_could_be_said_again_with_tags_for_any_session_and_bad_random_bytes(
    kit: Kit, device: Device, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_sessions(monkeypatch)
    with_the_same_random_bytes(device)
    bearer = labelled(device)
    await opened(device, way)
    run = await paired(kit.caller(device), bearer, way)
    device.app.access.registry.remove_user(None, "anna")
    await opened(device, way)
    eve = kit.caller(device)
    assert (await replayed(eve, run, device)).code == "2.04"
    assert device.users.users["anna"].fingerprints == {eve.fingerprint}


@pytest.mark.parametrize("left", ["random", "sessions"])
@pytest.mark.parametrize("way", [Method.CODE, PRINTED, Method.SAS])
async def test_either_of_the_two_is_enough_where_nonces_are_exchanged(
    kit: Kit, device: Device, way: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if left == "random":
        without_sessions(monkeypatch)
    else:
        with_the_same_random_bytes(device)
    bearer = labelled(device)
    await opened(device, way)
    run = await paired(kit.caller(device), bearer, way)
    device.app.access.registry.remove_user(None, "anna")
    await opened(device, way)
    await counted(device, await replayed(kit.caller(device), run, device), 1)


# -- words of another method ----------------------------------------------------------------------


async def begun(caller: Caller, bearer: LabelledDevice, way: str) -> Run:
    """To the point where the client's confirmation is due."""
    await opened(bearer.device, way)
    run = await Run.of(caller, bearer, way)
    assert (await run.run_to_decision()).code == "2.01"
    if bearer.device.app.pairing.ceremonies.pending() is not None:
        bearer.device.decide(accept=True)
    return run


TAGGED = (Method.LABEL, Method.SAS, Method.COMPARE, Method.BUTTON)


async def confirmed_as(run: Run, bearer: LabelledDevice, other: str) -> Answer:
    """The tag that this very session, window, key and role have in another method."""
    started = run.got[0].body
    channel = Channel(run.session.ekm, run.session.client, run.session.device, started["window"])
    terms = Terms(channel, started["role"], run.name, run.id)
    half = client_side_of(other, run.session, label=bearer.label)
    half.begin()
    if other == Method.SAS:  # the exchange there was, or one with itself
        device = offer_sas(random.Random(1).randbytes).create_side(terms)
        message = half.started_untrusted(terms, device.begin_untrusted({}))
        assert message is not None
        half.exchanged_untrusted(device.exchange_untrusted(message))
    else:
        half.started_untrusted(terms, {})
    return await run.confirm(confirm=half.confirm()["confirm"])


@pytest.mark.parametrize("other", TAGGED)
@pytest.mark.parametrize("way", TAGGED)
async def test_a_tag_of_one_method_is_worth_nothing_in_another(
    kit: Kit, device: Device, way: str, other: str
) -> None:
    bearer = labelled(device)
    run = await begun(kit.caller(device), bearer, way)
    answer = await confirmed_as(run, bearer, other)
    if way == other != Method.SAS:
        assert answer.code == "2.04"
    else:
        await counted(device, answer, 1)


async def test_with_methods_unnamed_a_press_would_pass_for_a_look(
    kit: Kit, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that used the button, and compared nothing, has the tag of `compare`."""
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
    bearer = labelled(device)
    run = await begun(kit.caller(device), bearer, Method.COMPARE)
    assert (await confirmed_as(run, bearer, Method.BUTTON)).code == "2.04"
    assert device.users.users["anna"].keys[0].verified


@pytest.mark.parametrize(("way", "said"), [(Method.CODE, True), (PRINTED, False)])
async def test_a_code_of_one_kind_is_none_of_the_other(
    kit: Kit, device: Device, way: str, said: bool
) -> None:
    """The right code, under the other's name."""
    bearer = labelled(device)
    await opened(device, way)
    run = await Run.of(kit.caller(device), bearer, way)
    assert (await run.start(printed=said)).code == "2.01"
    await counted(device, await run.confirm(), 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("offered", [Method.COMPARE, Method.SAS, Method.CODE])
async def test_a_method_that_the_window_does_not_offer_is_refused(
    kit: Kit, device: Device, way: str, offered: str
) -> None:
    bearer = labelled(device)
    await device.open(role="user", methods=[offered])
    run = await Run.of(kit.caller(device), bearer, way, code="1234-5678")
    answer = await run.start()
    if method_of(way) == offered:
        assert answer.code == "2.01"
    else:
        assert (answer.code, answer.reason) == ("4.03", "denied")
        assert device.app.pairing.budget.failures == 0


@pytest.mark.parametrize("way", WAYS)
async def test_steps_out_of_turn_get_nothing_out_of_the_device(
    kit: Kit, device: Device, way: str
) -> None:
    """A confirmation before its time, an exchange where there is none, the same step twice."""
    bearer = labelled(device)
    await opened(device, way)
    caller = kit.caller(device)
    run = await Run.of(caller, bearer, way)
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
