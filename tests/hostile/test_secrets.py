"""Keys, tags, exporter values, codes and tokens are in no log, event, exception, status or state.

One test runs pairing, requests and attacks with all logs at DEBUG; another runs every method of
pairing and an invite, with right and wrong secrets. The tests know all secrets and search for them
in all output, in each form in which a program may write bytes.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from client_app.pairing.method_choice import MethodInputs
from device_app.access.systemd_journal import SystemdJournal
from device_app.pairing.events import PairingEventKind
from peer.errors import PeerError
from peer.pairing import invite
from peer.pairing.armour import base32
from peer.pairing.label import Label
from peer.pairing.methods import Method
from peer.pairing.typed import TypedCode
from tests.kit.datagram_inbox import DatagramInbox
from tests.kit.methods import (
    WAYS,
    LabelledDevice,
    Run,
    add_label,
    both_users,
    client_at,
    method_of,
    open_window,
    other_code,
    paired,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peer.identity import Identity
    from tests.kit.device import Caller, Device, Kit


TIMES = re.compile(rb"\b\d{10}\.\d+\b")


def forms(secret: bytes) -> Iterator[bytes]:
    """The forms of bytes in text: raw, hex, base64, base32, repr, a number, a list of numbers."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield secret.hex(" ").encode()
    yield secret.hex(":").encode()
    yield base64.b64encode(secret).rstrip(b"=")[:-1]
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")[:-1]
    yield base64.b32encode(secret).rstrip(b"=")[:-1]
    yield repr(secret)[2:-1].encode()
    yield str(int.from_bytes(secret)).encode()
    yield ", ".join(map(str, secret)).encode()


def private_parts(identity: Identity) -> Iterator[bytes]:
    key = identity.private_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    yield key.private_numbers().private_value.to_bytes(32)
    lines = [line for line in identity.key_pem().splitlines() if b"-----" not in line]
    yield from (base64.b64decode(line + b"==") for line in lines[:1])


def found(secrets: dict[str, bytes], text: bytes) -> list[str]:
    """The names of the secrets in a text without its times: their digits may be those of a code."""
    text = TIMES.sub(b"", text)
    return [name for name, secret in secrets.items() if any(form in text for form in forms(secret))]


async def pair_and_attack(kit: Kit, device: Device, secrets: dict[str, bytes]) -> list[Caller]:
    """Pair with wrong and right tags, send requests of an unknown key, and let a handler crash."""
    anna, eve = kit.caller(device), kit.caller(device)
    await device.open(role="user")
    for turn in ("wrong", "reflected", "cut", "right"):
        if not device.app.pairing.is_open:
            await device.closed()
            await device.open(role="user", clears_backoff=True)
        started = await anna.start("anna")
        if started.code != "2.01":
            await device.open(role="user", clears_backoff=True)
            started = await anna.start("anna")
        tags = anna.tags(started)
        secrets |= {f"client tag {turn}": tags.client_tag, f"device tag {turn}": tags.device_tag}
        secrets[f"exporter {turn}"] = anna.connections[True].peer.exporter
        device.decide(accept=True)
        await eve.pair_ask("POST", f"/pair/{started.body['id']}", {"confirm": tags.client_tag})
        tag = {
            "wrong": bytes(32),
            "reflected": tags.device_tag,
            "cut": tags.client_tag[:-1],
            "right": tags.client_tag,
        }[turn]
        done = await anna.send_tag(started, tag)
        assert done.code == ("2.04" if turn == "right" else "4.03")
    await anna.ask("GET", "/hello")
    await eve.ask("GET", "/hello")
    await eve.ask("POST", "/iam/users", raw=b"\xff" * 40)
    hello: Any = device.app.site.paths()["hello",]

    def fails(*_: object) -> None:
        raise RuntimeError("the handler breaks")

    hello.answer = fails
    assert (await anna.ask("GET", "/hello")).code == "5.00"
    secrets["exporter regular"] = anna.connections[False].peer.exporter
    secrets["exporter unknown key"] = eve.connections[False].peer.exporter
    return [anna, eve]


