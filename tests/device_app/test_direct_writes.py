"""PUT, POST and DELETE on the direct path: the same answers and the same effect as aiocoap's path.

Two equal devices are compared, as in `test_direct_path`. After each message, both ledgers have to
hold the same entries: a write that is made twice, or is left out, shows there.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiocoap
import pytest
from aiocoap import error as coap_error
from aiocoap.numbers.codes import Code
from hypothesis import given, settings
from hypothesis import strategies as st

from device_app.modules.handlers import Application, handled
from device_app.resource_spec import ResourceSpec
from device_app.resources.plain_resource import PlainWrites
from peer.identity import Identity
from peer.net.plain import Done, Write
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity
from tests.kit.encoded import (
    ACCEPT,
    BLOCK1,
    CON,
    CONTENT_FORMAT,
    DELETE,
    ETAG,
    FETCH,
    GET,
    IF_MATCH,
    IF_NONE_MATCH,
    NO_RESPONSE,
    NON,
    OBSERVE,
    PATCH,
    POST,
    PUT,
    URI_HOST,
    URI_PATH,
    URI_PORT,
    URI_QUERY,
    block,
    encoded,
    sent_as,
)
from tests.kit.twins import TwinClient, Twins
from tests.peer.net.unusual_messages import CRITICAL, ELECTIVE

TOKEN = b"\x07token"


def asks(query: str) -> bytes:
    """A PUT with a query that lets it fail."""
    return encoded(PUT, (URI_QUERY, query.encode()), path="ledger", payload=b"x")


class Silent(ProblemError):
    """An error that its client does not want to know."""

    def to_message(self) -> aiocoap.Message:
        message = super().to_message()
        message.opt.no_response = 8  # no 4.xx
        return message


class Wordless(coap_error.RenderableError):
    """An error without a message."""

    def to_message(self) -> aiocoap.Message:
        raise LookupError("no words")


class Huge(ProblemError):
    """An error whose options fit no datagram."""

    def to_message(self) -> aiocoap.Message:
        message = super().to_message()
        message.opt.location_path = ("x" * 255,) * 6
        return message


FAILURES: dict[str, BaseException] = {
    "conflict": ProblemError("taken", "the name is taken", "Choose another name."),
    "long": ProblemError("taken", "x" * 5000, "y" * 5000),
    "option": ProblemError("bad-option", "no", "no"),
    "silent": Silent("denied", "no", "no"),
    "wordless": Wordless(),
    "huge": Huge("denied", "no", "no"),
    "later": coap_error.BadRequest("later"),
    "program": ZeroDivisionError("an error of the program"),
}

#: Requests that take the direct path.
PLAIN = {
    "PUT": encoded(PUT, path="ledger", payload=b"on"),
    "POST": encoded(POST, path="ledger", payload=b"one more"),
    "DELETE": encoded(DELETE, path="ledger"),
    "PUT without a body": encoded(PUT, path="ledger"),
    "a token": encoded(PUT, path="ledger", token=TOKEN, payload=b"t"),
    "a long token": encoded(DELETE, path="ledger", token=bytes(8)),
    "queries": encoded(POST, (URI_QUERY, b"x=1"), (URI_QUERY, b""), path="ledger", payload=b"q"),
    "a trailing slash": encoded(PUT, (URI_PATH, b"ledger"), (URI_PATH, b""), payload=b"s"),
    "a host and a port": encoded(
        PUT, (URI_HOST, b"kitchen"), (URI_PORT, b"\x16\x34"), path="ledger", payload=b"h"
    ),
    "a body of markers": encoded(PUT, path="ledger", payload=b"\xff\xff"),
    "a body that looks like an option": encoded(POST, path="ledger", payload=b"\xb5hello"),
    "a long body": encoded(PUT, path="ledger", payload=b"x" * 1024),
    "a format": encoded(PUT, (CONTENT_FORMAT, b""), path="ledger", payload=b"f"),
    "a format in one byte": encoded(POST, (CONTENT_FORMAT, b"\x3c"), path="ledger", payload=b"f"),
    "a format in two bytes": encoded(
        PUT, (CONTENT_FORMAT, b"\x2d\x16"), path="ledger", payload=b"f"
    ),
    "a format without a body": encoded(DELETE, (CONTENT_FORMAT, b"\x3c"), path="ledger"),
    **{f"an error: {name}": asks(name) for name in FAILURES},
}
#: Requests that look like plain ones, and are aiocoap's.
ODD = {
    "a format twice": encoded(
        PUT, (CONTENT_FORMAT, b""), (CONTENT_FORMAT, b""), path="ledger", payload=b"f"
    ),
    "a format that is too long": encoded(PUT, (CONTENT_FORMAT, bytes(3)), path="ledger"),
    "Accept": encoded(PUT, (ACCEPT, b""), path="ledger", payload=b"a"),
    "If-Match of anything": encoded(PUT, (IF_MATCH, b""), path="ledger", payload=b"m"),
    "If-Match of another": encoded(PUT, (IF_MATCH, b"other"), path="ledger", payload=b"m"),
    "If-None-Match": encoded(POST, (IF_NONE_MATCH, b""), path="ledger", payload=b"n"),
    "If-Match with DELETE": encoded(DELETE, (IF_MATCH, b"other"), path="ledger"),
    "DELETE with a body": encoded(DELETE, path="ledger", payload=b"d"),
    "an ETag": encoded(PUT, (ETAG, b"x"), path="ledger", payload=b"e"),
    "Observe": encoded(PUT, (OBSERVE, b""), path="ledger", payload=b"o"),
    "No-Response": encoded(PUT, (NO_RESPONSE, b"\x02"), path="ledger", payload=b"r"),
    "a critical option": encoded(PUT, (CRITICAL, b""), path="ledger", payload=b"c"),
    "an elective option": encoded(POST, (ELECTIVE, b""), path="ledger", payload=b"e"),
    "a first block": encoded(
        PUT, (BLOCK1, block(0, more=True, szx=0)), path="ledger", payload=b"0123456789abcdef"
    ),
    "the last block": encoded(PUT, (BLOCK1, block(1, szx=0)), path="ledger", payload=b"end"),
    "a path that is not UTF-8": encoded(PUT, (URI_PATH, b"ledg\xff"), payload=b"x"),
    "a query that is not UTF-8": encoded(PUT, (URI_QUERY, b"\xff"), path="ledger", payload=b"x"),
    "a path below": encoded(PUT, path="ledger/more", payload=b"x"),
    "another path": encoded(PUT, path="nothing", payload=b"x"),
    "a resource without it": encoded(PUT, path="hello", payload=b"x"),
    "a handler of aiocoap": encoded(POST, path="echo", payload=b"x"),
    "FETCH": encoded(FETCH, path="ledger", payload=b"x"),
    "PATCH": encoded(PATCH, path="ledger", payload=b"x"),
    "a host twice": encoded(PUT, (URI_HOST, b"a"), (URI_HOST, b"b"), path="ledger"),
    "a port with the byte of a marker": encoded(
        PUT, (URI_PORT, b"\xff\x34"), path="ledger", payload=b"p"
    ),
    "a marker without a body": encoded(PUT, path="ledger") + b"\xff",
    "a token that is too long": encoded(PUT, path="ledger", token=bytes(9), payload=b"x"),
    "too many options": encoded(PUT, *[(URI_QUERY, b"")] * 80, path="ledger", payload=b"x"),
}


@pytest.fixture
def twins(twins: Twins) -> Twins:
    """The two devices, with the failures that their ledgers are asked for."""
    for ledger in twins.ledgers():
        ledger.failures.update(FAILURES)
    return twins


@pytest.fixture
async def owner(twins: Twins) -> AsyncIterator[TwinClient]:
    identity = Identity.create()
    twins.add_user("olga", "owner", identity)
    client = await twins.client(identity)
    yield client
    await client.close()


def written(twins: Twins) -> int:
    """The number of writes that both devices have made in the same order."""
    direct, other = twins.ledgers()
    assert direct.entries == other.entries
    return len(direct.entries)


async def test_plain_writes_take_the_direct_path_and_are_made_once(
    twins: Twins, owner: TwinClient
) -> None:
    for number, (name, message) in enumerate(PLAIN.items()):
        for kind in (CON, NON):
            twins.answers.clear()
            before = written(twins)
            sent = sent_as(message, kind, number)
            first = await owner.exchange(sent)
            assert twins.answers in ([first[0]] if first else [b""], first), name
            assert len(twins.answers) == 1, name
            assert await owner.exchange(sent, sent) == (first * 2 if kind == CON else []), name
            assert written(twins) == before + 1, name
            assert len(twins.answers) == 1, "a repeat is not answered again"
    assert twins.events()[0] == twins.events()[1]


@pytest.mark.parametrize("who", ["an owner", "a guest", "an unknown key"])
async def test_odd_writes_get_the_same_answers_and_are_made_once(
    twins: Twins, owner: TwinClient, who: str
) -> None:
    identity = Identity.create()
    if who == "a guest":
        twins.add_user("gerda", "guest", identity)
    client = owner if who == "an owner" else await twins.client(identity)
    for number, (name, message) in enumerate({**ODD, **PLAIN}.items()):
        for kind in (CON, NON):
            twins.answers.clear()
            sent = sent_as(message, kind, number)
            first = await client.exchange(sent)
            before = written(twins)
            assert await client.exchange(sent) == (first if kind == CON else []), name
            assert written(twins) == before, name
            assert (who == "an owner" and name in PLAIN) == bool(twins.answers), name
    assert who == "an owner" or not written(twins)
    assert twins.events()[0] == twins.events()[1]
    await client.close()


OPTIONS = st.lists(
    st.one_of(
        st.tuples(st.just(URI_PATH), st.sampled_from([b"", b"ledger", b"\xff"])),
        st.tuples(
            st.sampled_from([URI_QUERY, ACCEPT, CONTENT_FORMAT, IF_MATCH, OBSERVE, BLOCK1]),
            st.binary(max_size=3),
        ),
        st.tuples(st.integers(0, 300), st.binary(max_size=3)),
    ),
    max_size=3,
)
QUERIES = st.lists(
    st.tuples(st.just(URI_QUERY), st.sampled_from([*map(str.encode, FAILURES), b"", b"x"])),
    max_size=2,
)
MADE_UP = st.builds(
    lambda method, options, path, token, payload: encoded(
        method, *options, path=path, token=token, payload=payload
    ),
    st.sampled_from([GET, PUT, POST, DELETE, PUT, POST]),
    OPTIONS | QUERIES,
    st.sampled_from(["ledger", "ledger", "ledger", "echo", "hello", "nothing", ""]),
    st.binary(max_size=9),
    st.sampled_from([b"", b"body", b"\xff"]) | st.binary(max_size=30),
)


async def test_made_up_writes_have_the_same_effect(twins: Twins, owner: TwinClient) -> None:
    made: list[bytes] = []

    @settings(max_examples=300, database=None, derandomize=True)
    @given(MADE_UP, st.sampled_from([CON, NON]))
    def make(message: bytes, kind: int) -> None:
        made.append(sent_as(message, kind, len(made) + 1))

    make()
    for message in made:
        await owner.exchange(message)
        written(twins)
    assert len(twins.answers) > 30
    assert twins.events()[0] == twins.events()[1]


async def test_a_write_does_not_overtake_one_that_aiocoap_has(
    twins: Twins, owner: TwinClient
) -> None:
    """Both come in one datagram, and so in one turn of the event loop; aiocoap's waits for one."""
    first = encoded(PUT, (ELECTIVE, b""), path="ledger", token=b"1", payload=b"first")
    second = encoded(PUT, path="ledger", token=b"2", payload=b"second")
    for raw in owner.raws:
        raw.send_datagram(raw.sealed(sent_as(first, CON, 1)) + raw.sealed(sent_as(second, CON, 2)))
        await raw.until(2)
    await owner.exchange(sent_as(encoded(GET, path="ledger"), CON, 3))
    assert written(twins) == 2
    assert ["first" in one for one in twins.ledgers()[0].entries] == [True, False]
    await owner.exchange(sent_as(second, CON, 4))
    assert len(twins.answers) == 2, "the GET and the last PUT"


