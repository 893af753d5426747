"""Records of the audit trail as `/events` and the console show them."""

from dataclasses import asdict
from typing import NotRequired, TypedDict, cast

from iam.audit import Record


class RecordView(TypedDict):
    """An event with its place in the hash chain; see docs/protocol.md, section 9."""

    seq: int
    digest: str
    previous: str
    kind: str
    boot: str
    monotonic: float
    wall: float
    actor: NotRequired[str]
    user: NotRequired[str]
    role: NotRequired[str]
    fingerprint: NotRequired[str]
    address: NotRequired[str]
    interface: NotRequired[str]
    hop_limit: NotRequired[int]
    method: NotRequired[str]
    action: NotRequired[str]
    result: NotRequired[str]
    detail: NotRequired[str]


def record_view(record: Record) -> RecordView:
    """A record without the fields that do not apply."""
    event = {name: value for name, value in asdict(record.event).items() if value not in ("", None)}
    event.setdefault("boot", "")
    place = {"seq": record.seq, "digest": record.digest, "previous": record.previous}
    return cast("RecordView", {**place, **event})
