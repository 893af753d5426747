"""An attacker who can only guess: success rate, cost, and no effect on other clients.

Attempts are counted before the first answer and stored persistently. Three failures close a window,
and ten start a back-off. A displayed code is valid for one ceremony; a printed code is disabled
after twenty failures in a row. The answers do not reveal which part of an attempt was wrong.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from device_app.console.control_client import call
from device_app.pairing.hardware import Hardware
from device_app.pairing.methods import BoardMethods
from device_app.pairing.stored_label import StoredLabel
from peer.errors import PeerError
from peer.identity import Fingerprint
from peer.limits import DEFAULT_LIMITS
from peer.pairing import typed
from peer.pairing.binding import Channel
from peer.pairing.budget import AttemptBudget
from peer.pairing.code import CodeClient
from peer.pairing.errors import Mismatch
from peer.pairing.label import Label
from peer.pairing.methods import Method
from peer.pairing.sides import Session, Terms
from peer.pairing.typed import TypedCode
from tests.kit.device import LINGERING
from tests.kit.internals import record_of
from tests.kit.methods import (
    PRINTED,
    WAYS,
    LabelledDevice,
    Run,
    add_label,
    method_of,
    open_window,
    other_code,
    paired,
)
from tests.kit.waiting import stop_time

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller, Device, Kit

pytestmark = pytest.mark.slow

CODES = (Method.CODE, PRINTED)


async def fail_attempt(caller: Caller, labelled_device: LabelledDevice, way: str) -> Answer:
    """Run a ceremony that fails because of the client's messages; returns the last answer."""
    run = await Run.of(
        caller,
        labelled_device,
        way,
        code=labelled_device.code_for(way) and labelled_device.wrong_code_for(way),
    )
    started = await run.run_to_decision()
    if started.code != "2.01":
        return started
    if labelled_device.device.app.pairing.ceremonies.pending() is not None:
        labelled_device.device.decide(accept=True)
    if way == Method.LABEL:
        return await run.confirm(token=bytes(16))
    return await run.confirm(**({} if method_of(way) == Method.CODE else {"confirm": bytes(32)}))


# -- success rate of guesses, in memory -----------------------------------------------------------

RUNS = 600
CLIENT, DEVICE = Fingerprint(b"c" * 32), Fingerprint(b"d" * 32)


def board_of_one_digit(patch: pytest.MonkeyPatch, seed: int = 1) -> BoardMethods:
    """The methods of a real board, with codes of one digit."""
    patch.setattr(typed, "SHOWN_DIGITS", 1)
    random_bytes = random.Random(seed).randbytes
    board = BoardMethods(
        Hardware(), StoredLabel(), DEVICE, random_bytes=random_bytes, limits=DEFAULT_LIMITS
    )
    board.renew(wanted=True)
    return board


def guess_succeeds(board: BoardMethods, guess: int, rng: random.Random) -> bool:
    """Run one ceremony with a guess; true if the device accepts it."""
    ekm = rng.randbytes(32)
    terms = Terms(Channel(ekm, CLIENT, DEVICE, bytes(16)), "guest", "mallory", "x")
    [method] = [one for one in board.offered((), pressed=False) if one.method is Method.CODE]
    device = method.create_side(terms)
    code = TypedCode(f"{guess:0{typed.SHOWN_DIGITS}}")
    client = CodeClient(Session(ekm, CLIENT, DEVICE), code, rng.randbytes)
    client.started_untrusted(terms, device.begin_untrusted(client.begin()))
    try:
        device.check_untrusted(client.confirm())
    except Mismatch:
        return False
    return True


GUESSERS: dict[str, Callable[[int, random.Random], int]] = {
    "random": lambda _turn, rng: rng.randrange(10),
    "always the same": lambda _turn, _rng: 7,
    "one after the other": lambda turn, _rng: turn % 10,
}


