"""Unusual requests to a device: the table of `peer`, and what its own resources answer."""

import sys
from pathlib import Path
from typing import Any

import pytest
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import Type

from device_app.errors import ModuleError
from peer.net.address import Address
from peer.net.problem import error_of
from tests.kit.device import Caller, Device, Kit
from tests.kit.encoded import CON, IF_MATCH, PUT, encoded, sent_as
from tests.kit.lamps import policy
from tests.kit.raw_client import RawClient
from tests.kit.serve import HOST
from tests.peer.net.unusual_combinations import COMBINATIONS
from tests.peer.net.unusual_messages import ROWS

MODULE = """
from aiocoap import Message
from aiocoap.error import NotFound
from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.resource import ObservableResource, Resource

from device_app.resource_spec import ResourceSpec
from peer.net.preconditions import PRECONDITIONS, require_preconditions


class Lamp(ObservableResource):
    rt = None
    if_ = ["sensor", "actuator"]
    ct = ContentFormat.TEXT
    state = b"off"

    async def render_get(self, request):
        return Message(payload=self.state, content_format=0)

    async def render_put(self, request):
        require_preconditions(request, await self.render_get(request))
        self.state = request.payload
        return Message()


class Plain(Resource):
    state = None
    called = 0

    async def render_get(self, request):
        if self.state is None:
            raise NotFound
        return Message(payload=self.state)

    async def render_put(self, request):
        Plain.called += 1
        self.state = request.payload
        return Message()


class Odd(Resource):
    rt = 7
    ct = None

    async def render_get(self, request):
        return Message(payload=b"x" * 3000)


def resources(board):
    yield ResourceSpec(
        "/lamp", Lamp(), actions={"GET": "Lamp:Read", "PUT": "Lamp:Set"}, options=PRECONDITIONS
    )
    yield ResourceSpec(
        "/plain", Plain(), actions={"GET": "Plain:Read", "PUT": "Plain:Set"}
    )
    yield ResourceSpec("/blind", Plain(), actions={"PUT": "Plain:Set"})
    yield ResourceSpec("/o dd/ü>", Odd(), actions={"GET": "Odd:Read"})
"""


@pytest.fixture
async def board(kit: Kit) -> Device:
    """A device with two resources of an application."""
    write(kit.home, MODULE)
    return await kit.device(modules=("my_odd_resources",))


def write(home: Path, text: str) -> None:
    """Write the module, and forget the one of an earlier test."""
    sys.modules.pop("my_odd_resources", None)
    (home / "modules").mkdir(parents=True, exist_ok=True)
    (home / "modules" / "my_odd_resources.py").write_text(text, encoding="utf-8")


async def raw_client(device: Device, caller: Caller, *, pairing: bool) -> RawClient:
    return await RawClient.connect(Address(HOST, device.port(pairing=pairing)), caller.identity)


@pytest.mark.parametrize("who", ["an owner", "an unknown key", "an unknown key, to pair"])
async def test_each_unusual_message_gets_one_reaction_from_a_device(
    kit: Kit, board: Device, caplog: pytest.LogCaptureFixture, who: str
) -> None:
    pairing = who.endswith("to pair")
    await board.open()
    caller = kit.known(board, "olga", "owner") if who == "an owner" else kit.caller(board)
    raw = await raw_client(board, caller, pairing=pairing)
    unanswered, failed = set(), {}
    for number, (name, row) in enumerate((ROWS | COMBINATIONS).items()):
        kind = min(row.reactions)
        raw.send(sent_as(row.message, kind, number))
        await raw.handled()
        if row.reactions[kind] not in ("-", "0.00"):
            (answer,) = await raw.until(1)
            if answer.code >= Code.INTERNAL_SERVER_ERROR and answer.code.dotted != "5.05":
                failed[name] = answer.code.dotted
            assert answer.mid == number
        raw.received.clear()
        if row.reactions[kind] == "RST" and answer.mtype is not Type.RST:
            unanswered.add(name)
    assert (unanswered, failed) == (set(), {})
    assert raw.is_open
    assert not [record for record in caplog.records if record.exc_info]
    await raw.close()


async def test_an_unknown_key_learns_nothing_by_preconditions(kit: Kit, board: Device) -> None:
    """Only a resource knows whether it handles them, and an unknown key gets no such answer."""
    raw = await raw_client(board, kit.caller(board), pairing=False)
    for number, path in enumerate(("lamp", "hello", "nowhere")):
        raw.received.clear()
        raw.send(sent_as(encoded(PUT, (IF_MATCH, b"x"), path=path), CON, number))
        (answer,) = await raw.until(1)
        assert answer.code.dotted == "4.03", path
    await raw.close()


async def test_preconditions_reach_a_resource_that_handles_them(kit: Kit, board: Device) -> None:
    owner = kit.known(board, "olga", "owner")
    tag = (await owner.ask("GET", "/lamp")).message.opt.etag
    assert tag
    set_it: dict[str, Any] = {"raw": b"on", "ct": 0}
    assert (await owner.ask("PUT", "/lamp", **set_it, options={1: tag})).code == "2.04"
    stale = await owner.ask("PUT", "/lamp", **set_it, options={1: tag})
    assert (stale.code, stale.reason) == ("4.12", "precondition-failed")
    assert (await owner.ask("PUT", "/lamp", **set_it, options={5: b""})).code == "4.12"
    assert (await owner.ask("GET", "/hello", options={1: tag})).reason == "bad-option"
    assert (await owner.ask("GET", "/o dd/ü>", options={5: b""})).code == "4.12"


