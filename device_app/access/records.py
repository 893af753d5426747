"""Records of the audit trail as `/events` and the console show them."""

from dataclasses import asdict
from typing import Any

from iam.audit import Record


def record_view(record: Record) -> dict[str, Any]:
    """An event in its place in the chain; fields that do not apply are left out."""
    event = {name: value for name, value in asdict(record.event).items() if value not in ("", None)}
    event.setdefault("boot", "")
    place = {"seq": record.seq, "digest": record.digest, "previous": record.previous}
    return {**place, **event}
