"""Users and honest clients of each pairing method.

A `Run` is one ceremony of a caller, step by step, with the client's side from `peer.pairing`.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client_app import Client
from client_app.pairing.ceremony import Comparison
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
from peer.pairing.sides import ClientSide, RandomBytes, Session, Terms
from peer.pairing.typed import TypedCode
from tests.kit.adverts import no_adverts

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller, Device, Kit

HOST = "127.0.0.1"
PRINTED = "printed"
WAYS = (Method.LABEL, Method.CODE, PRINTED, Method.SAS, Method.COMPARE, Method.BUTTON)
"""The methods, with printed and displayed codes as separate ways."""

Change = Callable[[dict[str, Any]], dict[str, Any]]
Confirm = Callable[[Comparison], Awaitable[bool]]


def method_of(way: str) -> str:
    return Method.CODE if way == PRINTED else way


# -- the device's user, and the secrets of the label ----------------------------------------------


@dataclass(frozen=True)
class LabelledDevice:
    """A device with a label, and the secrets printed on the label."""

    device: Device
    label: Label
    printed: str

    @property
    def shown(self) -> str:
        """The code on its display."""
        return self.device.app.pairing.methods.shown_code

    def code_for(self, way: str) -> str:
        """The right code for a way of pairing, or empty."""
        return {Method.CODE: self.shown, PRINTED: self.printed}.get(way, "")

    def wrong_code_for(self, way: str) -> str:
        """A wrong code of the same kind."""
        return other_code(self.code_for(way))


def other_code(text: str) -> str:
    """Another code of the same kind."""
    right = TypedCode.parse_untrusted(text)
    while (other := _drawn(right)) == right:
        pass
    return other.text


def _drawn(like: TypedCode) -> TypedCode:
    return (TypedCode.printed if like.is_printed else TypedCode.shown)(secrets.token_bytes)


def add_label(device: Device) -> LabelledDevice:
    """Make a label, as the console of the device does."""
    service = device.app.pairing
    label, words = labels.made(device.app.access, device.fingerprint, replace=True)
    service.methods.replace_label(label)
    text = words["label"]
    return LabelledDevice(device, Label.parse_untrusted(text["text"]), text["code"])


async def open_window(device: Device, way: str, *, role: str = "user") -> None:
    """Open a window that offers the way; for the button, as if it had been pressed."""
    await device.closed()
    pressed = way == Method.BUTTON
    await device.open(role=role, pressed=pressed, clears_backoff=True)


# -- an honest client, step by step ---------------------------------------------------------------


def client_side_of(
    way: str,
    session: Session,
    *,
    code: str = "",
    label: Label | None = None,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> ClientSide:
    """The client's side for a way of pairing."""
    if way in {Method.CODE, PRINTED}:
        return CodeClient(session, TypedCode.parse_untrusted(code), random_bytes)
    if way == Method.LABEL:
        assert label is not None
        return LabelClient(session, label)
    if way == Method.SAS:
        return SasClient(random_bytes)
    return ButtonClient() if way == Method.BUTTON else CompareClient()


async def session_of(caller: Caller) -> Session:
    peer = (await caller.connect(pairing=True)).peer
    return Session(peer.exporter, caller.identity.fingerprint, peer.fingerprint)


class Run:
    """One ceremony of one caller. Each step returns the device's answer, whatever it is."""

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
        cls,
        caller: Caller,
        labelled_device: LabelledDevice,
        way: str,
        *,
        code: str = "",
        name: str = "anna",
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> Run:
        session = await session_of(caller)
        code = code or labelled_device.code_for(way)
        side = client_side_of(
            way, session, code=code, label=labelled_device.label, random_bytes=random_bytes
        )
        return cls(caller, session, side, name)

    @property
    def path(self) -> str:
        return f"/pair/{self.id}"

    async def start(self, **more: object) -> Answer:
        """Send the first message, and read the answer if a ceremony started."""
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
        """Send the second message, if the method has one."""
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

    async def run_to_decision(self) -> Answer:
        """Send the messages up to the user's decision; return the answer to the start."""
        started = await self.start()
        if started.code == "2.01":
            await self.exchange()
        return started

    async def run_to_end(self, device: Device) -> Answer:
        """Run the complete ceremony, with the device's user accepting; return the last answer."""
        started = await self.run_to_decision()
        if started.code != "2.01":
            return started
        if device.app.pairing.ceremonies.pending() is not None:
            device.decide(accept=True)
        done = await self.confirm()
        if done.code == "2.04":
            self.side.verify_untrusted(done.body)
        return done


async def paired(
    caller: Caller, labelled_device: LabelledDevice, way: str, *, name: str = "anna"
) -> Run:
    """A successful ceremony."""
    run = await Run.of(caller, labelled_device, way, name=name)
    done = await run.run_to_end(labelled_device.device)
    assert done.code == "2.04", done.body
    return run


# -- both users -----------------------------------------------------------------------------------


Seen = list[tuple[object, object]]


def both_users(device: Device, *, careful: bool) -> tuple[Confirm, Seen]:
    """The users of both sides, and what each of them saw.

    Careful users compare and accept only equal values; the others accept anything.
    """
    seen: Seen = []

    async def confirm(question: Comparison) -> bool:
        await device.until(lambda: device.app.pairing.ceremonies.pending() is not None)
        pending = device.pending()
        here: object = question.number or (question.device, question.own)
        there: object = pending.number or (device.fingerprint, pending.fingerprint)
        seen.append((here, there))
        yes = here == there or not careful
        device.decide(accept=yes)
        return yes

    return confirm, seen


async def asked_in_error(*_args: object) -> bool:
    raise AssertionError("no user should have been asked")


def client_at(kit: Kit, home: Path, *, limits: Limits = DEFAULT_LIMITS) -> Client:
    client = Client(home=home / "client", look=no_adverts, limits=limits)
    kit.at_end(client.close)
    return client