@pytest.mark.parametrize("guesser", GUESSERS)
def test_a_guess_succeeds_at_the_rate_of_one_code_among_all(
    guesser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one digit the rate is 1 in 10 for every strategy; with 8 digits it is 1 in 10^8."""
    board, rng = board_of_one_digit(monkeypatch), random.Random(2)
    hits = 0
    for turn in range(RUNS):
        hits += guess_succeeds(board, GUESSERS[guesser](turn, rng), rng)
        board.renew(wanted=True)
    assert abs(hits - RUNS / 10) < 4.5 * (RUNS * 0.1 * 0.9) ** 0.5, hits


def test_a_code_that_does_not_change_is_found_by_trying_all_codes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The defence removed: the code stays the same for the next ceremony."""
    for seed in range(20):
        board, rng = board_of_one_digit(monkeypatch, seed), random.Random(seed)
        assert any(guess_succeeds(board, guess, rng) for guess in range(10))


# -- limits after failures ------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_three_failures_close_the_window_and_affect_no_other_client(
    kit: Kit, way: str
) -> None:
    device = await kit.device(limits=LINGERING)
    owner = kit.known(device, "olga", "owner")
    labelled_device = add_label(device)
    await open_window(device, way)
    session = await owner.connect()
    mallory = kit.caller(device)
    shown = {labelled_device.shown}
    for turn in range(1, 4):
        assert device.app.pairing.is_open
        answer = await fail_attempt(mallory, labelled_device, way)
        assert (answer.code, answer.reason) == ("4.03", "wrong-code")
        assert device.app.pairing.budget.failures == turn
        assert (await owner.ask("GET", "/hello")).code == "2.05"
        assert labelled_device.shown not in shown or method_of(way) != Method.CODE
        shown.add(labelled_device.shown)
    assert not device.app.pairing.is_open
    assert not labelled_device.shown
    assert (
        await fail_attempt(mallory, with_typed_code(labelled_device), way)
    ).reason == "window-closed"
    await mallory.close()  # the port closes once no client is left to notify
    assert session.is_open
    assert list(device.users.users) == ["olga"]
    await open_window(device, way)
    await paired(kit.caller(device), labelled_device, way)
    assert (await owner.ask("GET", "/hello")).code == "2.05"


def with_typed_code(labelled_device: LabelledDevice) -> LabelledDevice:
    """A user who types some code although the device displays none."""

    class Typing(LabelledDevice):
        def code_for(self, way: str) -> str:
            return {Method.CODE: "1234-5678", PRINTED: self.printed}.get(way, "")

    return Typing(labelled_device.device, labelled_device.label, labelled_device.printed)


async def cause_failures(
    kit: Kit, device: Device, labelled_device: LabelledDevice, way: str, count: int
) -> None:
    """Cause `count` failures, in as many windows as necessary."""
    mallory = kit.caller(device)
    for _ in range(count):
        if not device.app.pairing.is_open:
            await device.closed()
            await device.open(role="user", pressed=True)
        assert (await fail_attempt(mallory, labelled_device, way)).reason == "wrong-code"


@pytest.mark.parametrize("way", [Method.CODE, Method.LABEL, Method.SAS])
async def test_ten_failures_start_a_back_off_that_survives_a_restart(kit: Kit, way: str) -> None:
    device = await kit.device(hardware=Hardware(button=True))
    owner = kit.known(device, "olga", "owner")
    labelled_device = add_label(device)
    now = asyncio.get_running_loop().time
    begun = now()
    await cause_failures(kit, device, labelled_device, way, 10)
    for turn in range(2):
        if turn:
            await device.app.close()
            device = await kit.device(hardware=Hardware(button=True))
            labelled_device = LabelledDevice(device, labelled_device.label, labelled_device.printed)
            owner = kit.caller(device, owner.identity)
        await device.closed()
        await device.open(role="user")
        run = await Run.of(kit.caller(device), labelled_device, way)
        refused = await run.start()
        assert (refused.code, refused.reason) == ("4.29", "locked-out")
        assert 29 - (now() - begun) <= (refused.message.opt.max_age or 0) <= 30
        assert device.app.pairing.budget.failures == 10
        assert (await owner.ask("GET", "/hello")).code == "2.05"
    await device.closed()


