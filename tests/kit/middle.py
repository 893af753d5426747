"""A man in the middle of a pairing.

A `Middle` has a real DTLS session with each side and relays every message. An `MiddleImpostor` is a
complete device to the client and a complete client to the device.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import aiocoap
import aiocoap.resource
from aiocoap.numbers.codes import Code

from peer import cbor
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS
from peer.net.address import Address
from peer.net.admission import SessionPriority
from peer.net.client import CoapsClient
from peer.net.locality_verdict import LocalMode
from peer.net.onlink import Locality
from peer.net.remote import peer_of
from peer.net.server import CoapsServer
from peer.net.site import GuardedSite
from peer.pairing.binding import Channel
from peer.pairing.button import offer as offer_button
from peer.pairing.ceremony import Fields
from peer.pairing.code import offer as offer_code
from peer.pairing.compare import offer as offer_compare
from peer.pairing.errors import Mismatch
from peer.pairing.label import Label
from peer.pairing.label import offer as offer_label
from peer.pairing.methods import Method
from peer.pairing.sas import offer as offer_sas
from peer.pairing.sides import ClientSide, OfferedMethod, Session, Terms, bytes_field
from peer.pairing.typed import TypedCode
from tests.kit.methods import HOST, Change, method_of, open_window

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit


class Middle(aiocoap.resource.Resource):
    """`/pair` as the client sees it: every request is relayed to the device, and every answer back.

    Observations end here with the first state; the client then polls.
    """

    def __init__(self, identity: Identity, device: Address, change: Change) -> None:
        super().__init__()
        self.identity = identity
        self.relayed: list[tuple[str, bytes]] = []
        self.answers: list[tuple[str, bytes]] = []
        self._client = CoapsClient(identity)
        self._device = device
        self.change = change
        self.server: CoapsServer

    async def start(self) -> None:
        self.connection = await self._client.connect(self._device, pinned=None)
        site = GuardedSite(authorise=lambda *_: None, limits=DEFAULT_LIMITS)
        site.add(("pair",), self, takes_rest=True)
        self.server = await CoapsServer.start(
            site,
            identity=self.identity,
            listen=[(HOST, 0)],
            locality=Locality(mode=LocalMode.STRICT, allow_loopback=True),
            priority=lambda _key: SessionPriority.NORMAL,
            pairing=True,
        )

    def started(self) -> dict[str, Any]:
        """The device's answer to the start of its ceremony."""
        [body] = [body for code, body in self.answers if code == "2.01"]
        found = cbor.decode_untrusted(body)
        assert isinstance(found, dict)
        return found

    @property
    def address(self) -> str:
        return f"{HOST}:{self.server.port}"

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        return await self.relay(request)

    async def relay(self, request: aiocoap.Message) -> aiocoap.Message:
        onward = aiocoap.Message(code=request.code, payload=request.payload)
        onward.opt.uri_path = ("pair", *request.opt.uri_path)
        onward.opt.content_format = request.opt.content_format
        answer = await self.connection.request(onward, timeout=20)
        self.relayed.append((str(request.code), bytes(request.payload)))
        self.answers.append((answer.code.dotted, bytes(answer.payload)))
        payload = answer.payload
        if answer.opt.content_format == 60:
            payload = cbor.encode(self.change(cbor.decode_untrusted(payload)))  # type: ignore[arg-type]
        back = aiocoap.Message(code=answer.code, payload=payload)
        back.opt.content_format = answer.opt.content_format
        return back

    async def close(self) -> None:
        await self.server.close()
        await self._client.close()


def unchanged(body: dict[str, Any]) -> dict[str, Any]:
    return body


def without_key(body: dict[str, Any]) -> dict[str, Any]:
    """Remove the device's key from its offer; every other byte is passed on unchanged."""
    return body | ({"fingerprint": "", "id": ""} if "methods" in body else {})


def with_methods(*names: str) -> Change:
    """Remove the key, and offer other methods than the device."""

    def change(body: dict[str, Any]) -> dict[str, Any]:
        return without_key(body) | ({"methods": list(names)} if "methods" in body else {})

    return change


class Board(Protocol):
    """The device's side of an impostor."""

    def begin_untrusted(self, message: Fields, /) -> Fields: ...
    def exchange_untrusted(self, message: Fields, /) -> Fields: ...
    def check_untrusted(self, message: Fields, /) -> None: ...
    def device_tag(self) -> bytes: ...


