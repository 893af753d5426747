"""The direct path and aiocoap's path send the same: two equal devices are compared.

The whole table of unusual messages is sent to both, and what hypothesis makes up. A message is sent
as CON and as NON, and then repeated.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiocoap.error import NotFound
from aiocoap.numbers.codes import Code
from aiocoap.resource import ObservableResource
from hypothesis import given, settings
from hypothesis import strategies as st

from device_app.modules.handlers import Application, handled
from device_app.resource_spec import ResourceSpec
from device_app.resources.plain_resource import PlainResource, in_text
from peer.identity import Identity
from peer.net.plain import Answer
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity
from tests.kit.encoded import (
    ACCEPT,
    BLOCK2,
    CON,
    CONTENT_FORMAT,
    DELETE,
    ETAG,
    GET,
    HOP_LIMIT,
    IF_MATCH,
    NO_RESPONSE,
    NON,
    OBSERVE,
    POST,
    SIZE2,
    URI_HOST,
    URI_PATH,
    URI_PORT,
    URI_QUERY,
    block,
    encoded,
    sent_as,
    uint,
)
from tests.kit.twins import TwinClient, Twins
from tests.kit.waiting import until
from tests.peer.net.unusual_combinations import COMBINATIONS
from tests.peer.net.unusual_messages import CRITICAL, ELECTIVE, ROWS

OWN_PATHS = ("hello", "iam/me", "iam/check", "iam/roles", "iam/policies", "board", "board/load")
CHECK_ONE = (URI_QUERY, b"action=Hello:Get")
TOKEN = b"\x07token"

#: Requests that take the direct path.
PLAIN = {
    **{f"GET of {path}": encoded(GET, path=path) for path in OWN_PATHS},
    "a token": encoded(GET, path="hello", token=TOKEN),
    "a long token": encoded(GET, path="hello", token=bytes(8)),
    "a trailing slash": encoded(GET, (URI_PATH, b"hello"), (URI_PATH, b"")),
    "a query": encoded(GET, (URI_QUERY, b"x"), (URI_QUERY, b""), path="hello"),
    "Accept that matches": encoded(GET, (ACCEPT, b""), path="hello"),
    "Accept in one byte": encoded(GET, (ACCEPT, b"\x3c"), path="iam/me"),
    "Accept with a leading zero": encoded(GET, (ACCEPT, b"\x00\x3c"), path="iam/me"),
    "a check": encoded(GET, CHECK_ONE, path="iam/check"),
    "a check of a user": encoded(GET, CHECK_ONE, (URI_QUERY, b"user=gustav"), path="iam/check"),
    "a check of no user": encoded(GET, CHECK_ONE, (URI_QUERY, b"user=nobody"), path="iam/check"),
    "a check of nothing": encoded(GET, (URI_QUERY, b"action=\xc3\xbc"), path="iam/check"),
    "a host": encoded(GET, (URI_HOST, b"kitchen"), path="hello"),
    "a host that is another": encoded(GET, (URI_HOST, b"example.org"), path="iam/me"),
    "a long host": encoded(GET, (URI_HOST, b"k" * 255), path="hello"),
    "a port": encoded(GET, (URI_PORT, b"\x16\x34"), path="hello"),
    "an empty port": encoded(GET, (URI_PORT, b""), path="hello"),
    "a port of all ones": encoded(GET, (URI_PORT, b"\xff\xff"), path="hello"),
    "a host and a port": encoded(
        GET, (URI_HOST, b"kitchen"), (URI_PORT, b"\x16\x34"), (ACCEPT, b""), path="hello"
    ),
    "a long query": encoded(GET, (URI_QUERY, b"x" * 255), path="hello"),
}
#: Requests that look like plain ones, and are aiocoap's.
ODD = {
    "no path": encoded(GET),
    "an empty segment": encoded(GET, (URI_PATH, b"")),
    "two trailing slashes": encoded(GET, (URI_PATH, b"hello"), (URI_PATH, b""), (URI_PATH, b"")),
    "a leading slash": encoded(GET, (URI_PATH, b""), (URI_PATH, b"hello")),
    "a percent-encoded path": encoded(GET, path="%68ello"),
    "a path with a dot": encoded(GET, path="./hello"),
    "a path with two dots": encoded(GET, path="iam/../hello"),
    "a path of another case": encoded(GET, path="Hello"),
    "a path that is not UTF-8": encoded(GET, (URI_PATH, b"hell\xff")),
    "a query that is not UTF-8": encoded(GET, (URI_QUERY, b"\xff"), path="hello"),
    "a path below": encoded(GET, path="hello/more"),
    "no such path": encoded(GET, path="nothing"),
    "Accept that does not match": encoded(GET, (ACCEPT, b"\x3c"), path="hello"),
    "Accept twice": encoded(GET, (ACCEPT, b""), (ACCEPT, b""), path="hello"),
    "Accept in three bytes": encoded(GET, (ACCEPT, bytes(3)), path="hello"),
    "a host twice": encoded(GET, (URI_HOST, b"a"), (URI_HOST, b"a"), path="hello"),
    "an empty host": encoded(GET, (URI_HOST, b""), path="hello"),
    "a host that is not UTF-8": encoded(GET, (URI_HOST, b"k\xe9"), path="hello"),
    "a port twice": encoded(GET, (URI_PORT, b"\x16"), (URI_PORT, b"\x16"), path="hello"),
    "a port in three bytes": encoded(GET, (URI_PORT, b"\0\x16\x34"), path="hello"),
    "a host and a block": encoded(GET, (URI_HOST, b"k"), (BLOCK2, block(0, szx=0)), path="hello"),
    "an ETag": encoded(GET, (ETAG, b"x"), path="hello"),
    "a critical option": encoded(GET, (CRITICAL, b""), path="hello"),
    "an elective option": encoded(GET, (ELECTIVE, b""), path="hello"),
    "Hop-Limit 0": encoded(GET, (HOP_LIMIT, b"\0"), path="hello"),
    "No-Response": encoded(GET, (NO_RESPONSE, b"\x02"), path="hello"),
    "a block": encoded(GET, (BLOCK2, block(0, szx=0)), path="hello"),
    "a later block": encoded(GET, (BLOCK2, block(1, szx=0)), path="hello"),
    "a size": encoded(GET, (SIZE2, b""), path="hello"),
    "a body": encoded(GET, path="hello", payload=b"body"),
    "a body with its format": encoded(GET, (CONTENT_FORMAT, b""), path="hello", payload=b"body"),
    "a format without a body": encoded(GET, (CONTENT_FORMAT, b""), path="hello"),
    "an answer in blocks": encoded(GET, path="big"),
    "a block of that answer": encoded(GET, (BLOCK2, block(1)), path="big"),
    "a handler that fails": encoded(GET, path="faulty"),
    "another method": encoded(POST, path="hello", payload=b"x"),
    "DELETE": encoded(DELETE, path="hello"),
    "a method that does not exist": encoded(31, path="hello"),
    "Observe on a resource that cannot be": encoded(GET, (OBSERVE, b""), path="hello"),
    "the end of no observation": encoded(GET, (OBSERVE, b"\x01"), path="hello", token=TOKEN),
    "a token that is too long": encoded(GET, path="hello", token=bytes(9)),
    "a payload marker without payload": encoded(GET, path="hello") + b"\xff",
    "more options than the limit": encoded(GET, *[(URI_QUERY, b"")] * 80, path="hello"),
    "longer options than the limit": encoded(GET, *[(URI_QUERY, bytes(250))] * 5, path="hello"),
}

LATER_BLOCKS = ("a later block", "a block of that answer")
"""Odd requests that are answered directly if the body is stored."""


class Computed(PlainResource, ObservableResource):
    """A resource of an application, whose answer is that of a function."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def answer(self, _query: tuple[str, ...], _sender: PeerIdentity, /) -> Answer:
        answer: Answer = self.call()
        return answer


