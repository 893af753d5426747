"""Each event of the audit trail as a structured entry of systemd's journal.

An entry is one datagram of journald's native protocol
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL/), with a field for each part of the event:
`journalctl HANDFAST_KIND=overlap` finds those of one kind. The names of the fields are constant and
each value has its length or is one line, so no text of a peer adds a field or an entry. An event is
sent once it is stored. A journal that is away, full or slow does not delay the daemon: the entry is
lost, and the trail has the event.
"""

import contextlib
import logging
import socket
import struct
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from device_app.access.event_kind import EventKind
from iam.audit import AuditTrail, Record
from iam.errors import StoreCorrupt
from peer.terminal.event_lines import event_text

_log = logging.getLogger("handfast.audit")

#: The ID and the prefix of the fields of all these entries (systemd.journal-fields(7)).
MESSAGE_ID: Final = "05dfb4231618436a8292d5a6ae2baf2e"
PREFIX: Final = "HANDFAST_"
_IDENTIFIER: Final = "handfast-device"
_WARNING, _INFO = "4", "6"  # syslog(3)
#: Kinds that tell of an attack or of trouble.
_WARNINGS: Final = frozenset(
    {
        EventKind.DENIED,
        EventKind.INVITE_REFUSED,
        EventKind.OVERLAP,
        EventKind.MISMATCH,
        EventKind.REFUSED,
        EventKind.NOT_LOCAL,
        EventKind.POLICY_REFUSED,
        EventKind.STORE_RECOVERED,
        EventKind.IDENTITY_ELSEWHERE,
    }
)
#: The journal has its own time and its own ID of the start of the machine.
_LEFT_OUT: Final = frozenset({"boot", "monotonic", "wall"})


class SystemdJournal:
    """Sends the events that are appended to a trail from now on.

    Args:
        audit: the trail.
        path: the socket of journald.
    """

    def __init__(self, audit: AuditTrail, path: Path) -> None:
        self._audit = audit
        self._path = str(path)
        self._sent, _ = audit.head

    def send_until(self, newest: int) -> None:
        """Send the events up to this number that were not sent yet; call it after each commit."""
        since = self._sent if self._sent < newest else 0  # a factory reset begins at 1 again
        self._sent = newest
        try:
            for record in self._audit.iterate(since):
                self._send(record)
        except StoreCorrupt as error:
            _log.debug("an event is missing in the journal: %s", error)

    def _send(self, record: Record) -> None:
        data = b"".join(_field(name, value) for name, value in _fields(record))
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as out:
                out.setblocking(False)
                out.sendto(data, self._path)
        except OSError as error:
            _log.debug("event %d is missing in the journal: %s", record.seq, error)


def _fields(record: Record) -> Iterator[tuple[str, str]]:
    """Return the fields of an entry, without those of the event that are empty."""
    event = {
        name: str(value)
        for name, value in asdict(record.event).items()
        if value not in ("", None) and name not in _LEFT_OUT
    }
    kind = record.event.kind
    yield "MESSAGE", event_text(kind, event)
    yield "MESSAGE_ID", MESSAGE_ID
    yield "PRIORITY", _WARNING if kind in _WARNINGS else _INFO
    yield "SYSLOG_IDENTIFIER", _IDENTIFIER
    yield f"{PREFIX}SEQ", str(record.seq)
    for name, value in event.items():
        yield f"{PREFIX}{name.upper()}", value


def _field(name: str, value: str) -> bytes:
    """Return a field as one line, or with its length if the value has more lines."""
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