async def test_preconditions_are_compared_with_the_answer_to_a_get(kit: Kit, board: Device) -> None:
    """For a resource that does not handle them itself; a large body is checked at its end."""
    owner = kit.known(board, "olga", "owner")
    for code in ("2.04", "4.12"):
        created = await owner.ask("PUT", "/plain", raw=b"a" * 3000, ct=0, options={5: b""})
        assert created.code == code
    tag = (await owner.ask("GET", "/plain")).message.opt.etag
    assert tag
    for code in ("2.04", "4.12"):
        changed = await owner.ask("PUT", "/plain", raw=b"b" * 3000, ct=0, options={1: tag})
        assert changed.code == code
    assert (await owner.ask("GET", "/plain")).payload == b"b" * 3000
    assert (await owner.ask("PUT", "/plain", raw=b"c", options={1: b""})).code == "2.04"
    assert (await owner.ask("GET", "/plain", options={1: tag})).code == "4.12"
    assert (await owner.ask("POST", "/plain", options={1: b""})).code == "4.05"


async def test_preconditions_need_a_get_and_the_right_to_it(kit: Kit) -> None:
    kit.policy(policy("blind", "Allow Plain:Set"))
    write(kit.home, MODULE)
    board = await kit.device(modules=("my_odd_resources",))
    blind = kit.known(board, "bob", "blind")
    assert (await blind.ask("PUT", "/plain", raw=b"a")).code == "2.04"
    guess = await blind.ask("PUT", "/plain", raw=b"b", options={1: b"guess"})
    assert (guess.code, guess.reason) == ("4.03", "denied")
    without_get = await blind.ask("PUT", "/blind", raw=b"b", options={1: b"guess"})
    assert (without_get.code, without_get.reason) == ("4.02", "bad-option")


async def test_links_to_resources_with_attributes_of_any_type_are_valid(
    kit: Kit, board: Device
) -> None:
    owner = kit.known(board, "olga", "owner")

    async def links(query: str = "") -> list[str]:
        answer = await owner.ask("GET", f"/.well-known/core?{query}")
        assert answer.message.opt.content_format == 40
        return sorted(answer.payload.decode().split(","))

    assert await links("href=/lamp") == ['</lamp>;ct="0";if="sensor actuator";obs']
    assert await links("href=/o*") == ['</o%20dd/%C3%BC%3E>;rt="7"']
    typed = await links("rt=*")
    assert all(";rt=" in link for link in typed)
    assert "</hello>" in " ".join(typed)
    assert "</lamp>" not in " ".join(typed)
    assert (await owner.ask("GET", "/.well-known/core", accept=60)).code == "4.06"


async def test_an_answer_is_fresh_for_the_moment_and_validated_by_its_tag(
    kit: Kit, board: Device
) -> None:
    owner = kit.known(board, "olga", "owner")
    for path in ("/hello", "/iam/me", "/iam/users", "/events", "/.well-known/core"):
        answer = (await owner.ask("GET", path)).message
        assert answer.opt.max_age == 0, path
        assert answer.opt.etag, path
    assert (await owner.ask("GET", "/board")).message.opt.max_age == 1  # a part of a second
    tag = (await owner.ask("GET", "/hello")).message.opt.etag
    assert tag
    known = (await owner.ask("GET", "/hello", options={4: tag})).message
    assert (known.code.dotted, known.payload, known.opt.etag) == ("2.03", b"", tag)
    async for first in owner.observe("/lamp"):
        assert first.message.opt.max_age is None
        break


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("'/x', Odd(), {'GET': 'X:Get'}, options=(4,)", "not numbers of critical options"),
        ("'/x', Odd(), {'GET': 'X:Get'}, options=('If-Match',)", "not numbers of critical"),
        ("'/x/../y', Odd(), {'GET': 'X:Get'}", "no request can name"),
        ("'/' + 'x' * 256, Odd(), {'GET': 'X:Get'}", "no request can name"),
        ("'/\\ud800', Odd(), {'GET': 'X:Get'}", "no request can name"),
    ],
)
async def test_a_resource_that_no_request_could_use_prevents_the_start(
    kit: Kit, spec: str, why: str
) -> None:
    write(
        kit.home,
        MODULE.partition("def resources")[0] + f"resources = lambda board: [ResourceSpec({spec})]",
    )
    with pytest.raises(ModuleError, match=why):
        await kit.device(modules=("my_odd_resources",))


async def test_a_refusal_names_the_method_and_where_the_resources_are_listed(
    kit: Kit, board: Device
) -> None:
    """A method without a name has its number. The pairing port has no `/.well-known/core`."""
    owner = kit.known(board, "olga", "owner")
    await board.open()
    for caller, pairing, where in (
        (owner, False, "/.well-known/core"),
        (kit.caller(board), True, "/pair"),
    ):
        raw = await raw_client(board, caller, pairing=pairing)
        for number, (code, path, what) in enumerate(
            ((31, "pair" if pairing else "plain", "0.31"), (1, "nowhere", "no such resource"))
        ):
            raw.received.clear()
            raw.send(sent_as(encoded(code, path=path), CON, number))
            error = error_of((await raw.until(1))[0])
            assert error is not None
            assert what in str(error)
            if number:
                assert where in error.advice
        await raw.close()