def failing(error: BaseException) -> Any:
    """A function that raises an error."""

    def fail() -> Answer:
        raise error

    return fail


@pytest.fixture
async def owner(twins: Twins) -> AsyncIterator[TwinClient]:
    identity = Identity.create()
    twins.add_user("olga", "owner", identity)
    twins.add_user("gustav", "guest", Identity.create())
    client = await twins.client(identity)
    yield client
    await client.close()


async def test_plain_requests_take_the_direct_path_and_get_the_same_answers(
    twins: Twins, owner: TwinClient
) -> None:
    for number, (name, message) in enumerate(PLAIN.items()):
        for kind in (CON, NON):
            twins.answers.clear()
            sent = sent_as(message, kind, number)
            [answer] = await owner.exchange(sent)
            assert twins.answers == [answer], name
            repeated = await owner.exchange(sent, sent)
            assert repeated == ([answer] * 2 if kind == CON else []), name
            assert twins.answers == [answer], "a repeat is not answered again"
    assert twins.events()[0] == twins.events()[1]


@pytest.mark.parametrize("who", ["an owner", "a guest", "an unknown key"])
async def test_odd_requests_get_the_same_answers(twins: Twins, owner: TwinClient, who: str) -> None:
    identity = Identity.create()
    if who == "a guest":
        twins.add_user("gerda", "guest", identity)
    client = owner if who == "an owner" else await twins.client(identity)
    for number, (name, message) in enumerate({**ODD, **PLAIN}.items()):
        for kind in (CON, NON):
            twins.answers.clear()
            sent = sent_as(message, kind, number)
            first = await client.exchange(sent)
            assert await client.exchange(sent) == (first if kind == CON else []), name
            assert name in (*PLAIN, *LATER_BLOCKS) or not twins.answers, name
            assert who != "an unknown key" or not twins.answers, name
    assert twins.events()[0] == twins.events()[1]
    await client.close()