async def test_a_get_does_not_overtake_a_write_that_aiocoap_has(
    twins: Twins, owner: TwinClient
) -> None:
    """It answers with what the write has set, as if aiocoap had both."""
    write = encoded(PUT, (ELECTIVE, b""), path="ledger", token=b"1", payload=b"first")
    read = sent_as(encoded(GET, path="ledger", token=b"2"), CON, 2)
    for raw in owner.raws:
        raw.send_datagram(raw.sealed(sent_as(write, CON, 1)) + raw.sealed(read))
        _, answer = await raw.until(2)
        assert answer.payload == b"PUT () b'first' None"
    assert not twins.answers
    await owner.exchange(sent_as(read, CON, 3))
    assert len(twins.answers) == 1, "nothing is under way any more"


async def test_a_write_notifies_after_its_answer(twins: Twins, owner: TwinClient) -> None:
    observe = encoded(GET, (OBSERVE, b""), path="ledger", token=TOKEN)
    await owner.exchange(sent_as(observe, NON, 1))
    twins.answers.clear()
    answer, notification = await owner.exchange(sent_as(PLAIN["PUT"], CON, 2))
    assert twins.answers == [answer]
    assert b"PUT () b'on' None" in notification
    twins.answers.clear()
    same_token = encoded(PUT, path="ledger", token=TOKEN, payload=b"on")
    await owner.exchange(sent_as(same_token, CON, 3))
    assert not twins.answers, "the token is that of an observation"


