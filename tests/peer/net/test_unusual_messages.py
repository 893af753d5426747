"""Unusual messages over a real session: each gets the reaction that its RFC asks for."""

import asyncio
from collections import Counter
from itertools import product
from typing import Any

import aiocoap
import aiocoap.resource
import pytest
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.numbers.types import Type

from peer.errors import Unreachable
from peer.limits import Limits
from peer.net.aiocoap_seam import managers
from peer.net.client import CoapsClient
from peer.net.preconditions import PRECONDITIONS, require_preconditions
from tests.kit.encoded import (
    ACK,
    BLOCK2,
    CON,
    CONTENT_FORMAT,
    ETAG,
    GET,
    IF_MATCH,
    OBSERVE,
    POST,
    PUT,
    block,
    encoded,
    sent_as,
)
from tests.kit.internals import messages_of, site_of
from tests.kit.raw_client import RawClient
from tests.kit.waiting import TIMEOUT_SECONDS, until
from tests.peer.net.unusual_combinations import COMBINATIONS
from tests.peer.net.unusual_messages import BIG, MOST_BODY, NOTHING, RESET, ROWS, SLOT, Row

_CRITICAL = 65_001
KINDS = ("CON", "NON", "ACK", "RST")


class Echo(aiocoap.resource.Resource):
    """GET has an answer in text, POST returns the body."""

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=b"here", content_format=0)

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=request.payload)


class Big(aiocoap.resource.Resource):
    """An answer of several blocks."""

    body = BIG

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=self.body, content_format=0)


class Slot(aiocoap.resource.Resource):
    """It handles preconditions, about one representation."""

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=SLOT)

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        require_preconditions(request, aiocoap.Message(payload=SLOT))
        return aiocoap.Message()


async def reaction_to(raw: RawClient, row: Row, kind: int) -> aiocoap.Message | None:
    """Send the messages of a row; return what the server sends after the last one."""
    for count, message in enumerate(row.before, start=1):
        raw.send(sent_as(message, CON, 0x100 * (kind + 1) + count))
        await raw.until(count)
    raw.received.clear()
    raw.send(sent_as(row.message, kind, 0x100 * (kind + 1)))
    await raw.handled()
    if row.reactions[kind] != NOTHING:
        await raw.until(1)
    await raw.handled()
    assert len(raw.received) < 2, raw.received
    return raw.received[0] if raw.received else None


def seen(answer: aiocoap.Message | None) -> str:
    """A reaction in the notation of the table."""
    if answer is None:
        return NOTHING
    return RESET if answer.mtype is aiocoap.RST else str(answer.code.dotted)