async def test_each_unusual_message_gets_the_same_answer(twins: Twins, owner: TwinClient) -> None:
    number = 0
    for row in (ROWS | COMBINATIONS).values():
        for message in (*row.before, *(sent_as(row.message, kind, 0) for kind in row.reactions)):
            number += 1
            await owner.exchange(sent_as(message, message[0] >> 4 & 3, number))
    assert twins.answers
    assert twins.events()[0] == twins.events()[1]


OPTIONS = st.lists(
    st.one_of(
        st.tuples(st.just(URI_PATH), st.sampled_from([b"", b"hello", b"iam", b"me", b"\xff"])),
        st.tuples(
            st.sampled_from([URI_HOST, URI_PORT, URI_QUERY, ACCEPT, OBSERVE, ETAG, BLOCK2]),
            st.binary(max_size=4),
        ),
        st.tuples(st.integers(0, 300), st.binary(max_size=3)),
    ),
    max_size=5,
)
PATHS = st.sampled_from(["", "hello", "iam/me", "echo", "big", "board/load", "nothing"])
PLAIN_OPTIONS = st.lists(st.tuples(st.just(URI_QUERY), st.text(max_size=3).map(str.encode)))
MADE_UP = st.builds(
    lambda options, path, token, payload: encoded(
        GET, *options, path=path, token=token, payload=payload
    ),
    OPTIONS,
    PATHS,
    st.binary(max_size=9),
    st.sampled_from([b"", b"", b"", b"body"]),
) | st.builds(
    lambda options, path, token: encoded(GET, *options, path=path, token=token),
    PLAIN_OPTIONS,
    PATHS,
    st.binary(max_size=8),
)


async def test_made_up_requests_get_the_same_answers(twins: Twins, owner: TwinClient) -> None:
    """The messages come from hypothesis; they go over one session, some at a time."""
    made: list[bytes] = []

    @settings(max_examples=300, database=None, derandomize=True)
    @given(MADE_UP, st.sampled_from([CON, NON]))
    def make(message: bytes, kind: int) -> None:
        made.append(sent_as(message, kind, len(made) + 1))

    make()
    for message in made:
        await owner.exchange(message)
    assert len(twins.answers) > 10
    assert twins.events()[0] == twins.events()[1]


