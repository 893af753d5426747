"""An impostor ends the session during a ceremony, so that an answer is missing (protocol §5.8).

The impostor answers at the announced address with its own key and its own regular port. It has
neither the code nor the label. At one step of the ceremony it ends the session; afterwards its
regular port reports every client as a registered user.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import aiocoap
import aiocoap.resource
import pytest
from aiocoap.numbers.codes import Code

from client_app import Client
from client_app.connector import Connector
from client_app.pairing import ceremony
from device_app.pairing.ceremonies import Ceremonies
from peer import cbor
from peer.errors import PeerError, Unreachable, WrongCode
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS
from peer.net.admission import SessionPriority
from peer.net.advertiser import Advertiser
from peer.net.locality_verdict import LocalMode
from peer.net.onlink import Locality
from peer.net.remote import peer_of
from peer.net.server import CoapsServer
from peer.net.site import GuardedSite
from peer.pairing.binding import WINDOW_ID_BYTES, Channel, receipt
from peer.pairing.code import CodeClient
from peer.pairing.methods import Method
from peer.pairing.sides import Terms
from tests.kit.methods import (
    PRINTED,
    LabelledDevice,
    add_label,
    client_at,
    method_of,
    open_window,
    other_code,
)
from tests.kit.middle import method_named, response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client_app.models import Paired
    from client_app.pairing.ceremony import Comparison
    from peer.net.remote import PeerIdentity
    from peer.pairing.ceremony import Ceremony, Fields
    from peer.pairing.sides import DeviceSide
    from tests.kit.device import Device, Kit
    from tests.kit.methods import Confirm

HOST = "127.0.0.1"
CODES = (Method.CODE, PRINTED)


@pytest.fixture(autouse=True)
def poll_without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The impostor sends no notifications, so the client polls; here almost without an interval."""
    monkeypatch.setattr(ceremony, "PAIRING_POLL_SECONDS", 0.01)


class Impostor(aiocoap.resource.Resource):
    """The /pair of an impostor that ends the session at `step`; it also serves /iam/me.

    `kept` selects what /iam/me returns as the receipt of the ceremony.
    """

    def __init__(self, way: str, labelled_device: LabelledDevice, *, step: str, kept: str) -> None:
        super().__init__()
        self.identity = Identity.create()
        self._way, self._bearer, self._step, self._kept = way, labelled_device, step, kept
        self.steps: list[str] = []
        self.client_tag = b""
        self._side: DeviceSide
        self.pairing: CoapsServer
        self.regular: CoapsServer

    async def start(self) -> None:
        me = RegisteredUser(self)
        self.pairing = await self._serve(("pair",), self, pairing=True)
        self.regular = await self._serve(("iam", "me"), me, pairing=False)

    async def _serve(
        self, path: tuple[str, ...], resource: aiocoap.resource.Resource, *, pairing: bool
    ) -> CoapsServer:
        site = GuardedSite(authorise=lambda *_: None, limits=DEFAULT_LIMITS)
        site.add(path, resource, takes_rest=pairing)
        return await CoapsServer.start(
            site,
            identity=self.identity,
            listen=[(HOST, 0)],
            locality=Locality(mode=LocalMode.STRICT, allow_loopback=True),
            priority=lambda _key: SessionPriority.NORMAL,
            pairing=pairing,
        )

    async def close(self) -> None:
        await self.pairing.close()
        await self.regular.close()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.pairing.port}"

    def receipt(self) -> bytes | None:
        """The forged receipt of the ceremony, if any."""
        match self._kept:
            case "reflected":
                return receipt(self.client_tag)
            case "random":
                return secrets.token_bytes(32)
            case _:
                return None

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        if request.code is Code.DELETE:  # the user refused
            return response({})
        body = cbor.decode_untrusted(request.payload) if request.payload else {}
        assert isinstance(body, dict)
        if request.code is Code.GET:
            if not request.opt.uri_path:
                return self._at("offer", lambda: response(self._offer(), code=Code.CONTENT))
            return response({"state": "PENDING_CLIENT_COMPLETION"}, code=Code.CONTENT)
        if not request.opt.uri_path:
            return self._at("start", lambda: self._started(peer_of(request), body))
        if "confirm" not in body:
            return self._at("exchange", lambda: response(dict(self._side.exchange_untrusted(body))))
        self.client_tag = body["confirm"]
        return self._at("confirm", lambda: response({}))

    def _at(self, step: str, answer: Callable[[], aiocoap.Message]) -> aiocoap.Message:
        if step not in self.steps:  # a client may request the offer again
            self.steps.append(step)
        if step == self._step:
            self.pairing.end_sessions(lambda _key: True)
            return response({})
        return answer()

    def _offer(self) -> dict[str, Any]:
        return {
            "version": 1,
            "id": self.identity.fingerprint.device_id,
            "name": "kitchen",
            "methods": [method_of(self._way)],
            "seconds": 100,
            "fingerprint": self.identity.fingerprint.hex,
            "port": self.regular.port,
        }

    def _started(self, peer: PeerIdentity, body: Fields) -> aiocoap.Message:
        window = secrets.token_bytes(WINDOW_ID_BYTES)
        channel = Channel(peer.exporter, peer.fingerprint, self.identity.fingerprint, window)
        guess = other_code(self._bearer.code_for(self._way)) if self._way in CODES else ""
        method = method_named(self._way, self.identity.fingerprint, guess=guess)
        terms = Terms(channel, "owner", str(body["name"]), "c1")
        self._side = method.create_side(terms)
        state = "PENDING_CLIENT_COMPLETION"
        head = {"id": "c1", "window": window, "role": "owner", "state": state}
        return response({**head, **self._side.begin_untrusted(body)}, code=Code.CREATED)