@pytest.mark.parametrize(
    ("act", "clears"),
    [
        (("press", {"held": 1}), False),
        (("press", {"held": 4.9}), False),
        (("press", {"held": 5}), True),
        (("open", {"role": "user"}), True),
    ],
    ids=["a press of 1 s", "a press of 4.9 s", "a press of 5 s", "the console"],
)
async def test_a_long_press_or_the_console_ends_a_back_off(
    kit: Kit, act: tuple[str, dict[str, Any]], clears: bool
) -> None:
    device = await kit.device(hardware=Hardware(button=True))
    labelled_device = add_label(device)
    record_of(device.app.pairing).budget = AttemptBudget(10, asyncio.get_running_loop().time() + 30)
    await call(device.app.paths.socket, *act)
    run = await Run.of(kit.caller(device), labelled_device, Method.CODE)
    assert (await run.start()).code == ("2.01" if clears else "4.29")
    kept: Any = device.app.access.store.attempts.get("pairing")
    assert not clears or kept["failures"] == 1


@pytest.mark.parametrize(("failures", "wait"), [(8, 0), (9, 30), (10, 60), (14, 960), (30, 86400)])
async def test_each_further_failure_doubles_the_back_off(
    kit: Kit, device: Device, failures: int, wait: int
) -> None:
    labelled_device = add_label(device)
    record_of(device.app.pairing).budget = AttemptBudget(failures)
    await device.open(role="user")
    caller = kit.caller(device)
    stop_time()
    assert (await fail_attempt(caller, labelled_device, Method.CODE)).reason == "wrong-code"
    again = await fail_attempt(caller, labelled_device, Method.CODE)
    assert again.reason == ("locked-out" if wait else "wrong-code")
    assert not wait or again.message.opt.max_age == wait


