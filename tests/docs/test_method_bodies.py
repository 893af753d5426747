"""Every body of every pairing method, as a running device takes and gives it, fits its rule."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import aiocoap
import pycddl
import pytest
from aiocoap.numbers.codes import Code

from device_app import labels
from device_app.app import App
from device_app.config import Settings
from device_app.methods import Hardware
from device_app.places import Places
from peer import cbor
from peer.identity import Identity
from peer.net.client import CoapsClient, CoapsConnection
from peer.net.udp import Address
from peer.pairing import methods
from peer.pairing.binding import Channel
from peer.pairing.ceremony import Terms
from peer.pairing.label import Label
from peer.pairing.methods import ClientSide, Session
from peer.pairing.typed import TypedCode

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.conftest import Cddl

HOST = "127.0.0.1"
PATIENCE = 30.0
SETTINGS = Settings(
    name="kitchen",
    listen=(HOST,),
    port=0,
    pairing_port=0,
    advertise=False,
    allow_loopback=True,
    hardware=Hardware(button=True),
)
STARTED = {
    "compare": "pair-started-asking",
    "sas": "pair-started-sas",
    "code": "pair-started-code",
    "printed": "pair-started-code",
    "label": "pair-started-waiting",
    "button": "pair-started-waiting",
}
CONFIRM = {
    "code": "pair-confirm-code",
    "printed": "pair-confirm-code",
    "label": "pair-confirm-label",
}


async def ask(connection: CoapsConnection, path: str, body: object = None) -> Any:
    """One exchange, decoded; POST if there is a body."""
    code = Code.GET if body is None else Code.POST
    message = aiocoap.Message(code=code, uri_path=path.split("/"))
    if body is not None:
        message.payload, message.opt.content_format = cbor.encode(body), 60
    answer = await connection.request(message, timeout=PATIENCE)
    assert answer.code.is_successful(), answer.payload
    return cbor.decode_untrusted(answer.payload)


def side(way: str, session: Session, app: App, words: dict[str, Any]) -> ClientSide:
    match way:
        case "sas":
            return methods.SasClient(secrets.token_bytes)
        case "code" | "printed":
            text = words["code"] if way == "printed" else app.door.methods.shown_code
            return methods.CodeClient(session, TypedCode.parse_untrusted(text), secrets.token_bytes)
        case "label":
            return methods.LabelClient(session, Label.parse_untrusted(words["text"]))
        case _:
            return methods.TagsClient(method=way)


@pytest.mark.parametrize("way", STARTED)
@pytest.mark.asyncio
async def test_the_bodies_of_a_method(way: str, tmp_path: Path, cddl: Cddl) -> None:
    app = await App.start(Places(tmp_path, tmp_path, tmp_path), SETTINGS)
    identity = Identity.create()
    client = CoapsClient(identity)
    try:
        app.door.methods.plate, made = labels.made(
            app.whitelist, app.identity.fingerprint, replace=False
        )
        await app.door.open(role="guest", pressed=True)
        port = app.door.port.number
        connection = await client.connect(Address(HOST, port), pinned=None, timeout=PATIENCE)
        peer = connection.peer
        own = identity.fingerprint
        ours = side(way, Session(peer.exporter, own, peer.fingerprint), app, made["label"])

        def fits(rule: str, body: object) -> None:
            cddl.validate(rule, cbor.encode(body))

        offer = await ask(connection, "pair")
        fits("offer", offer)
        assert offer["methods"] == list(methods.NAMES)
        start = {**ours.begin(), "method": ours.name, "name": "anna"}
        fits("pair-start", start)
        fits("pair-start-code" if ours.name == "code" else "pair-start-plainly", start)
        started = await ask(connection, "pair", start)
        fits("pair-started", started)
        fits(STARTED[way], started)
        channel = Channel(peer.exporter, own, peer.fingerprint, started["window"])
        terms = Terms(channel, started["role"], "anna", started["id"])
        path = f"pair/{started['id']}"
        message = ours.started_untrusted(terms, started)
        if message is not None:
            fits("pair-nonce", message)
            opened = await ask(connection, path, message)
            fits("pair-opened", opened)
            ours.exchanged_untrusted(opened)
        fits("pair-state", await ask(connection, path))
        if ours.asks:
            app.door.decide(started["id"], accept=True)
        confirm = ours.confirm()
        fits("pair-confirm", confirm)
        fits(CONFIRM.get(way, "pair-confirm-plainly"), confirm)
        for field in confirm:
            with pytest.raises(pycddl.ValidationError):
                fits("pair-confirm-code" if way == "code" else "pair-confirm-label", {field: b""})
        confirmed = await ask(connection, path, confirm)
        fits("pair-confirmed", confirmed)
        ours.verify_untrusted(confirmed)
        (key,) = app.whitelist.state.user("anna").keys
        assert (key.method, key.verified) == (ours.name, way != "button")
    finally:
        await client.close()
        await app.close()