@pytest.mark.parametrize("name", ROWS)
async def test_each_unusual_message_gets_its_reaction(
    serve: Any, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    await check_reactions(await unusual_server(serve), name, ROWS[name])
    assert not caplog.records, "something was logged with a traceback"


async def test_each_unusual_combination_gets_its_reaction(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    served = await unusual_server(serve)
    for name, row in COMBINATIONS.items():
        await check_reactions(served, name, row)
    assert not caplog.records, "something was logged with a traceback"


async def unusual_server(serve: Any) -> Any:
    """Start a server with the resources of the tables, and with time for many sessions."""
    served = await serve(limits=Limits(request_body_bytes=MOST_BODY, handshake_burst=1000))
    site = site_of(served.server)
    site.remove(("echo",))
    site.add(("echo",), Echo())
    site.add(("big",), Big())
    site.add(("slot",), Slot(), options=PRECONDITIONS)
    return served


async def check_reactions(served: Any, name: str, row: Row) -> None:
    """Send the message of a row as each of its types, on a session of its own."""
    for kind in row.reactions:
        raw = await RawClient.connect(served.address)
        answer = await reaction_to(raw, row, kind)
        context = (name, KINDS[kind])
        assert seen(answer) == row.reactions[kind], context
        if answer is not None and kind in (CON, ACK):
            assert answer.mid == 0x100 * (kind + 1), context
        for number, value in row.has.items():
            assert answer is not None
            found = [one.encode() for one in answer.opt.get_option(OptionNumber(number))]
            assert found, (*context, number)
            assert value in (None, found[0]), (*context, number)
        assert raw.is_open, context
        await raw.close()


# -- sequences -------------------------------------------------------------------------------------


def options_of(answer: aiocoap.Message, number: int) -> list[bytes]:
    return [one.encode() for one in answer.opt.get_option(OptionNumber(number))]


async def ask(raw: RawClient, number: int, message: bytes) -> aiocoap.Message:
    """Send a confirmable request; return the next message."""
    raw.received.clear()
    raw.send(sent_as(message, CON, number))
    return (await raw.until(1))[0]


async def test_a_known_representation_is_not_sent_again(serve: Any) -> None:
    """RFC 7252 §5.10.6.2. The tags of a large representation are the same in all its blocks."""
    served = await serve()
    site_of(served.server).add(("big",), big := Big())
    raw = await RawClient.connect(served.address)
    first = await ask(raw, 1, encoded(GET, path="big"))
    last = await ask(raw, 2, encoded(GET, (BLOCK2, block(2)), path="big"))
    (tag,) = options_of(first, ETAG)
    assert options_of(last, ETAG) == [tag]
    known = await ask(raw, 3, encoded(GET, (ETAG, b"other"), (ETAG, tag), path="big"))
    assert (known.code, known.payload, options_of(known, ETAG)) == (Code.VALID, b"", [tag])
    assert not options_of(known, BLOCK2)
    assert not options_of(known, CONTENT_FORMAT)
    big.body = BIG[::-1]
    changed = await ask(raw, 4, encoded(GET, (ETAG, tag), path="big"))
    assert (changed.code, changed.payload) == (Code.CONTENT, big.body[:1024])
    assert options_of(changed, ETAG) != [tag]
    await raw.close()


async def test_a_client_can_make_sure_that_it_changes_what_it_read(serve: Any) -> None:
    """RFC 7252 §5.10.8.1."""
    served = await serve()
    site_of(served.server).add(("slot",), Slot(), options=PRECONDITIONS)
    raw = await RawClient.connect(served.address)
    (tag,) = options_of(await ask(raw, 1, encoded(GET, path="slot")), ETAG)
    matching = encoded(PUT, (IF_MATCH, b"other"), (IF_MATCH, tag), path="slot")
    assert (await ask(raw, 2, matching)).code is Code.CHANGED
    await raw.close()


async def test_a_request_is_acknowledged_before_another_one_with_its_token(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 7252 §4.2: each confirmable message is acknowledged or reset."""
    monkeypatch.setattr(managers, "EMPTY_ACK_SECONDS", 3600.0)
    monkeypatch.setattr(managers, "PARALLEL_EMPTY_ACK_SECONDS", 3600.0)
    served = await serve()
    raw = await RawClient.connect(served.address)
    for number in (1, 2):
        raw.send(sent_as(encoded(GET, path="late", token=b"t"), CON, number))
        await until(lambda: served.late.asked == number)  # noqa: B023
    served.late.due.set()
    received = await raw.until(2)
    assert [(one.mtype, one.mid, one.payload) for one in received] == [
        (Type.ACK, 1, b""),
        (Type.ACK, 2, b"better late"),
    ]
    await raw.close()


async def test_a_request_for_a_later_block_observes_nothing(serve: Any) -> None:
    """RFC 7959 §2.6: blocks after the first one are requested without Observe."""
    served = await serve(value_text="{}" + "x" * 2000)
    raw = await RawClient.connect(served.address)
    later = encoded(GET, (OBSERVE, b""), (BLOCK2, block(1)), path="value", token=b"t")
    answer = await ask(raw, 1, later)
    assert answer.payload == b"x" * 977
    assert not options_of(answer, OBSERVE)
    assert served.value.watchers.empty()
    await raw.close()


async def test_an_observation_ends_if_the_content_format_changes(serve: Any) -> None:
    """RFC 7641 §4.2."""
    served = await serve()
    formats = iter((0, 0, 60, 60))

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=b"now", content_format=next(formats))

    served.value.render_get = render_get
    raw = await RawClient.connect(served.address)
    registered = await ask(raw, 1, encoded(GET, (OBSERVE, b""), path="value", token=b"t"))
    assert options_of(registered, OBSERVE)
    for number, code in ((1, Code.CONTENT), (2, Code.NOT_ACCEPTABLE)):
        raw.received.clear()
        served.value.set(number)
        (notified,) = await raw.until(1)
        raw.acknowledge(notified.mid)
        await raw.handled()
        assert notified.code is code
        assert bool(options_of(notified, OBSERVE)) is (code is Code.CONTENT)
    assert [await served.value.watchers.get() for _ in range(2)] == [1, 0]
    await raw.close()


@pytest.mark.parametrize("resource", ["echo", "late"], ids=["piggybacked", "separate"])
async def test_a_response_with_an_unknown_critical_option_fails_its_request(
    serve: Any, caller: CoapsClient, resource: str
) -> None:
    """RFC 7252 §5.4.1. The request ends at once, and the session serves the next one."""
    served = await serve()

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        if resource == "late":
            await served.late.due.wait()
        answer = aiocoap.Message(payload=b"?")
        answer.opt.add_option(OptionNumber(_CRITICAL).create_option(decode=b"?"))
        return answer

    served.echo.render_get = render_get
    acknowledged, messages = asyncio.Event(), messages_of(served.server)
    acknowledge = messages._send_empty_ack

    def acknowledge_and_tell(*arguments: Any, **options: Any) -> None:
        acknowledge(*arguments, **options)
        acknowledged.set()

    messages._send_empty_ack = acknowledge_and_tell
    connection = await caller.connect(served.address, pinned=None)
    asking = asyncio.create_task(
        connection.request(aiocoap.Message(code=Code.GET, uri_path=("echo",)))
    )
    if resource == "late":
        await asyncio.wait_for(acknowledged.wait(), TIMEOUT_SECONDS)
    served.late.due.set()
    with pytest.raises(Unreachable, match=f"critical option {_CRITICAL}"):
        await asking
    assert (
        await connection.request(aiocoap.Message(code=Code.POST, uri_path=("echo",)))
    ).code is Code.CHANGED


async def test_no_value_of_an_option_is_an_error_of_the_server(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Each known option with values of several lengths, once and twice, gets one reaction."""
    served = await serve(limits=Limits(request_body_bytes=MOST_BODY))
    site = site_of(served.server)
    site.add(("big",), Big())
    site.add(("slot",), Slot(), options=PRECONDITIONS)
    raw = await RawClient.connect(served.address)
    numbers = [int(number) for number in OptionNumber._value2member_map_ if number < 1000]
    bodies = [
        b"",
        b"\x00",
        b"\x07",
        b"\xff",
        b"\xff\xff\xff",
        b"\x00" * 4,
        b"\xff" * 5,
        b"\xc3" * 41,
    ]
    reactions = Counter[str]()
    for count, (number, value, (method, path), times) in enumerate(
        product(numbers, bodies, ((GET, "big"), (POST, "echo"), (PUT, "slot")), (1, 2))
    ):
        answer = await ask(
            raw, count, encoded(method, *[(number, value)] * times, path=path, payload=b"x")
        )
        assert answer.mid == count
        reactions[answer.code.dotted] += 1
        raw.received.clear()
    assert set(reactions) <= {
        *("0.00", "2.03", "2.04", "2.05", "2.31"),  # 0.00: No-Response
        *("4.00", "4.02", "4.04", "4.06", "4.08", "4.12", "4.13", "5.05"),
    }
    assert not caplog.records
    await raw.close()