class RegisteredUser(aiocoap.resource.Resource):
    """The impostor's /iam/me, which reports every client as a registered user."""

    def __init__(self, impostor: Impostor) -> None:
        super().__init__()
        self._impostor = impostor

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        me: dict[str, Any] = {
            "user": "anna",
            "role": "owner",
            "fingerprint": peer_of(request).fingerprint.hex,
            "key": "",
            "path": "local",
            "actions": [],
        }
        receipt = self._impostor.receipt()
        return response(
            me | ({"receipt": receipt} if receipt is not None else {}), code=Code.CONTENT
        )


async def impostor_at(
    kit: Kit, labelled_device: LabelledDevice, way: str, *, step: str, kept: str
) -> Impostor:
    impostor = Impostor(way, labelled_device, step=step, kept=kept)
    await impostor.start()
    kit.at_end(impostor.close)
    return impostor


def accept_if_shown_by(device: Device) -> Confirm:
    """A user who accepts only what the real device shows, which here is no number."""

    async def confirm(question: Comparison) -> bool:
        return not question.number and question.device == device.fingerprint

    return confirm


async def pair_with(
    client: Client,
    labelled_device: LabelledDevice,
    way: str,
    at: str,
    *,
    confirm: Confirm | None = None,
) -> Paired:
    """Pair as a user who has the label or the code of the real device."""
    if way == Method.LABEL:
        return await client.pair(labelled_device.label.text, at=at, name="anna")
    code = labelled_device.code_for(way)
    return await client.pair(at, name="anna", method=method_of(way), code=code, confirm=confirm)


def stored_at(client: Client) -> list[Fingerprint]:
    return [one.fingerprint for one in client.devices]


#: The steps that an impostor reaches before the user refuses or the client stops. `button` is not
#: listed: it authenticates no one, so ending the session gains nothing.
REACHED = {
    Method.LABEL: (),
    Method.CODE: ("offer", "start", "confirm"),
    PRINTED: ("offer", "start", "confirm"),
    Method.SAS: ("offer", "start", "exchange"),
    Method.COMPARE: ("offer", "start"),
}


@pytest.mark.parametrize("kept", ["nothing", "reflected", "random"])
@pytest.mark.parametrize(
    ("way", "step"),
    [(way, step) for way, steps in REACHED.items() for step in steps or ("offer",)],
)
async def test_an_impostor_that_ends_the_session_at_any_step_is_not_stored(
    kit: Kit, device: Device, tmp_path: Path, way: str, step: str, kept: str
) -> None:
    labelled_device = add_label(device)
    await open_window(device, way)
    impostor = await impostor_at(kit, labelled_device, way, step=step, kept=kept)
    client = client_at(kit, tmp_path)
    with pytest.raises(PeerError):
        await pair_with(
            client, labelled_device, way, impostor.address, confirm=accept_if_shown_by(device)
        )
    assert not client.devices
    steps = REACHED[way]
    assert impostor.steps == list(steps[: steps.index(step) + 1] if steps else ())


