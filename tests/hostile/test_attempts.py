"""An attacker can neither disable a printed code for good nor use up an owner's attempts.

An attempt on the printed code is counted once the proofs of the first J-PAKE round are valid. The
console can enable a disabled code again. A window that a user opened remotely counts its own
attempts.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from device_app.console import offline
from device_app.console.console import Console
from device_app.console.control_client import call
from device_app.errors import AppError
from device_app.pairing.hardware import Hardware
from device_app.pairing.stored_label import LABEL_RECORD
from iam import Store
from peer.limits import DEFAULT_LIMITS
from peer.pairing import jpake
from peer.pairing.budget import AttemptBudget
from peer.pairing.compare import CompareClient
from peer.pairing.methods import Method
from tests.kit.internals import record_of
from tests.kit.methods import PRINTED, LabelledDevice, Run, add_label, open_window, paired

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.device import Answer, Caller, Device, Kit

MAX_FAILURES = DEFAULT_LIMITS.printed_code_failures
RANDOM = random.Random(8)


def label_failures(device: Device) -> int:
    """The stored number of failed attempts on the printed code."""
    stored: Any = device.app.access.store.attempts[LABEL_RECORD]
    assert stored["failures"] == device.app.pairing.methods.label.failures
    return int(stored["failures"])


def disable_code(device: Device, *, blocked_seconds: float = 0.0) -> None:
    """Use up the attempts on the printed code; with `blocked_seconds`, also those of the device."""
    service = device.app.pairing
    service.methods.replace_label(replace(service.methods.label, failures=MAX_FAILURES))
    if blocked_seconds:
        until = asyncio.get_running_loop().time() + blocked_seconds
        record_of(service).budget = AttemptBudget(15, until, service.limits)
    record_of(service).keep(record_of(service).budget, (), 0.0, actor="")


async def fail_attempt(caller: Caller, labelled_device: LabelledDevice, **start: object) -> Answer:
    """A failed attempt on the printed code. `start` replaces fields of the first message."""
    run = await Run.of(
        caller, labelled_device, PRINTED, code=labelled_device.wrong_code_for(PRINTED)
    )
    started = await run.start(**start)
    return await run.confirm() if started.code == "2.01" else started


async def open_remotely(owner: Caller, **fields: object) -> Answer:
    answer = await owner.ask("POST", "/iam/window", {"role": "user", **fields})
    assert answer.code == "2.04", answer
    return answer


# -- what counts as an attempt --------------------------------------------------------------------


def random_bytes(_round_one: bytes) -> bytes:
    return RANDOM.randbytes(jpake.ROUND_ONE_BYTES)


def invalid_proof(round_one: bytes) -> bytes:
    """The points are valid, the last proof is not."""
    return round_one[:-1] + bytes([round_one[-1] ^ 1])


def repeated_half(round_one: bytes) -> bytes:
    """The first half of the round, repeated, with a trailing byte."""
    half = round_one[: len(round_one) // 2]
    return half + half + b"\0"


class NoFields(CompareClient):
    """A client half of `code` that adds no fields to the messages."""

    method = Method.CODE


@pytest.mark.parametrize("change", [random_bytes, invalid_proof, repeated_half])
async def test_an_invalid_first_round_is_not_an_attempt_on_the_printed_code(
    kit: Kit, device: Device, change: Callable[[bytes], bytes]
) -> None:
    """The window and the back-off count them, as they count every failure."""
    labelled_device = add_label(device)
    mallory = kit.caller(device)
    for turn in range(MAX_FAILURES + 1):
        if turn % 3 == 0:
            await open_window(device, PRINTED)
        run = await Run.of(mallory, labelled_device, PRINTED)
        changed = change(bytes(run.side.begin()["round_one"]))  # type: ignore[call-overload]
        run.side = NoFields()
        answer = await run.start(round_one=changed, printed=True)
        assert (answer.code, answer.reason) == ("4.03", "wrong-code")
        assert device.app.pairing.budget.failures == turn % 3 + 1
        assert label_failures(device) == 0
    assert not device.app.status()["label"]["dead"]
    await open_window(device, PRINTED)
    await paired(kit.caller(device), labelled_device, PRINTED)


async def test_a_valid_first_round_is_counted_as_an_attempt_before_it_is_answered(
    kit: Kit, device: Device
) -> None:
    labelled_device = add_label(device)
    await open_window(device, PRINTED)
    run = await Run.of(kit.caller(device), labelled_device, PRINTED)
    assert (await run.start()).code == "2.01"
    assert label_failures(device) == 1
    assert (await run.confirm()).code == "2.04"
    assert label_failures(device) == 0


# -- enabling a disabled code ---------------------------------------------------------------------


async def test_the_console_enables_a_disabled_code(kit: Kit, device: Device) -> None:
    labelled_device = add_label(device)
    disable_code(device)
    await open_window(device, PRINTED)
    assert (await fail_attempt(kit.caller(device), labelled_device)).reason == "wrong-code"
    assert device.app.status()["label"]["dead"]
    socket = device.app.paths.socket
    assert await call(socket, "label-revive", {}) == {"revived": True}
    assert await call(socket, "label-revive", {}) == {"revived": False}
    assert not device.app.status()["label"]["dead"]
    kinds = [record.event.kind for record in device.app.access.store.audit.iterate()]
    assert kinds.count("code-revived") == 1
    await device.app.close()
    device = await kit.device()
    assert label_failures(device) == 0
    await open_window(device, PRINTED)
    await paired(
        kit.caller(device),
        LabelledDevice(device, labelled_device.label, labelled_device.printed),
        PRINTED,
    )


async def test_label_revive_works_offline_and_reports_a_missing_label(device: Device) -> None:
    with pytest.raises(AppError, match="no label"):
        await call(device.app.paths.socket, "label-revive", {})
    add_label(device)
    disable_code(device)
    places = device.app.paths
    await device.app.close()
    assert offline.OfflineConsole(places, warn=print).run(Console.label_revive) == {"revived": True}
    with closing(Store.open(places.store)) as store:
        stored: Any = store.attempts[LABEL_RECORD]
        assert stored["failures"] == 0


# -- an owner's window ----------------------------------------------------------------------------


async def test_an_owners_window_works_after_attackers_used_up_all_attempts(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """While a back-off and a disabled code prevent pairing in windows of the console, a window that
    an owner opens remotely works with each method, including the printed code."""
    labelled_device = add_label(device)
    for way in (Method.CODE, Method.SAS, PRINTED):
        disable_code(device, blocked_seconds=3600)
        await device.closed()
        await device.open(role="user")
        refused = await (await Run.of(kit.caller(device), labelled_device, way)).start()
        assert (refused.code, refused.reason) == ("4.29", "locked-out")
        assert device.app.status()["window"]["blocked_seconds"] > 3000
        await device.closed()
        await open_remotely(owner)
        assert "blocked_seconds" not in device.app.status()["window"]
        await paired(kit.caller(device), labelled_device, way, name=way)
        stored: Any = device.app.access.store.attempts["pairing"]
        assert stored["failures"] == 15, "the back-off is cleared at the device alone"
        assert device.app.pairing.seconds_blocked() > 3000
    assert set(device.users.users) == {"olga", Method.CODE, Method.SAS, PRINTED}


async def test_failures_in_an_owners_window_close_only_that_window(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """Each of these windows has three attempts, however many failed in earlier ones."""
    labelled_device = add_label(device)
    before = device.app.access.store.attempts
    for _ in range(5):
        await open_remotely(owner)
        mallory = kit.caller(device)
        for left in (2, 1, 0):
            assert (await fail_attempt(mallory, labelled_device)).reason == "wrong-code"
            assert device.app.pairing.is_open is (left > 0)
        await mallory.close()
        await device.closed()
    assert device.app.access.store.attempts == before
    assert device.app.pairing.budget.failures == 0
    await open_remotely(owner)
    await paired(kit.caller(device), labelled_device, PRINTED)


async def test_the_attempts_of_a_window_are_those_of_the_last_user_to_extend_it(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """A blocked window has attempts again once an owner extends it. When the console extends it,
    the attempts of the device count again."""
    labelled_device = add_label(device)
    disable_code(device, blocked_seconds=3600)
    await device.open(role="user")
    run = await Run.of(kit.caller(device), labelled_device, Method.SAS)
    assert (await run.start()).reason == "locked-out"
    await open_remotely(owner)
    run = await Run.of(run.caller, labelled_device, Method.SAS)
    assert (await run.start()).code == "2.01"
    await run.caller.pair_ask("DELETE", run.path)
    assert device.app.pairing.budget.failures == 15
    await device.open(role="user")
    again = await Run.of(run.caller, labelled_device, Method.SAS)
    assert (await again.start()).reason == "locked-out"


async def test_a_disabled_code_works_in_an_owners_window_without_a_display(kit: Kit) -> None:
    device = await kit.device(hardware=Hardware(display=False))
    owner = kit.known(device, "olga", "owner")
    labelled_device = add_label(device)
    disable_code(device)
    await device.open(role="user")
    assert device.app.status()["window"]["methods"] == ["label", "compare"]
    await device.closed()
    assert (await open_remotely(owner)).body["methods"] == ["label", "code", "compare"]
    await paired(kit.caller(device), labelled_device, PRINTED)
