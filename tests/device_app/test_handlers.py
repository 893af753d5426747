"""Handlers of an application: what they may return, how they fail, and how long they take."""

import asyncio
import logging
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.modules import handlers
from device_app.resource_spec import ResourceSpec
from tests.kit.device import Caller, Device, Kit

pytestmark = pytest.mark.usefixtures("clean_imports")

MODULE = """
import asyncio
import datetime
import sys

import aiocoap
from aiocoap.resource import ObservableResource, Resource
from device_app.resource_spec import ResourceSpec


class Any(ObservableResource):
    def __init__(self, text):
        super().__init__()
        self._code = compile(text, __file__, "eval")

    def answer(self):
        return eval(self._code)


class Plain(Any):
    def render_get(self, request):
        return self.answer()

    def render_put(self, request):
        return self.answer()

    def render_delete(self, request):
        return self.answer()


class Async(Any):
    async def render_get(self, request):
        await asyncio.sleep(0)
        return self.answer()

    render_put = render_delete = render_get


def fail():
    raise OSError("no GPIO")


def resources(board):
    actions = {"GET": "Any:Read", "PUT": "Any:Set", "DELETE": "Any:Set"}
    for number, text in enumerate(TEXTS):
        for kind in (Plain, Async):
            yield ResourceSpec(f"/{kind.__name__.lower()}/{number}", kind(text), actions)
    yield ResourceSpec("/told", Async("'x'"), actions, attributes=lambda request: fail())
"""

ANSWERS: list[tuple[str, tuple[int | None, Any]]] = [
    # what is returned → content format and body of the answer
    ("'hello'", (0, "hello")),
    ("'grüße'", (0, "grüße")),
    ("''", (0, "")),
    ("b'\\x00\\xff'", (42, b"\x00\xff")),
    ("bytearray(b'ab')", (42, b"ab")),
    ("{'t': 3}", (60, {"t": 3})),
    ("[1, 'a', None, True, 2.5]", (60, [1, "a", None, True, 2.5])),
    ("(1, 2)", (60, [1, 2])),
    ("7", (60, 7)),
    ("2.5", (60, 2.5)),
    ("True", (60, True)),
    ("aiocoap.Message(payload=b'on')", (None, "on")),
    ("aiocoap.Message(payload=b'{}', content_format=50)", (50, b"{}")),
]
FAULTS = [
    # what is returned → what the log says
    ("{1, 2}", "returned set"),
    ("object()", "returned object"),
    ("{'at': datetime.datetime.now()}", "CBOR cannot express"),
    ("{'x': object()}", "CBOR cannot express"),
    ("asyncio.sleep", "returned function"),
    ("(x for x in [1])", "returned generator"),
    ("aiocoap.Message(payload=7)", "a message whose payload is int"),
    ("aiocoap.Message(payload='on')", "a message whose payload is str"),
    ("aiocoap.Message(max_age='x')", "a message with a wrong option"),
    ("aiocoap.Message(code=aiocoap.GET)", "a message with the code GET"),
    ("fail()", "OSError: no GPIO"),
    ("1 / 0", "ZeroDivisionError"),
    ("sys.exit(2)", "ends the program"),
    ("open('/nothing/there')", "/nothing/there"),
]
TEXTS = [*(text for text, _ in ANSWERS), *(text for text, _ in FAULTS), "None"]
KINDS = ["plain", "async"]
NOTHING = len(TEXTS) - 1