class Switch(PlainWrites):
    """A resource of an application without GET; what it does is that of a function."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def answer_put(self, _write: Write, _sender: PeerIdentity, /) -> Done:
        done: Done = self.call()
        return done


def failing(error: BaseException, calls: list[str]) -> Any:
    """A function that notes its call and raises an error."""

    def fail() -> Done:
        calls.append(type(error).__name__)
        raise error

    return fail


async def test_writes_of_applications_get_the_same_answers(
    twins: Twins, owner: TwinClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault is logged once, answered with 5.00, and its handler is called once."""
    calls: list[str] = []
    resources: dict[str, Any] = {
        "switch": Switch(lambda: Done.CHANGED),
        "wrong": Switch(lambda: "on"),
        "nothing": Switch(lambda: None),
        "exiting": Switch(failing(SystemExit(3), calls)),
        "failing": Switch(failing(KeyError("x"), calls)),
        "refusing": Switch(failing(coap_error.NotFound("no switch"), calls)),
        "rooms": Switch(lambda: Done.CHANGED),
    }
    for device in twins.devices:
        for name, resource in resources.items():
            own = (lambda _request: {"Door:Room": "hall"}) if name == "rooms" else None
            spec = ResourceSpec(f"/{name}", resource, {"PUT": "Hello:Get"}, attributes=own)
            made = Application(spec, module="my_switches", file=None)
            device.app.site.add((name,), handled(made), is_conditional=True)
            attributes = made.attributes if own else None
            device.app.guard.rules.add((name,), spec.actions, own=attributes)
    for number, name in enumerate(resources):
        twins.answers.clear()
        sent = sent_as(encoded(PUT, path=name), CON, number)
        [first] = await owner.exchange(sent)
        assert len(twins.answers) == (name != "rooms"), name
        assert await owner.exchange(sent) == [first]
        odd = encoded(PUT, (ELECTIVE, b""), path=name, payload=b"x")
        await owner.exchange(sent_as(odd, NON, 100 + number))
        await owner.exchange(sent_as(encoded(PUT, (IF_MATCH, b""), path=name), CON, 200 + number))
    assert sorted(calls) == ["KeyError"] * 4 + ["NotFound"] * 4 + ["SystemExit"] * 4
    faults = [one.message for one in caplog.records if "which is logged once" in one.message]
    assert len(faults) == 2 * 4, faults


async def test_a_write_that_ends_its_task_is_answered_and_made_once(
    twins: Twins, owner: TwinClient
) -> None:
    """On the direct path there is no task to end: without an answer, the client would repeat it."""
    direct, _ = twins.ledgers()
    direct.failures["cancel"] = asyncio.CancelledError()
    raw = owner.raws[0]
    for _ in range(2):
        raw.send(sent_as(asks("cancel"), CON, 1))
    assert {one.code for one in await raw.until(2)} == {Code.INTERNAL_SERVER_ERROR}
    assert len(direct.entries) == 1