async def test_no_key_tag_or_exporter_value_is_written(
    kit: Kit, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("handfast", "handfast.coap", "coap", "coap-server", "asyncio", "peer", "iam"):
        caplog.set_level(logging.DEBUG, logger=name)
    secrets: dict[str, bytes] = {}
    callers = await pair_and_attack(kit, device, secrets)
    for who, identity in (
        ("device", device.app.identity),
        *((f"caller {n}", c.identity) for n, c in enumerate(callers)),
    ):
        for number, part in enumerate(private_parts(identity)):
            secrets[f"private key {number} of the {who}"] = part

    formatter = logging.Formatter("%(message)s")
    log = "\n".join(formatter.format(record) for record in caplog.records)
    assert "Incoming message" in log, "the log is not at DEBUG"
    assert "Traceback" in log, "the breaking handler is not in the log"
    assert not found(secrets, log.encode("utf-8", "surrogateescape"))

    trail = device.app.access.store.audit
    events = [record.event for record in trail.iterate()]
    kinds = {event.kind for event in events}
    assert {"window-opened", "ceremony-started", "mismatch", "registered", "paired"} <= kinds
    assert not found(secrets, repr(events).encode())
    assert not found(secrets, repr(device.app.status()).encode())
    assert not found(secrets, repr(device.pairing_events).encode())
    assert (await device.event(PairingEventKind.ENDED)).ceremony is not None

    for held in (*callers[0].connections.values(), *callers[1].connections.values()):
        assert not found(secrets, repr(held.peer).encode())
    assert not found(secrets, repr(device.app.identity).encode())
    assert not found(secrets, repr(device.app.pairing.window).encode())

    await device.app.close()
    for path in kit.home.rglob("*"):
        if path.is_file():
            kept = path.read_bytes()
            own = {"private key 0 of the device", "private key 1 of the device"}
            leaked = set(found(secrets, kept))
            assert leaked <= (own if path.suffix == ".pem" or "key" in path.name else set()), path
            if leaked:
                assert path.stat().st_mode & 0o777 == 0o600
                assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_the_secret_search_finds_each_form_of_a_secret() -> None:
    """Each form of a secret is found in a log line."""
    secret = bytes(range(200, 232))
    for form in forms(secret):
        assert found({"it": secret}, b"before " + form + b" after") == ["it"]
    assert not found({"it": secret}, b"before after")


# -- codes, labels, invites -----------------------------------------------------------------------


def typed_forms(code: str) -> dict[str, bytes]:
    """A code with and without hyphens, and in lower case."""
    return {
        f"{code[:2]} {form}": text.encode()
        for form, text in {
            "as shown": code,
            "as kept": TypedCode.parse_untrusted(code).symbols,
            "small": code.lower(),
        }.items()
    }


def token_forms(name: str, token: bytes) -> dict[str, bytes]:
    """A token in bytes and in printed symbols."""
    symbols = base32(token)
    return {
        name: token,
        f"{name} printed": symbols.encode(),
        f"{name} small": symbols.lower().encode(),
    }


WRONG_TOKEN = b"a wrong token ->"


class Errors:
    """The texts of all refusals, and of all exceptions with their causes."""

    def __init__(self) -> None:
        self.text = ""

    def note_answer(self, answer: object) -> None:
        """Add the body of a refusal."""
        self.text += f"{answer!r}\n"

    def note_error(self, error: BaseException | None) -> None:
        while error is not None:
            advice = getattr(error, "advice", "")
            self.text += f"{error!r} {error} {advice} {error.args!r}\n"
            error = error.__cause__ or error.__context__


async def pair_by_all_methods(
    kit: Kit, device: Device, folder: Path, secrets: dict[str, bytes], errors: Errors
) -> LabelledDevice:
    """Pair by each method with wrong and right secrets, by raw messages and by the real client."""
    labelled_device = add_label(device)
    secrets |= token_forms("label token", labelled_device.label.token) | typed_forms(
        labelled_device.printed
    )
    secrets |= token_forms("wrong token", WRONG_TOKEN)
    secrets["stretched code"] = device.app.pairing.methods.label.code_secret
    for way in WAYS:
        await open_window(device, way, role="user")
        caller = kit.caller(device)
        if code := labelled_device.code_for(way):
            wrong = other_code(code)
            secrets |= typed_forms(code) | typed_forms(wrong)
            errors.note_answer(
                (
                    await (await Run.of(caller, labelled_device, way, code=wrong)).run_to_end(
                        device
                    )
                ).body
            )
            secrets |= typed_forms(labelled_device.code_for(way))
        if way == Method.LABEL:
            for changed in ({"token": WRONG_TOKEN}, {"confirm": bytes(32)}):
                spoilt = await Run.of(caller, labelled_device, way)
                await spoilt.start()
                errors.note_answer((await spoilt.confirm(**changed)).body)
        run = await paired(caller, labelled_device, way, name=f"raw-{way}")
        for body in (*run.sent, *(one.body for one in run.got)):
            secrets |= {
                f"{way} {key}": value
                for key, value in body.items()
                if isinstance(value, bytes) and key in {"confirm", "token"}
            }
        await device.closed()
        await caller.close()
        await open_window(device, way, role="user")
        client = client_at(kit, folder / way)
        secrets |= typed_forms(labelled_device.shown) if labelled_device.shown else {}
        careful, _ = both_users(device, careful=True)
        address = f"127.0.0.1:{device.port(pairing=True)}"
        target, at = (labelled_device.label.text, address) if way == Method.LABEL else (address, "")
        method = "" if way == Method.LABEL else method_of(way)
        for is_right in (False, True):
            given = labelled_device.code_for(way)
            if not given and not is_right:
                continue
            given = given if is_right else other_code(given)
            secrets |= typed_forms(given) if given else {}
            try:
                await client.pair(
                    target, at=at, name=f"real-{way}", method=method, code=given, confirm=careful
                )
            except PeerError as error:
                errors.note_error(error)
        await client.close()
    return labelled_device


async def mistype(
    labelled_device: LabelledDevice, secrets: dict[str, bytes], errors: Errors
) -> None:
    """Parse mistyped codes and labels, and record the errors."""
    # Their last symbols are check symbols: with another one, they are always invalid.
    mistyped, typo = (
        text[:-1] + ("1" if text[-1] == "0" else "0")
        for text in (labelled_device.label.text, labelled_device.printed)
    )

    secrets |= {"typo": typo.encode(), "plain typo": typo.replace("-", "").encode()}

    async def ask() -> str:
        return typo

    for wrong in (
        lambda: TypedCode.parse_untrusted(typo),
        lambda: TypedCode.parse_untrusted(labelled_device.printed + "0"),
        lambda: Label.parse_untrusted(mistyped),
        lambda: Label.parse_untrusted(labelled_device.label.text + "X"),
    ):
        with pytest.raises(PeerError) as caught:
            wrong()
        errors.note_error(caught.value)
    with pytest.raises(PeerError) as asked:
        await MethodInputs(method=Method.CODE, ask_code=ask).side_maker(Method.CODE)
    errors.note_error(asked.value)


async def redeem_invites(
    kit: Kit, device: Device, owner: Caller, secrets: dict[str, bytes], errors: Errors
) -> None:
    """Create two invites; redeem each in changed forms, unchanged, and once more."""
    for name in ("ida", "ivan"):
        made = await owner.ask("POST", "/iam/invites", {"name": name})
        assert made.code == "2.01"
        text: str = made.body["token"]
        _, signed = invite.read_untrusted(text)
        secrets |= {f"invite {name}": signed, f"invite {name} text": text.encode()}
        secrets |= {f"invite {name} symbols": text[12:].encode(), f"{name} end": signed[-64:]}
        for bad in (signed[:-1] + bytes([signed[-1] ^ 1]), signed + b"x"):
            answer = await kit.caller(device).ask("POST", "/iam/redeem", {"token": bad})
            assert answer.code.startswith("4.")
        for code in ("2.04", "4.03"):
            answer = await kit.caller(device).ask("POST", "/iam/redeem", {"token": signed})
            assert answer.code == code
        with pytest.raises(PeerError) as caught:
            invite.read_untrusted(text[:-1])
        errors.note_error(caught.value)


def files(folder: Path) -> list[Path]:
    """All files of both sides."""
    return list(folder.rglob("*"))


async def test_no_code_label_or_invite_is_written_or_passed_to_a_process(
    kit: Kit,
    device: Device,
    owner: Caller,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They appear in no log, event, exception, state file or repr, and no process is started, since
    its arguments could contain them."""

    def started(*_args: object, **_named: object) -> Any:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess.Popen, "__init__", started)
    monkeypatch.setattr(os, "system", started)
    store = device.app.access.store
    before, _ = store.audit.head
    journald = DatagramInbox(tmp_path / "journald")
    kit.at_end(partial(asyncio.to_thread, journald.close))
    store.on_events(SystemdJournal(store.audit, journald.path).send_until)
    caplog.set_level(logging.DEBUG)
    for name in ("handfast", "handfast.coap", "coap", "coap-server", "asyncio", "peer", "iam"):
        caplog.set_level(logging.DEBUG, logger=name)
    secrets: dict[str, bytes] = {}
    errors = Errors()
    labelled_device = await pair_by_all_methods(kit, device, tmp_path, secrets, errors)
    await mistype(labelled_device, secrets, errors)
    await redeem_invites(kit, device, owner, secrets, errors)
    pairs = {f"raw-{way}" for way in WAYS} | {f"real-{way}" for way in WAYS}
    assert {"ida", "ivan", *pairs} <= set(device.users.users)

    log = "\n".join(record.getMessage() for record in caplog.records)
    assert "Incoming message" in log, "the log is not at DEBUG"
    assert not found(secrets, log.encode("utf-8", "surrogateescape"))
    assert len(errors.text.splitlines()) >= 10
    assert not found(secrets, errors.text.encode())
    events = [record.event for record in device.app.access.store.audit.iterate()]
    kinds = {event.kind for event in events}
    assert {"label-made", "mismatch", "paired", "invite-created", "invite-redeemed"} <= kinds
    assert not found(secrets, repr(events).encode())
    entries = await journald.until(lambda received: len(received) >= len(events) - before)
    assert not found(secrets, b"".join(entries))
    service = device.app.pairing
    for thing in (
        device.pairing_events,
        service.window,
        service.methods.label,
        labelled_device.label,
        service.methods.__dict__,
    ):
        assert not found(secrets, repr(thing).encode())
    await device.closed()
    assert not found(secrets, repr(device.app.status()).encode())

    await device.app.close()
    for path in files(tmp_path):
        if path.is_file():
            assert set(found(secrets, path.read_bytes())) <= {"stretched code"}, path


async def test_the_secret_search_finds_a_code_in_a_log_line() -> None:
    code = TypedCode.shown(lambda count: b"7" * count)
    for text in (code.text, code.symbols, code.text.lower()):
        assert found(typed_forms(code.text), f"typed: {text}".encode())
    token = b"0123456789abcdef"
    assert found(token_forms("token", token), base32(token).encode())