async def test_requests_beside_an_observation_get_the_same_answers(
    twins: Twins, owner: TwinClient
) -> None:
    """A request with the token of an observation or of a running request is left to aiocoap."""
    observe = encoded(GET, (OBSERVE, b""), path="board", token=TOKEN)
    await owner.exchange(sent_as(observe, CON, 1))
    twins.answers.clear()
    await owner.exchange(sent_as(encoded(GET, path="hello", token=TOKEN), CON, 2))
    assert not twins.answers, "the token is that of an observation"
    await owner.exchange(sent_as(encoded(GET, path="hello", token=b"other"), CON, 3))
    assert len(twins.answers) == 1
    stop = encoded(GET, (OBSERVE, uint(1)), path="board", token=TOKEN)
    await owner.exchange(sent_as(stop, CON, 4))
    await owner.exchange(sent_as(encoded(GET, path="hello", token=TOKEN), CON, 5))
    assert len(twins.answers) == 2


async def test_resources_of_applications_get_the_same_answers(
    twins: Twins, owner: TwinClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Those with `answer` take the direct path, and a fault is logged as on the other one."""
    wrong: Any = (Answer(b"x", -1), Answer(b"x", 1 << 16), Answer(b"x", 0, -1), "text", None)
    resources: dict[str, Any] = {
        "door": Computed(lambda: in_text("closed")),
        "long": Computed(lambda: Answer(bytes(5000), 42)),
        "refusing": Computed(failing(NotFound("no door"))),
        "optional": Computed(failing(ProblemError("bad-option", "no", "no"))),
        "exiting": Computed(failing(SystemExit(3))),
        "rooms": Computed(lambda: in_text("closed")),
        **{f"wrong{number}": Computed(lambda one=one: one) for number, one in enumerate(wrong)},
    }
    for device in twins.devices:
        for name, resource in resources.items():
            own = (lambda _request: {"Door:Room": "hall"}) if name == "rooms" else None
            spec = ResourceSpec(f"/{name}", resource, {"GET": "Hello:Get"}, attributes=own)
            made = Application(spec, module="my_doors", file=None)
            device.app.site.add((name,), handled(made), is_conditional=True)
            attributes = made.attributes if own else None
            device.app.guard.rules.add((name,), spec.actions, own=attributes)
    for number, name in enumerate(resources):
        twins.answers.clear()
        await owner.exchange(sent_as(encoded(GET, path=name), CON, number))
        assert len(twins.answers) == (name in ("door", "refusing", "optional")), name
        await owner.exchange(sent_as(encoded(GET, path=name), NON, 50 + number))
        observe = encoded(GET, (OBSERVE, b""), path=name, token=b"%d" % number)
        await owner.exchange(sent_as(observe, NON, 100 + number))
        await owner.exchange(sent_as(encoded(GET, (IF_MATCH, b""), path=name), NON, 200 + number))
    faults = [one.message for one in caplog.records if "which is logged once" in one.message]
    assert len(faults) == 2 * (1 + len(wrong)), faults


async def test_revocation_ends_both_paths(twins: Twins) -> None:
    olga, identity = Identity.create(), Identity.create()
    twins.add_user("olga", "owner", olga)
    twins.add_user("gustav", "guest", identity)
    client = await twins.client(identity)
    hello = encoded(GET, path="hello")
    assert len(await client.exchange(sent_as(hello, CON, 1))) == 1
    for device in twins.devices:
        device.app.access.registry.remove_user(None, "gustav")
    await until(lambda: not any(raw.is_open for raw in client.raws))
    again = await twins.client(identity)
    twins.answers.clear()
    [refusal] = await again.exchange(sent_as(hello, CON, 1))
    assert (Code(refusal[1]), twins.answers) == (Code.FORBIDDEN, [])
    await again.close()