class TokenCollector:
    """A device of the method `label` that accepts any token, and keeps it."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self.token = b""
        self._tag = b""

    def begin_untrusted(self, _message: Fields) -> Fields:
        return {}

    def exchange_untrusted(self, _message: Fields) -> Fields:
        raise AssertionError

    def check_untrusted(self, message: Fields) -> None:
        self.token = bytes_field(message, "token")
        own = Label(self._terms.channel.device, self.token)
        mine = offer_label(lambda: own.verifier).create_side(self._terms)
        mine.begin_untrusted({})
        mine.check_untrusted(message)
        self._tag = mine.device_tag()

    def device_tag(self) -> bytes:
        return self._tag


class MiddleImpostor(Middle):
    """A device to the client, through `board`, and a client to the device, through `half`.

    `half` is made as soon as the impostor knows enough: at the start of the ceremony, or for a
    label when it has the token. `has_device` and `has_client` tell which side it has deceived.
    """

    def __init__(
        self,
        identity: Identity,
        device: Address,
        *,
        method: str,
        board: Callable[[Terms, MiddleImpostor], Board],
        half: Callable[[Session, MiddleImpostor], ClientSide],
        change: Change = without_key,
    ) -> None:
        super().__init__(identity, device, change)
        self.method = method
        self.has_device = self.has_client = False
        self.code_mismatch: Mismatch | None = None
        self.terms: Terms
        self.board: Board
        self.half: ClientSide | None = None
        self.make_board, self.make_half = board, half

    @property
    def session(self) -> Session:
        peer = self.connection.peer
        return Session(peer.exporter, self.identity.fingerprint, peer.fingerprint)

    async def ask(self, path: Iterable[str], body: Fields) -> tuple[str, dict[str, Any]]:
        message = aiocoap.Message(code=Code.POST, payload=cbor.encode(dict(body)))
        message.opt.uri_path, message.opt.content_format = ("pair", *path), 60
        answer = await self.connection.request(message, timeout=20)
        self.answers.append((answer.code.dotted, bytes(answer.payload)))
        found = cbor.decode_untrusted(answer.payload)
        assert isinstance(found, dict)
        return answer.code.dotted, found

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        if request.code is not Code.POST:
            return await self.relay(request)
        body = cbor.decode_untrusted(request.payload)
        assert isinstance(body, dict)
        self.relayed.append((str(request.code), bytes(request.payload)))
        if not request.opt.uri_path:
            return await self._begin(request, body)
        if "confirm" in body:
            return await self._confirm(body)
        return response(
            {"state": "PENDING_USER_CONFIRMATION", **self.board.exchange_untrusted(body)}
        )

    async def _begin(self, request: aiocoap.Message, body: dict[str, Any]) -> aiocoap.Message:
        """Run its own ceremony with the device up to the exchange, then start the client's."""
        first: Fields = {}
        if self.method != Method.LABEL:
            self.half = self.make_half(self.session, self)
            first = self.half.begin()
        request_body = {**first, "method": self.method, "name": "mallory"}
        code, answer = await self.ask((), request_body)
        assert code == "2.01", answer
        window, role = answer["window"], answer["role"]
        mine = self.session
        self.terms = Terms(
            Channel(mine.ekm, mine.client, mine.device, window), role, "mallory", answer["id"]
        )
        if self.half is not None:
            message = self.half.started_untrusted(self.terms, answer)
            if message is not None:
                self.half.exchanged_untrusted((await self.ask((answer["id"],), message))[1])
        peer = peer_of(request)
        channel = Channel(peer.exporter, peer.fingerprint, self.identity.fingerprint, window)
        self.board = self.make_board(Terms(channel, role, body["name"], answer["id"]), self)
        fields = self.board.begin_untrusted(body)
        head = {"id": answer["id"], "window": window, "role": role, "state": answer["state"]}
        return response({**head, **fields}, code=Code.CREATED)

    async def _confirm(self, body: dict[str, Any]) -> aiocoap.Message:
        """Use the client's confirmation to confirm its own ceremony, then answer."""
        try:
            self.board.check_untrusted(body)
        except Mismatch as error:
            self.code_mismatch = error
        if self.half is None:
            self.half = self.make_half(self.session, self)
            self.half.begin()
            self.half.started_untrusted(self.terms, {})
        code, _ = await self.ask((self.terms.ceremony_id,), self.half.confirm())
        self.has_device = code == "2.04"
        tag = secrets.token_bytes(32)
        if self.code_mismatch is None:
            tag, self.has_client = self.board.device_tag(), True
        known = {"state": "REGISTERED", "user": "anna", "role": self.terms.role}
        return response({**known, "confirm": tag})


def response(body: dict[str, Any], *, code: Code = Code.CHANGED) -> aiocoap.Message:
    return aiocoap.Message(code=code, payload=cbor.encode(body), content_format=60)


async def start_middle(
    kit: Kit,
    device: Device,
    change: Change = unchanged,
    *,
    way: str = Method.COMPARE,
    make: Callable[[Identity, Address], Middle] | None = None,
) -> Middle:
    """A man in the middle, with an open window for the method."""
    await open_window(device, way)
    address = Address(HOST, device.port(pairing=True))
    identity = Identity.create()
    middle = make(identity, address) if make is not None else Middle(identity, address, change)
    await middle.start()
    kit.at_end(middle.close)
    return middle


def method_named(
    way: str, device: Fingerprint, *, guess: str = "", verifier: bytes = b""
) -> OfferedMethod:
    """The device's side of a way, for an impostor with this key and, for codes, this guess."""
    random_bytes = secrets.token_bytes
    match method_of(way):
        case Method.CODE:
            secret = TypedCode.parse_untrusted(guess).secret(device)
            return offer_code(lambda **_kind: secret, random_bytes, lambda **_kind: None)
        case Method.LABEL:
            return offer_label(lambda: verifier)
        case Method.SAS:
            return offer_sas(random_bytes)
        case Method.BUTTON:
            return offer_button()
        case _:
            return offer_compare()
