"""Strict decoding of audit events, and of the digests that chain them."""

import itertools
import re
from typing import Final

from client_app.decode import body_untrusted
from client_app.decode_fields import Fields
from client_app.models import Event, Events
from peer.errors import Malformed

_FIELD: Final = re.compile(r"[a-z][a-z_]{0,31}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_CHAIN: Final = frozenset({"seq", "kind", "wall", "digest", "previous"})
_RESERVED: Final = _CHAIN | {"lost", "schema"}  # keys of `--json` that an event must not set


def events_untrusted(payload: bytes) -> Events:
    """GET `/events`: consecutive events. Raises `Malformed` also if a digest does not match."""
    fields = Fields(body_untrusted(payload), "the events")
    found = fields.each("events", _event)
    for before, after in itertools.pairwise(found):
        check_link(before.seq, before.digest, after)
    head, digest = fields.whole("head"), fields.matching("digest", _DIGEST)
    if found and (found[-1].seq > head or (found[-1].seq == head and found[-1].digest != digest)):
        raise broken_chain(found[-1].seq, "does not match the newest event that the device reports")
    return Events(head, digest, found)


def check_link(seq: int, digest: str, after: Event) -> None:
    """Raise `Malformed` unless `after` follows the event of that number and digest."""
    if after.seq != seq + 1:
        raise broken_chain(after.seq, f"follows event {seq}")
    if after.previous != digest:
        raise broken_chain(after.seq, "does not contain the digest of the event before it")


def broken_chain(seq: int, why: str) -> Malformed:
    """The error for events that contradict each other."""
    return Malformed(
        f"the device's events are not a valid chain: event {seq} {why}",
        advice="Run `handfast-device events --verify` on the device to locate the damage.",
    )


def _event(value: object) -> Event:
    fields = Fields(value, "an event")
    more: dict[str, str | int | float] = {}
    for name, item in fields.all.items():
        if name in _CHAIN:
            continue
        if not isinstance(name, str) or not _FIELD.fullmatch(name) or name in _RESERVED:
            raise Malformed("the device's response: an event has a field with an invalid name")
        if not isinstance(item, str | int | float):
            raise fields.wrong(name, "text or a number")
        more[name] = item
    return Event(
        seq=fields.whole("seq", 1),
        kind=fields.text("kind"),
        wall=fields.real("wall"),
        digest=fields.matching("digest", _DIGEST),
        previous=fields.matching("previous", _DIGEST),
        fields=more,
    )