async def test_without_counting_attempts_there_is_no_back_off(
    kit: Kit, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The defence removed: only the number of opened windows limits the attempts."""
    monkeypatch.setattr(AttemptBudget, "debit", lambda self, _now: self)
    labelled_device = add_label(device)
    await cause_failures(kit, device, labelled_device, Method.CODE, 12)
    assert device.app.pairing.budget.failures == 0


# -- a printed code -------------------------------------------------------------------------------


@pytest.mark.parametrize("disabled", [False, True])
async def test_twenty_failures_disable_the_printed_code_and_no_other_method(
    kit: Kit, device: Device, disabled: bool
) -> None:
    labelled_device = add_label(device)
    mallory = kit.caller(device)
    for turn in range(20 if disabled else 19):
        if turn % 3 == 0:
            await open_window(device, PRINTED)
        assert (await fail_attempt(mallory, labelled_device, PRINTED)).reason == "wrong-code"
    assert device.app.pairing.methods.is_code_blocked is disabled
    assert device.app.status()["label"]["dead"] is disabled
    for way in (Method.CODE, Method.LABEL, Method.SAS):
        await open_window(device, way)
        await paired(kit.caller(device), labelled_device, way, name=way)
    await open_window(device, PRINTED)
    run = await Run.of(kit.caller(device), labelled_device, PRINTED)
    done = await run.run_to_end(device)
    assert (done.code == "2.04") is not disabled, (
        "pairing by other methods changed the state of the printed code"
    )
    assert ("anna" in device.users.users) is not disabled
    if disabled:
        fresh = add_label(device)
        await open_window(device, PRINTED)
        await paired(kit.caller(device), fresh, PRINTED, name="berta")


async def test_without_the_count_a_disabled_code_is_accepted(
    kit: Kit, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled_device = add_label(device)
    methods = device.app.pairing.methods
    methods.replace_label(replace(methods.label, failures=20))
    monkeypatch.setattr(BoardMethods, "is_code_blocked", False)
    await open_window(device, PRINTED)
    await paired(kit.caller(device), labelled_device, PRINTED)


# -- information in the answers -------------------------------------------------------------------


async def test_wrong_missing_and_disabled_codes_get_the_same_answers(kit: Kit) -> None:
    """Wrong, missing and disabled codes get the same answers, except for the random values."""
    device = await kit.device()
    seen: dict[str, list[tuple[object, ...]]] = {}

    async def record_answers(what: str, labelled_device: LabelledDevice, way: str) -> None:
        await device.closed()
        await device.open(role="user", clears_backoff=True)
        run = await Run.of(
            kit.caller(device), with_typed_code(labelled_device), way, code=codes[way]
        )
        started = await run.start()
        done = await run.confirm()
        shape = sorted((key, len(str(value))) for key, value in started.body.items())
        shape = [(key, size) for key, size in shape if key not in {"rounds", "window"}]
        sizes = (len(started.body["rounds"]), len(started.body["window"]))
        again = await run.caller.pair_ask("POST", run.path, run.sent[-1])
        seen[what] = [
            (started.code, *shape, *sizes),
            (done.code, done.payload),
            (again.code, again.payload),
        ]
        assert done.reason == "wrong-code"
        assert device.app.pairing.budget.failures == 1

    none = LabelledDevice(device, Label(device.fingerprint, bytes(16)), "")
    codes = {Method.CODE: "", PRINTED: TypedCode.printed(random.Random(3).randbytes).text}
    await record_answers("no label", none, PRINTED)
    labelled_device = add_label(device)
    codes = {Method.CODE: "1234-5678", PRINTED: other_code(labelled_device.printed)}
    await record_answers("a wrong shown one", labelled_device, Method.CODE)
    await record_answers("a wrong printed one", labelled_device, PRINTED)
    board = device.app.pairing.methods
    codes[PRINTED] = labelled_device.printed
    board.replace_label(replace(board.label, failures=20))
    await record_answers("a dead one", labelled_device, PRINTED)
    board.replace_label(replace(board.label, failures=0))
    board.hardware = Hardware(display=False)
    await record_answers("none shown", labelled_device, Method.CODE)
    assert len(set(map(str, seen.values()))) == 1, seen


@pytest.mark.parametrize("way", CODES)
async def test_after_a_ceremony_right_and_wrong_messages_get_the_same_answer(
    kit: Kit, device: Device, way: str
) -> None:
    """The answer does not reveal whether the code of the ended ceremony was right."""
    labelled_device = add_label(device)
    await open_window(device, way)
    caller = kit.caller(device)
    right = await Run.of(caller, labelled_device, way)
    await right.start()
    assert (await right.confirm(confirm=bytes(32))).reason == "wrong-code"
    sent = dict(right.sent[-1])
    answers = {
        (answer.code, answer.payload)
        for body in (sent, {**sent, "confirm": b"x" * 32}, {"confirm": bytes(32)}, {})
        for answer in [await caller.pair_ask("POST", right.path, body)]
    }
    assert len(answers) == 1
    other_answers = {
        (answer.code, answer.payload)
        for path in (right.path, "/pair/never", "/pair/" + "0" * len(right.id))
        for answer in [await kit.caller(device).pair_ask("POST", path, sent)]
    }
    assert [code for code, _ in other_answers] == ["4.04"]


@pytest.mark.parametrize("way", CODES)
@pytest.mark.parametrize("how", ["wrong", "aborted", "disconnected", "restarted"])
async def test_the_displayed_code_changes_after_every_failed_ceremony(
    kit: Kit, device: Device, way: str, how: str
) -> None:
    """It changes after a failed ceremony by the printed code too."""
    labelled_device = add_label(device)
    await open_window(device, way)
    shown = labelled_device.shown
    caller = kit.caller(device)
    run = await Run.of(caller, labelled_device, way)
    assert (await run.start()).code == "2.01"
    match how:
        case "wrong":
            await run.confirm(confirm=bytes(32))
        case "aborted":
            assert (await caller.pair_ask("DELETE", run.path)).code == "2.02"
        case "disconnected":
            await caller.close()
            await device.until(lambda: device.app.pairing.window.pending() is None)  # type: ignore[union-attr]
        case _:
            again = await Run.of(caller, labelled_device, way)
            assert (await again.start()).code == "2.01"
    assert labelled_device.shown not in {shown, ""}


async def test_a_restarted_ceremony_of_the_same_client_needs_the_new_code(
    kit: Kit, device: Device
) -> None:
    """The second ceremony needs the new code on the display."""
    labelled_device = add_label(device)
    await open_window(device, Method.CODE)
    caller = kit.caller(device)
    old = labelled_device.shown
    await (await Run.of(caller, labelled_device, Method.CODE)).start()
    again = await Run.of(caller, labelled_device, Method.CODE, code=old)
    assert (await again.start()).code == "2.01"
    assert (await again.confirm()).reason == "wrong-code"


# -- the button -----------------------------------------------------------------------------------


async def test_the_button_is_offered_only_in_a_window_that_was_opened_by_a_press(
    kit: Kit, device: Device
) -> None:
    add_label(device)
    caller = kit.caller(device)
    await device.open(role="user")
    assert "button" not in (await caller.pair_ask("GET", "/pair")).body["methods"]
    answer = await caller.pair_ask("POST", "/pair", {"method": "button", "name": "anna"})
    assert (answer.code, answer.reason) == ("4.03", "denied")
    with pytest.raises(PeerError, match="button"):
        device.app.pairing.methods.offered(["button"], pressed=False)
    await device.closed()
    await device.open(role="user", pressed=True)
    assert (await caller.pair_ask("GET", "/pair")).body["methods"][-1] == "button"


@pytest.mark.parametrize("role", ["owner", "admin", "user", "guest"])
async def test_the_button_grants_an_unverified_guest_until_another_method_verifies(
    kit: Kit, device: Device, role: str
) -> None:
    labelled_device = add_label(device)
    caller = kit.caller(device)
    await open_window(device, Method.BUTTON, role=role)
    asking = await Run.of(caller, labelled_device, Method.BUTTON)
    if role != "guest":
        assert (await asking.start(role=role)).reason == "denied"
    await paired(caller, labelled_device, Method.BUTTON)

    def user_state() -> tuple[str, bool, str]:
        user = device.users.users["anna"]
        return user.role, user.keys[0].verified, user.keys[0].method

    assert user_state() == ("guest", False, "button")
    await open_window(device, Method.BUTTON, role=role)
    again = await (await Run.of(caller, labelled_device, Method.BUTTON)).start()
    assert (again.code, again.body["role"]) == ("2.04", "guest")
    assert user_state() == ("guest", False, "button")
    await paired(caller, labelled_device, Method.SAS)
    assert user_state() == (role, True, "sas")
    await open_window(device, Method.BUTTON, role="guest")
    again = await (await Run.of(caller, labelled_device, Method.BUTTON)).start()
    assert (again.code, again.body["role"]) == ("2.04", role)
    assert user_state() == (role, True, "sas"), "pairing by the button lowered the rights"


async def test_a_failed_ceremony_does_not_change_an_unverified_key(
    kit: Kit, device: Device
) -> None:
    labelled_device = add_label(device)
    caller = kit.caller(device)
    await open_window(device, Method.BUTTON, role="owner")
    await paired(caller, labelled_device, Method.BUTTON)
    await open_window(device, Method.BUTTON, role="owner")
    for way in (Method.CODE, Method.SAS, Method.LABEL):
        assert (await fail_attempt(caller, labelled_device, way)).reason == "wrong-code"
    [user] = device.users.users.values()
    assert (user.role, user.keys[0].verified) == ("guest", False)