@pytest.fixture
async def device(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Device:
    # A machine that pauses the process in a handler would have it named in the log.
    monkeypatch.setattr(handlers, "HOLDING_SECONDS", 3600.0)
    folder = kit.home / "modules"
    folder.mkdir(parents=True)
    texts = f"TEXTS = {TEXTS!r}\n"
    (folder / "my_answers.py").write_text(MODULE + texts, encoding="utf-8")
    return await kit.device(modules=("my_answers",))


@pytest.fixture
async def owner(kit: Kit, device: Device) -> Caller:
    return kit.known(device, "olga", "owner")


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= level and record.name != "asyncio"
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_handler_returns_becomes_the_answer(owner: Caller, kind: str) -> None:
    for number, (text, (content_format, body)) in enumerate(ANSWERS):
        answer = await owner.ask("GET", f"/{kind}/{number}")
        found = answer.message.opt.content_format
        assert (answer.code, found, answer.body) == ("2.05", content_format, body), text
        assert (await owner.ask("PUT", f"/{kind}/{number}")).code == "2.04"
        assert (await owner.ask("DELETE", f"/{kind}/{number}")).code == "2.02"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_is_logged_once_with_path_module_and_line(
    owner: Caller, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    for number, (text, why) in enumerate(FAULTS, start=len(ANSWERS)):
        caplog.clear()
        for _ in range(3):
            answer = await owner.ask("GET", f"/{kind}/{number}")
            assert (answer.code, answer.payload) == ("5.00", b""), text
        (line,) = said(caplog, logging.WARNING)
        for part in (f"GET /{kind}/{number}", "'my_answers'", "my_answers.py, line ", why):
            assert part in line
    assert (await owner.ask("GET", f"/{kind}/0")).body == "hello"


async def test_nothing_is_an_answer_to_a_change_only(
    owner: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in KINDS:
        assert (await owner.ask("PUT", f"/{kind}/{NOTHING}")).code == "2.04"
        assert (await owner.ask("DELETE", f"/{kind}/{NOTHING}")).code == "2.02"
        assert not said(caplog, logging.WARNING)
        assert (await owner.ask("GET", f"/{kind}/{NOTHING}")).code == "5.00"
        (line,) = said(caplog, logging.WARNING)
        assert "render_get returned nothing; return text, bytes" in line
        caplog.clear()


async def test_a_fault_of_attributes_is_logged_once(
    owner: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert (await owner.ask("GET", "/told")).code == "5.00"
    (line,) = said(caplog, logging.WARNING)
    assert "attributes /told of the module 'my_answers'" in line
    assert "OSError: no GPIO" in line


class Waits(Resource):
    """Its handlers hold the event loop for some seconds, by the clock of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def render_put(self, request: aiocoap.Message) -> None:
        self.now += float(request.payload)

    async def render_get(self, request: aiocoap.Message) -> str:
        for part in request.payload.split():
            self.now += float(part)
            await asyncio.sleep(0)
        return "done"


@pytest.mark.parametrize(
    ("code", "parts", "named"),
    [
        (Code.PUT, b"5", "PUT /waits of the module 'my_waits' stopped the whole device for 5.0 s"),
        (Code.GET, b"5", "GET /waits of the module 'my_waits' stopped the whole device for 5.0 s"),
        (Code.GET, b"0.09 0.2 0.09", "for 0.2 s"),
        (Code.GET, b"0.09 0.09 0.09 0.09", ""),
        (Code.PUT, b"0.09", ""),
    ],
)
async def test_a_handler_that_holds_the_loop_is_named_once(
    caplog: pytest.LogCaptureFixture, code: Code, parts: bytes, named: str
) -> None:
    waits = Waits()
    spec = ResourceSpec("/waits", waits, {"GET": "Waits:Read", "PUT": "Waits:Set"})
    one = handlers.Application(spec, module="my_waits", file=None, clock=lambda: waits.now)
    for _ in range(3):
        assert (await one.answer(aiocoap.Message(code=code, payload=parts))).code.is_successful()
    lines = said(caplog, logging.WARNING)
    assert len(lines) == bool(named)
    assert named in "".join(lines)


async def test_a_handler_can_be_cancelled_while_it_waits() -> None:
    ended = asyncio.Event()

    class Endless(Resource):
        async def render_get(self, _request: aiocoap.Message) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    spec = ResourceSpec("/endless", Endless(), {"GET": "Endless:Read"})
    one = handlers.Application(spec, module="my_endless", file=None)
    task = asyncio.create_task(one.answer(aiocoap.Message(code=Code.GET)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_an_observed_resource_may_return_a_value(owner: Caller) -> None:
    for path in ("/plain/5", "/async/5"):
        stream = owner.observe(path)
        assert (await anext(stream)).body == {"t": 3}
        await stream.aclose()
