"""Attackers can use up neither a printed code for good nor the attempts of an owner's window.

A try at the printed code is counted once the first J-PAKE round has proved its points. The console
enables a disabled code again. A window that a user opened remotely has attempts of its own.
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
from device_app.pairing.methods import LABEL_RECORD, Hardware
from iam import Store
from peer.limits import DEFAULT_LIMITS
from peer.pairing import jpake
from peer.pairing.budget import AttemptBudget
from peer.pairing.compare import CompareClient
from peer.pairing.methods import Method
from tests.kit.internals import record_of
from tests.kit.methods import PRINTED, LabelledDevice, Run, labelled, opened, paired

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.device import Answer, Caller, Device, Kit

DEAD = DEFAULT_LIMITS.printed_code_failures
NOISE = random.Random(8)


def plate_failures(device: Device) -> int:
    """Failed tries at the printed code, as they are stored."""
    stored: Any = device.app.access.store.attempts[LABEL_RECORD]
    assert stored["failures"] == device.app.pairing.methods.label.failures
    return int(stored["failures"])


def kill_the_code(device: Device, *, blocked_seconds: float = 0.0) -> None:
    """Strangers have had their tries, at the code and at the device."""
    service = device.app.pairing
    service.methods.replace_label(replace(service.methods.label, failures=DEAD))
    if blocked_seconds:
        until = asyncio.get_running_loop().time() + blocked_seconds
        record_of(service).budget = AttemptBudget(15, until, service.limits)
    record_of(service).keep(record_of(service).budget, (), 0.0, actor="")


async def wrong(caller: Caller, bearer: LabelledDevice, **start: object) -> Answer:
    """A try at the printed code that fails; with `start`, by what its first message says."""
    run = await Run.of(caller, bearer, PRINTED, code=bearer.wrong_code_for(PRINTED))
    started = await run.start(**start)
    return await run.confirm() if started.code == "2.01" else started


async def from_afar(owner: Caller, **wish: object) -> Answer:
    answer = await owner.ask("POST", "/iam/window", {"role": "user", **wish})
    assert answer.code == "2.04", answer
    return answer


# -- what a try is --------------------------------------------------------------------------------


def noise(_round_one: bytes) -> bytes:
    return NOISE.randbytes(jpake.ROUND_ONE_BYTES)


def no_proof(round_one: bytes) -> bytes:
    """The points are right, the last proof is not."""
    return round_one[:-1] + bytes([round_one[-1] ^ 1])


def one_point_twice(round_one: bytes) -> bytes:
    """Half a round, and the same half once more with something behind it."""
    half = round_one[: len(round_one) // 2]
    return half + half + b"\0"


class NoFields(CompareClient):
    """A client of `code` that sends no fields by itself."""

    method = Method.CODE


@pytest.mark.parametrize("change", [noise, no_proof, one_point_twice])
async def test_first_rounds_that_prove_nothing_are_no_tries_at_the_printed_code(
    kit: Kit, device: Device, change: Callable[[bytes], bytes]
) -> None:
    """More of them than there are tries. Windows and the back-off count them like all failures."""
    bearer = labelled(device)
    mallory = kit.caller(device)
    for turn in range(DEAD + 1):
        if turn % 3 == 0:
            await opened(device, PRINTED)
        run = await Run.of(mallory, bearer, PRINTED)
        changed = change(bytes(run.side.begin()["round_one"]))  # type: ignore[call-overload]
        run.side = NoFields()
        answer = await run.start(round_one=changed, printed=True)
        assert (answer.code, answer.reason) == ("4.03", "wrong-code")
        assert device.app.pairing.budget.failures == turn % 3 + 1
        assert plate_failures(device) == 0
    assert not device.app.status()["label"]["dead"]
    await opened(device, PRINTED)
    await paired(kit.caller(device), bearer, PRINTED)


async def test_a_first_round_that_proves_its_points_is_a_try_before_it_is_answered(
    kit: Kit, device: Device
) -> None:
    bearer = labelled(device)
    await opened(device, PRINTED)
    run = await Run.of(kit.caller(device), bearer, PRINTED)
    assert (await run.start()).code == "2.01"
    assert plate_failures(device) == 1
    assert (await run.confirm()).code == "2.04"
    assert plate_failures(device) == 0


# -- what the console gives back ------------------------------------------------------------------


async def test_the_console_revives_a_dead_code(kit: Kit, device: Device) -> None:
    bearer = labelled(device)
    kill_the_code(device)
    await opened(device, PRINTED)
    assert (await wrong(kit.caller(device), bearer)).reason == "wrong-code"
    assert device.app.status()["label"]["dead"]
    socket = device.app.paths.socket
    assert await call(socket, "label-revive", {}) == {"revived": True}
    assert await call(socket, "label-revive", {}) == {"revived": False}
    assert not device.app.status()["label"]["dead"]
    kinds = [record.event.kind for record in device.app.access.store.audit.iterate()]
    assert kinds.count("code-revived") == 1
    await device.app.close()
    device = await kit.device()
    assert plate_failures(device) == 0
    await opened(device, PRINTED)
    await paired(kit.caller(device), LabelledDevice(device, bearer.label, bearer.printed), PRINTED)


async def test_without_a_daemon_as_well_and_without_a_label_it_says_so(device: Device) -> None:
    with pytest.raises(AppError, match="no label"):
        await call(device.app.paths.socket, "label-revive", {})
    labelled(device)
    kill_the_code(device)
    places = device.app.paths
    await device.app.close()
    assert offline.OfflineConsole(places, warn=print).run(Console.label_revive) == {"revived": True}
    with closing(Store.open(places.store)) as store:
        stored: Any = store.attempts[LABEL_RECORD]
        assert stored["failures"] == 0


# -- an owner's window ----------------------------------------------------------------------------


async def test_an_owners_window_does_not_care_what_strangers_used_up(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """During a back-off and with a disabled code no one can pair at the device, and the window
    that an owner opens remotely pairs its user by each method, the printed code included."""
    bearer = labelled(device)
    for way in (Method.CODE, Method.SAS, PRINTED):
        kill_the_code(device, blocked_seconds=3600)
        await device.closed()
        await device.open(role="user")
        refused = await (await Run.of(kit.caller(device), bearer, way)).start()
        assert (refused.code, refused.reason) == ("4.29", "locked-out")
        assert device.app.status()["window"]["blocked_seconds"] > 3000
        await device.closed()
        await from_afar(owner)
        assert "blocked_seconds" not in device.app.status()["window"]
        await paired(kit.caller(device), bearer, way, name=way)
        stored: Any = device.app.access.store.attempts["pairing"]
        assert stored["failures"] == 15, "the back-off is cleared at the device alone"
        assert device.app.pairing.seconds_blocked() > 3000
    assert set(device.users.users) == {"olga", Method.CODE, Method.SAS, PRINTED}


async def test_what_fails_in_an_owners_window_ends_that_window_and_nothing_else(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """As often as strangers like: each window has its three, and the next is a fresh one."""
    bearer = labelled(device)
    before = device.app.access.store.attempts
    for _ in range(5):
        await from_afar(owner)
        mallory = kit.caller(device)
        for left in (2, 1, 0):
            assert (await wrong(mallory, bearer)).reason == "wrong-code"
            assert device.app.pairing.is_open is (left > 0)
        await mallory.close()
        await device.closed()
    assert device.app.access.store.attempts == before
    assert device.app.pairing.budget.failures == 0
    await from_afar(owner)
    await paired(kit.caller(device), bearer, PRINTED)


async def test_whoever_keeps_the_window_open_brings_the_attempts(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """A window that is blocked gets attempts when an owner extends it, and the console's extension
    takes it back to the device's count."""
    bearer = labelled(device)
    kill_the_code(device, blocked_seconds=3600)
    await device.open(role="user")
    run = await Run.of(kit.caller(device), bearer, Method.SAS)
    assert (await run.start()).reason == "locked-out"
    await from_afar(owner)
    run = await Run.of(run.caller, bearer, Method.SAS)
    assert (await run.start()).code == "2.01"
    await run.caller.pair_ask("DELETE", run.path)
    assert device.app.pairing.budget.failures == 15
    await device.open(role="user")
    again = await Run.of(run.caller, bearer, Method.SAS)
    assert (await again.start()).reason == "locked-out"


async def test_a_board_without_a_display_takes_its_dead_code_in_an_owners_window(kit: Kit) -> None:
    device = await kit.device(hardware=Hardware(display=False))
    owner = kit.known(device, "olga", "owner")
    bearer = labelled(device)
    kill_the_code(device)
    await device.open(role="user")
    assert device.app.status()["window"]["methods"] == ["label", "compare"]
    await device.closed()
    assert (await from_afar(owner)).body["methods"] == ["label", "code", "compare"]
    await paired(kit.caller(device), bearer, PRINTED)
