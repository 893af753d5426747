"""The events of a device in systemd's journal, and the priorities of its log."""

from __future__ import annotations

import logging
import os
import re
import socket
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import pytest

from device_app.access import systemd_journal
from device_app.access.event_kind import EventKind
from device_app.access.systemd_journal import MESSAGE_ID, SystemdJournal
from device_app.app import App
from device_app.process import logs
from device_app.settings.paths import Paths
from device_app.terminal import output
from iam.audit import Event
from iam.store import Store
from tests.kit.datagram_inbox import DatagramInbox, systemd_journal_fields
from tests.kit.device import SETTINGS, Device
from tests.kit.internals import database_of
from tests.kit.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.device import Kit

WARNINGS = {
    *("denied", "not-local", "overlap", "mismatch", "refused", "invite-refused"),
    *("policy-refused", "store-recovered", "identity-elsewhere"),
}
NATIVE = {"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER"}
#: One that would be two entries, or one of another kind and of the highest priority.
FORGED = "x\nPRIORITY=0\nHANDFAST_KIND=paired\n\nMESSAGE=all is well\x00=\x1b[2J"


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[DatagramInbox]:
    with DatagramInbox(tmp_path / "journald") as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store.open(tmp_path / "device.db")
    yield found
    found.close()


def event(kind: str = EventKind.PAIRED, **changes: Any) -> Event:
    made = Event(kind=kind, boot="b", monotonic=1.0, wall=2.0)
    return Event(**{**asdict(made), **changes})


def append(store: Store, *events: Event) -> None:
    store.commit(store.state, *events)


async def test_the_systemd_journal_has_each_event_of_the_trail(
    kit: Kit, journald: DatagramInbox
) -> None:
    """Also those of changes, of pairing, of a reset, and of the start."""
    paths = Paths(kit.home, kit.home, kit.home)
    app = await App.start(paths, SETTINGS, systemd_journal=journald.path)
    kit.at_end(app.close)
    device = Device(app)
    anna = await kit.paired(device, "anna", role="owner")
    assert (await anna.ask("POST", "/iam/users", {"name": "bob", "role": "guest"})).code == "2.01"
    await kit.caller(device).ask("GET", "/hello")
    bob = kit.known(device, "carol", "guest")
    assert (await bob.ask("POST", "/iam/users", {"name": "eve", "role": "owner"})).code == "4.03"
    kit.policy("[[policy]]\n")
    app.reloader.schedule()
    await app.reloader.close()
    trail = [*app.access.store.audit.iterate()]
    kinds = {record.event.kind for record in trail}
    assert {"window-opened", "registered", "paired", "user-added", "denied"} <= kinds
    assert "policy-refused" in kinds

    received = await journald.until(lambda found: len(found) >= len(trail))
    entries = [dict(systemd_journal_fields(data)) for data in received]
    assert [entry["HANDFAST_SEQ"] for entry in entries] == [str(record.seq) for record in trail]
    for entry, record in zip(entries, trail, strict=True):
        expected = {
            f"HANDFAST_{name.upper()}": str(value)
            for name, value in asdict(record.event).items()
            if value not in ("", None) and name not in {"boot", "monotonic", "wall"}
        }
        assert {name: entry[name] for name in entry.keys() - NATIVE - {"HANDFAST_SEQ"}} == expected
        assert entry["MESSAGE_ID"] == MESSAGE_ID
        assert entry["SYSLOG_IDENTIFIER"] == "handfast-device"
        assert entry["MESSAGE"].startswith(record.event.kind)


async def test_a_reset_and_its_events_are_in_the_systemd_journal(
    store: Store, journald: DatagramInbox
) -> None:
    store.on_events(SystemdJournal(store.audit, journald.path).send_until)
    append(store, event(), event())
    store.reset(event(EventKind.FACTORY_RESET), attempts={})
    append(store, event(EventKind.DENIED))
    received = await journald.until(lambda found: len(found) >= 4)
    entries = [dict(systemd_journal_fields(data)) for data in received]
    assert [(one["HANDFAST_SEQ"], one["HANDFAST_KIND"]) for one in entries] == [
        ("1", "paired"),
        ("2", "paired"),
        ("1", "factory-reset"),
        ("2", "denied"),
    ]


def test_the_page_of_the_service_names_each_field_and_each_warning() -> None:
    page = (ROOT / "docs" / "reference" / "service.md").read_text()
    left_out = {"boot", "monotonic", "wall"}
    names = {f"HANDFAST_{one.name.upper()}" for one in fields(Event) if one.name not in left_out}
    assert set(re.findall(r"\bHANDFAST_\w+", page)) == {*names, "HANDFAST_SEQ"}
    assert f"`{MESSAGE_ID}`" in page
    [row] = [line for line in page.splitlines() if line.startswith("| `PRIORITY`")]
    assert set(re.findall(r"`([a-z-]+)`", row)) == WARNINGS


