"""ETSI's test descriptions for observations (OBS)."""

import aiocoap
from aiocoap.numbers.types import Type

from tests.interop.etsi_cases import read_in_blocks
from tests.interop.etsi_checker import Checker, case, values
from tests.kit.encoded import (
    BLOCK2,
    CON,
    CONTENT_FORMAT,
    DELETE,
    GET,
    OBSERVE,
    PUT,
    Option,
    block,
    encoded,
    sent_as,
)
from tests.kit.plugtest import LARGE
from tests.kit.waiting import until


@case("OBS_01", "OBS_09")
async def _observation(checker: Checker) -> None:
    number = int.from_bytes(values(await checker.observe(), OBSERVE)[0])
    for body in (b"second", b"third"):
        checker.raw.received.clear()
        checker.observed.change(body)
        notified = await checker.notified()
        assert (notified.code.dotted, notified.payload) == ("2.05", body)
        assert values(notified, CONTENT_FORMAT) == [b""]
        (later,) = values(notified, OBSERVE)
        assert 0 < (int.from_bytes(later) - number) % (1 << 24) < 1 << 23
        number = int.from_bytes(later)


@case("OBS_04")
async def _registering_again(checker: Checker) -> None:
    """A client that heard nothing for Max-Age registers again under its token."""
    await checker.observe()
    await checker.observe()
    await until(lambda: checker.observed.observers == 1)
    checker.raw.received.clear()
    checker.observed.change(b"second")
    assert (await checker.notified()).payload == b"second"


@case("OBS_05", "OBS_11")
async def _client_off(checker: Checker) -> None:
    """Notifications are sent again with the newest state, one at a time, until the device stops."""
    await checker.observe()
    checker.raw.received.clear()
    checker.observed.change(b"second")
    await until(lambda: not checker.observed.observers)
    sent = [(one.mtype, one.payload) for one in checker.raw.received]
    assert len(sent) > 1
    assert set(sent) == {(Type.CON, b"second")}


@case("OBS_06")
async def _reset(checker: Checker) -> None:
    await checker.observe()
    checker.raw.received.clear()
    checker.observed.change(b"second")
    notified = await checker.notified(acknowledge=False)
    checker.raw.send(b"\x70\x00" + notified.mid.to_bytes(2))
    await until(lambda: not checker.observed.observers)


@case("OBS_07")
async def _deleted(checker: Checker) -> None:
    await checker.observe()
    assert (await _ask_beside(checker, DELETE)).code.dotted == "2.02"
    notified = await checker.notified()
    assert (notified.code.dotted, values(notified, OBSERVE)) == ("4.04", [])
    await until(lambda: not checker.observed.observers)


@case("OBS_08")
async def _another_format(checker: Checker) -> None:
    await checker.observe()
    changed = await _ask_beside(checker, PUT, (CONTENT_FORMAT, b"\x32"), payload=b"{}")
    assert changed.code.dotted == "2.04"
    notified = await checker.notified()
    assert (notified.code.dotted, values(notified, OBSERVE)) == ("4.06", [])
    await until(lambda: not checker.observed.observers)


async def _ask_beside(
    checker: Checker, method: int, *options: Option, payload: bytes = b""
) -> aiocoap.Message:
    """Send a request whose answer and a notification may come in any order."""
    checker.raw.received.clear()
    message = encoded(method, *options, path="obs", token=b"put", payload=payload)
    checker.raw.send(sent_as(message, CON, 500))
    received = await checker.raw.until(2)
    (answer,) = [one for one in received if one.token == b"put"]
    received.remove(answer)
    return answer


@case("OBS_10")
async def _get_beside(checker: Checker) -> None:
    await checker.observe()
    plain = await checker.ask(GET, "obs", token=b"other")
    assert (plain.payload, values(plain, OBSERVE)) == (b"first", [])
    checker.raw.received.clear()
    checker.observed.change(b"second")
    assert (await checker.notified()).payload == b"second"


@case("OBS_12")
async def _deregistered(checker: Checker) -> None:
    await checker.observe()
    ended = await checker.ask(GET, "obs", (OBSERVE, b"\x01"), token=b"obs")
    assert (ended.payload, values(ended, OBSERVE)) == (b"first", [])
    await until(lambda: not checker.observed.observers)


@case("OBS_13", "OBS_14")
async def _large_state(checker: Checker) -> None:
    """Notifications are small, or the first block of the state; a plain GET reads the others."""
    await checker.observe()
    for body in (LARGE, b"small", LARGE):
        checker.raw.received.clear()
        checker.observed.change(body)
        notified = await checker.notified()
        assert notified.payload == body[:1024]
        assert values(notified, BLOCK2) == ([block(0, more=True)] if len(body) > 1024 else [])
        if body is LARGE:
            await read_in_blocks(checker, 6, early=True, path="obs")
