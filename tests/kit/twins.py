"""Two equal devices, of which one answers plain requests without aiocoap and the other does not.

They have the same key, the same users and clocks that stand still. Each datagram goes to both,
and what both send is compared.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import copy
from typing import Any, Self

import pytest
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import Type
from aiocoap.resource import ObservableResource

from device_app.access.clock import SystemClocks
from device_app.resources.board import Readings
from device_app.resources.plain_resource import PlainResource, in_text
from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address
from peer.net.outline import outline_untrusted
from peer.net.plain import Answer, Done, Write
from peer.net.remote import PeerIdentity
from peer.net.server import CoapsServer
from tests.kit.device import Device, Kit
from tests.kit.encoded import OBSERVE
from tests.kit.internals import count_direct_answers, messages_of, remotes_of, replace_readings
from tests.kit.raw_client import RawClient
from tests.kit.serve import HOST
from tests.kit.waiting import until

_READINGS = Readings((0.5, 0.25, 0.125), 40.5, 1000.0, 1 << 30)


class Echo(PlainResource):
    """GET has an answer in text, POST returns the body."""

    ct = 0

    def answer(self, query: tuple[str, ...], _sender: PeerIdentity, /) -> Answer:
        return in_text(" ".join(("here", *query)))

    async def render_post(self, request: Any) -> Any:
        return type(request)(code=Code.CHANGED, payload=request.payload)


class Big(PlainResource):
    """An answer of several blocks."""

    def answer(self, _query: tuple[str, ...], _sender: PeerIdentity, /) -> Answer:
        return in_text("big " * 700)


class Ledger(PlainResource, ObservableResource):
    """Keeps all writes in their order. Some queries let a write fail after it was noted."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[str] = []
        self.failures: dict[str, BaseException] = {}

    def answer(self, _query: tuple[str, ...], _sender: PeerIdentity, /) -> Answer:
        return in_text("; ".join(self.entries[-8:]))

    def answer_put(self, write: Write, _sender: PeerIdentity, /) -> Done:
        return self._note("PUT", write, Done.CHANGED)

    def answer_post(self, write: Write, _sender: PeerIdentity, /) -> Done:
        return self._note("POST", write, Done.CREATED)

    def answer_delete(self, write: Write, _sender: PeerIdentity, /) -> Done:
        return self._note("DELETE", write, Done.DELETED)

    def _note(self, method: str, write: Write, done: Done) -> Done:
        self.entries.append(f"{method} {write.query} {write.payload!r} {write.content_format}")
        self.updated_state()
        for query in write.query:
            if query in self.failures:
                raise self.failures[query]
        return done


class Faulty(PlainResource):
    """A handler with an error of the program."""

    def answer(self, query: tuple[str, ...], _sender: PeerIdentity, /) -> Answer:
        return in_text(query[7])


@dataclass
class Twins:
    """The two devices: `direct` and `other`."""

    direct: Device
    other: Device
    #: The answers that the direct path has sent.
    answers: list[bytes] = field(default_factory=list)

    @classmethod
    async def start(cls, homes: Path, at_end: Any, *, limits: Limits, **settings: Any) -> Self:
        """Start both. `at_end` closes what was started."""
        clocks = SystemClocks(lambda: 2e9, lambda: 5.0, "b")
        devices: list[Device] = []
        for name in ("direct", "other"):
            kit = Kit(homes / name, limits=limits)
            at_end(kit.close)
            if devices:
                kit.home.mkdir()
                copy(homes / "direct" / "device-key.pem", kit.home / "device-key.pem")
            with pytest.MonkeyPatch.context() as patch:
                if devices:
                    start = partial(CoapsServer.start, is_direct=False)
                    patch.setattr(CoapsServer, "start", start)
                devices.append(await kit.device(clocks=clocks, **settings))
        direct, other = devices
        for device in devices:
            cls.prepare(device)
            messages_of(device.app.server).message_id = 0  # and not that of a ping
        return cls(direct, other, count_direct_answers(direct.app.server))

    @staticmethod
    def prepare(device: Device) -> None:
        """Add some resources, and let the board's readings stand still."""
        site, rules = device.app.site, device.app.guard.rules
        for name, resource in (("echo", Echo()), ("big", Big()), ("faulty", Faulty())):
            site.add((name,), resource)
            rules.add((name,), {"GET": "Hello:Get", "POST": "Hello:Get"})
        site.add(("ledger",), Ledger(), is_conditional=True)
        writes = dict.fromkeys(("PUT", "POST", "DELETE"), "Iam:SetUser")
        rules.add(("ledger",), {"GET": "Hello:Get", **writes})
        replace_readings(site, _READINGS)

    @property
    def devices(self) -> Iterator[Device]:
        yield from (self.direct, self.other)

    def add_user(self, name: str, role: str, identity: Identity, **fields: Any) -> None:
        for device in self.devices:
            device.add_user(name, role, identity, **fields)

    async def client(self, identity: Identity | None = None) -> "TwinClient":
        """Open a session of one key with each device."""
        identity = identity or Identity.create()
        raws = [
            await RawClient.connect(Address(HOST, device.port(pairing=False)), identity)
            for device in self.devices
        ]
        return TwinClient(self, raws)

    def ledgers(self) -> list[Ledger]:
        """The resource at `/ledger` of each device."""
        found = [device.app.site.find(("ledger",))[1] for device in self.devices]
        return [one for one in found if isinstance(one, Ledger)]

    def events(self) -> list[list[tuple[object, ...]]]:
        """The events of both devices, without ports and times."""
        return [
            [
                (one.event.kind, one.event.actor, one.event.action, one.event.result)
                for one in device.app.access.store.audit.iterate()
            ]
            for device in self.devices
        ]


@dataclass
class TwinClient:
    """One key, with a session with each device."""

    twins: Twins
    raws: list[RawClient]

    async def exchange(self, *messages: bytes) -> list[bytes]:
        """Send messages to both devices; return what the direct one sent, if both sent the same."""
        heard = []
        for raw, device in zip(self.raws, self.twins.devices, strict=True):
            raw.encoded.clear()
            for message in messages:
                raw.send(message)
            await raw.handled()
            remotes = remotes_of(device.app.server)
            await until(lambda: not any(one.under_way for one in remotes))  # noqa: B023
            if raw.is_open:
                await raw.handled()
            heard.append([one for one in raw.encoded if not is_pong(one)])
        found, wanted = (list(map(comparable, one)) for one in heard)
        assert found == wanted, (messages, found, wanted)
        return heard[0]

    async def close(self) -> None:
        for raw in self.raws:
            await raw.close()


def is_pong(message: bytes) -> bool:
    """Whether a message is the answer to a ping of `RawClient.handled`."""
    return message[1] == 0 and message[2] >= 0xF0


def comparable(message: bytes) -> object:
    """A message without what may differ: Message IDs of a device's own, and the value of Observe.

    Both are counters of the whole device.
    """
    if message[0] >> 4 & 3 in (Type.NON, Type.CON):
        message = message[:2] + b"\0\0" + message[4:]
    found = outline_untrusted(message, DEFAULT_LIMITS)
    for number, start, end in found.options:
        if number == OBSERVE:
            return message[: start - 1], message[end:]
    return message