@pytest.mark.parametrize("way", CODES)
async def test_without_the_receipt_check_the_impostor_is_stored(
    kit: Kit, device: Device, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the defence the attack succeeds: the client stores the impostor's key."""
    monkeypatch.setattr(CodeClient, "verify_receipt_untrusted", lambda *_: None)
    labelled_device = add_label(device)
    await open_window(device, way)
    impostor = await impostor_at(kit, labelled_device, way, step="confirm", kept="nothing")
    client = client_at(kit, tmp_path)
    await pair_with(client, labelled_device, way, impostor.address)
    assert stored_at(client) == [impostor.identity.fingerprint]


@pytest.mark.parametrize("way", [*CODES, Method.LABEL])
async def test_an_impostor_found_through_an_announcement_is_not_stored(
    kit: Kit, device: Device, tmp_path: Path, way: str
) -> None:
    """The impostor announces the device's name with its own address by multicast DNS."""
    labelled_device = add_label(device)
    await open_window(device, way)
    impostor = await impostor_at(kit, labelled_device, way, step="confirm", kept="random")
    name = f"kitchen-{secrets.token_hex(4)}"
    key = labelled_device.label.device if way == Method.LABEL else impostor.identity.fingerprint
    advertiser = Advertiser(
        name=name,
        device_id=key.device_id,
        port=impostor.regular.port,
        pairing_port=impostor.pairing.port,
        interfaces=[HOST],
    )
    await advertiser.start()
    kit.at_end(advertiser.close)
    await advertiser.set_pairing(open=True, pairing_port=impostor.pairing.port)
    client = Client(home=tmp_path / "client", interfaces=[HOST])
    kit.at_end(client.close)
    with pytest.raises(Unreachable if way == Method.LABEL else WrongCode):
        await pair_with(client, labelled_device, way, name)
    assert impostor.steps == list(REACHED[way])
    assert not client.devices


# -- a real device whose answer is lost -----------------------------------------------------------


def lose_the_answer(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the device end the session after it has stored the user and before it answers."""
    complete = Ceremonies.complete

    def store_and_disconnect(
        service: Ceremonies, ceremony_id: str, message: Fields, peer: PeerIdentity
    ) -> Ceremony:
        done = complete(service, ceremony_id, message, peer)
        device.app.pairing.port.end_sessions(lambda _key: True)
        return done

    monkeypatch.setattr(Ceremonies, "complete", store_and_disconnect)


@pytest.mark.parametrize("way", [Method.LABEL, *CODES])
async def test_the_real_device_is_stored_even_if_its_last_answer_is_lost(
    kit: Kit, device: Device, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled_device = add_label(device)
    await open_window(device, way)
    lose_the_answer(device, monkeypatch)
    client = client_at(kit, tmp_path)
    at = f"{HOST}:{device.port(pairing=True)}"
    done = await pair_with(client, labelled_device, way, at)
    assert done.device.user == "anna"
    assert stored_at(client) == [device.fingerprint]


async def test_the_receipt_survives_a_restart_and_is_shown_only_to_its_key(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device restarts after it has stored the user, and still returns the receipt."""
    first = await kit.device()
    labelled_device = add_label(first)
    await open_window(first, Method.CODE)
    lose_the_answer(first, monkeypatch)
    client = client_at(kit, tmp_path)
    again: list[Device] = []
    connect_at = Connector.connect_at

    async def after_the_restart(self: Connector, address: Any, **named: Any) -> Any:
        if not again:
            await first.app.close()
            again.append(await kit.device(port=address.port))
        return await connect_at(self, address, **named)

    monkeypatch.setattr(Connector, "connect_at", after_the_restart)
    at = f"{HOST}:{first.port(pairing=True)}"
    await client.pair(at, name="anna", code=labelled_device.shown)
    assert stored_at(client) == [first.fingerprint]
    [device] = again
    anna = kit.caller(device, client.identity)
    assert len((await anna.ask("GET", "/iam/me")).body["receipt"]) == 32
    other = kit.known(device, "bob", "owner")
    assert "receipt" not in (await other.ask("GET", "/iam/me")).body
    listed = await other.ask("GET", "/iam/users/anna")
    assert b"receipt" not in listed.payload
    assert bytes(device.users.user("anna").keys[0].receipt) not in listed.payload