async def test_events_that_were_stored_before_are_not_repeated(
    store: Store, journald: DatagramInbox
) -> None:
    append(store, event(user="before"))
    store.on_events(SystemdJournal(store.audit, journald.path).send_until)
    append(store, event(user="after"))
    [data] = await journald.until(len)
    assert dict(systemd_journal_fields(data))["HANDFAST_USER"] == "after"


@pytest.mark.parametrize("kind", EventKind)
async def test_only_attacks_and_troubles_are_warnings(
    store: Store, journald: DatagramInbox, kind: EventKind
) -> None:
    store.on_events(SystemdJournal(store.audit, journald.path).send_until)
    append(store, event(kind))
    [data] = await journald.until(len)
    assert dict(systemd_journal_fields(data))["PRIORITY"] == ("4" if kind in WARNINGS else "6")


@pytest.mark.parametrize("field", ["user", "detail", "address", "result", "kind", "role"])
async def test_no_value_forges_a_field(store: Store, journald: DatagramInbox, field: str) -> None:
    store.on_events(SystemdJournal(store.audit, journald.path).send_until)
    append(store, event(**{field: FORGED}))
    [data] = await journald.until(len)
    names = [name for name, _ in systemd_journal_fields(data)]
    assert len(names) == len(set(names)), "a field was added"
    entry = dict(systemd_journal_fields(data))
    assert entry[f"HANDFAST_{field.upper()}"] == FORGED
    assert entry["PRIORITY"] == "6"
    assert field == "kind" or entry["HANDFAST_KIND"] == "paired"
    assert not {"\n", "\0", "\x1b"} & set(entry["MESSAGE"]), "a reader's terminal is safe"


async def test_text_that_is_no_unicode_is_sent(store: Store, journald: DatagramInbox) -> None:
    store.on_events(SystemdJournal(store.audit, journald.path).send_until)
    append(store, event(user="a\udc80b"))
    [data] = await journald.until(len)
    assert dict(systemd_journal_fields(data))["HANDFAST_USER"] == "a\\udc80b"


@pytest.mark.parametrize("obstacle", ["away", "full", "too large"])
def test_a_systemd_journal_that_takes_nothing_fails_and_delays_nothing(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    obstacle: str,
) -> None:
    caplog.set_level(logging.DEBUG, logger="handfast.audit")
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as never_read:
        if obstacle != "away":
            never_read.bind(str(path))
        if obstacle == "too large":
            monkeypatch.setattr(systemd_journal, "MESSAGE_ID", "x" * (1 << 22))
        store.on_events(SystemdJournal(store.audit, path).send_until)
        count = 1 if obstacle == "too large" else 1000  # more than its queue holds
        append(store, *[event()] * count)
    assert store.audit.head[0] == count, "the trail has them all"
    assert "is missing in the journal" in caplog.text
    assert "Traceback" not in caplog.text


async def test_an_event_that_cannot_be_read_does_not_stop_those_after_it(
    store: Store, journald: DatagramInbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="handfast.audit")
    copy = SystemdJournal(store.audit, journald.path)
    append(store, event(user="damaged"))
    database_of(store).execute("UPDATE events SET body = 'damaged'")
    copy.send_until(1)
    assert "an event is missing in the journal" in caplog.text
    append(store, event(user="later"))
    copy.send_until(2)
    [data] = await journald.until(len)
    assert dict(systemd_journal_fields(data))["HANDFAST_USER"] == "later"


# -- the log --------------------------------------------------------------------------------------


@pytest.fixture
def in_systemd_journal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let standard error be the stream that the service manager has connected to the journal."""
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("in_systemd_journal")
def test_each_line_of_the_log_has_its_priority(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(1)
    log = logging.getLogger("handfast.test")
    log.debug("d")
    log.info("i")
    log.warning("two\n<0>lines")
    try:
        raise ValueError("<0>bad\n<0>worse")
    except ValueError:
        log.exception("failed")
    output.warning("w")
    output.error("what\n<0>happened", "what to do")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == [
        "<7>D handfast.test: d",
        "<6>I handfast.test: i",
        "<4>W handfast.test: two",
        "<4><0>lines",
    ]
    assert lines[4] == "<3>E handfast.test: failed"
    assert "<3>ValueError: <0>bad" in lines
    assert "<3><0>worse" in lines
    assert lines[-4:] == [
        "<4>warning: w",
        "<3>handfast-device: what",
        "<3><0>happened",
        "<3>  what to do",
    ]
    assert all(line.startswith(("<3>", "<4>", "<6>", "<7>")) for line in lines)


@pytest.mark.usefixtures("in_systemd_journal")
def test_a_log_elsewhere_has_no_priorities(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variable is inherited, and names a stream that is not this one."""
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
    logs.set_up(0)
    logging.getLogger("handfast.test").warning("here")
    output.error("it failed", "")
    assert capsys.readouterr().err == "W handfast.test: here\nhandfast-device: it failed\n"
