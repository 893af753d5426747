"""Users and honest clients of each pairing method.

A `Run` is one ceremony of a caller, step by step, with the client's half of `peer.pairing`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client_app import Client
from client_app.client import Comparison
from device_app.pairing import labels
from peer.limits import DEFAULT_LIMITS, Limits
from peer.pairing.binding import Channel
from peer.pairing.button import ButtonClient
from peer.pairing.ceremony import Fields
from peer.pairing.code import CodeClient
from peer.pairing.compare import CompareClient
from peer.pairing.label import Label, LabelClient
from peer.pairing.methods import Method
from peer.pairing.sas import SasClient
from peer.pairing.sides import ClientSide, Session, Terms
from peer.pairing.typed import TypedCode

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller, Device, Kit

HOST = "127.0.0.1"
PRINTED = "printed"
WAYS = (Method.LABEL, Method.CODE, PRINTED, Method.SAS, Method.COMPARE, Method.BUTTON)
"""The methods, and a code that is printed apart from one that is shown."""

Change = Callable[[dict[str, Any]], dict[str, Any]]
Confirm = Callable[[Comparison], Awaitable[bool]]


def method_of(way: str) -> str:
    return Method.CODE if way == PRINTED else way


# -- the device's user, and what he has in hand ---------------------------------------------------


@dataclass(frozen=True)
class Bearer:
    """A device with a label, and what is printed on it."""

    device: Device
    label: Label
    printed: str

    @property
    def shown(self) -> str:
        """What its screen says now."""
        return self.device.app.pairing.methods.shown_code

    def code_for(self, way: str) -> str:
        """The right code for a way, or nothing."""
        return {Method.CODE: self.shown, PRINTED: self.printed}.get(way, "")

    def wrong_code_for(self, way: str) -> str:
        """A wrong one of the same kind."""
        return other_code(self.code_for(way))


def other_code(text: str) -> str:
    """Another code of the same kind."""
    right = TypedCode.parse_untrusted(text)
    while (other := _drawn(right)) == right:
        pass
    return other.text


def _drawn(like: TypedCode) -> TypedCode:
    return (TypedCode.printed if like.is_printed else TypedCode.shown)(secrets.token_bytes)


def labelled(device: Device) -> Bearer:
    """Make its label, as its console does."""
    service = device.app.pairing
    label, words = labels.made(device.app.access, device.fingerprint, replace=True)
    service.methods.replace_label(label)
    text = words["label"]
    return Bearer(device, Label.parse_untrusted(text["text"]), text["code"])


async def opened(device: Device, way: str, *, role: str = "user") -> None:
    """A window that offers the way; for the button, one that it opened."""
    await device.closed()
    pressed = way == Method.BUTTON
    await device.open(role=role, pressed=pressed, clears_backoff=True)


# -- an honest client, step by step ---------------------------------------------------------------


def half_of(
    way: str, session: Session, *, code: str = "", label: Label | None = None
) -> ClientSide:
    """The client's half of a way."""
    if way in {Method.CODE, PRINTED}:
        return CodeClient(session, TypedCode.parse_untrusted(code), secrets.token_bytes)
    if way == Method.LABEL:
        assert label is not None
        return LabelClient(session, label)
    if way == Method.SAS:
        return SasClient(secrets.token_bytes)
    return ButtonClient() if way == Method.BUTTON else CompareClient()


async def session_of(caller: Caller) -> Session:
    peer = (await caller.connect(pairing=True)).peer
    return Session(peer.exporter, caller.identity.fingerprint, peer.fingerprint)


class Run:
    """One ceremony of one caller. Each step gives the device's answer, whatever it is."""

    def __init__(self, caller: Caller, session: Session, side: ClientSide, name: str) -> None:
        self.caller = caller
        self.session = session
        self.side = side
        self.name = name
        self.id = ""
        self.message: Fields | None = None
        self.sent: list[dict[str, Any]] = []
        self.got: list[Answer] = []

    @classmethod
    async def of(
        cls, caller: Caller, bearer: Bearer, way: str, *, code: str = "", name: str = "anna"
    ) -> Run:
        session = await session_of(caller)
        code = code or bearer.code_for(way)
        return cls(caller, session, half_of(way, session, code=code, label=bearer.label), name)

    @property
    def path(self) -> str:
        return f"/pair/{self.id}"

    async def start(self, **more: object) -> Answer:
        """The first message; what comes back is read if it starts a ceremony."""
        body = {**self.side.begin(), "method": self.side.method, "name": self.name, **more}
        answer = await self._post("/pair", body)
        if answer.code == "2.01":
            self.id = answer.body["id"]
            channel = Channel(
                self.session.ekm, self.session.client, self.session.device, answer.body["window"]
            )
            terms = Terms(channel, answer.body["role"], self.name, self.id)
            self.message = self.side.started_untrusted(terms, answer.body)
        return answer

    async def exchange(self) -> Answer | None:
        """The second message, where there is one."""
        if self.message is None:
            return None
        answer = await self._post(self.path, dict(self.message))
        self.side.exchanged_untrusted(answer.body)
        return answer

    async def confirm(self, **changed: object) -> Answer:
        return await self._post(self.path, {**self.side.confirm(), **changed})

    async def _post(self, path: str, body: dict[str, Any]) -> Answer:
        self.sent.append(body)
        answer = await self.caller.pair_ask("POST", path, body)
        self.got.append(answer)
        return answer

    async def to_the_question(self) -> Answer:
        """Run until the device's user has accepted, if one is asked; the answer to the start."""
        started = await self.start()
        if started.code == "2.01":
            await self.exchange()
        return started

    async def through(self, device: Device) -> Answer:
        """All of it, with the device's user saying yes; the last answer."""
        started = await self.to_the_question()
        if started.code != "2.01":
            return started
        if device.app.pairing.ceremonies.pending() is not None:
            device.decide(accept=True)
        done = await self.confirm()
        if done.code == "2.04":
            self.side.verify_untrusted(done.body)
        return done


async def paired(caller: Caller, bearer: Bearer, way: str, *, name: str = "anna") -> Run:
    """One that goes well."""
    run = await Run.of(caller, bearer, way, name=name)
    done = await run.through(bearer.device)
    assert done.code == "2.04", done.body
    return run


# -- two people -----------------------------------------------------------------------------------


Looks = list[tuple[object, object]]


def two_people(device: Device, *, careful: bool) -> tuple[Confirm, Looks]:
    """The users of both sides, side by side; and what each of them saw.

    Careful ones compare and say yes to what is equal, the others say yes to anything.
    """
    looks: Looks = []

    async def confirm(question: Comparison) -> bool:
        await device.until(lambda: device.app.pairing.ceremonies.pending() is not None)
        pending = device.pending()
        here: object = question.number or (question.device, question.own)
        there: object = pending.number or (device.fingerprint, pending.fingerprint)
        looks.append((here, there))
        yes = here == there or not careful
        device.decide(accept=yes)
        return yes

    return confirm, looks


async def nobody(*_args: object) -> bool:
    raise AssertionError("no user should have been asked")


async def silence() -> AsyncIterator[Any]:
    """A LAN without any announcement."""
    for advert in list[Any]():
        yield advert


def client_at(kit: Kit, home: Path, *, limits: Limits = DEFAULT_LIMITS) -> Client:
    client = Client(home=home / "client", look=silence, limits=limits)
    kit.at_end(client.close)
    return client
