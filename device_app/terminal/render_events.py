"""Events of the audit trail, as `handfast-device` prints them."""

from device_app.access.records import RecordView
from peer.terminal.event_lines import event_lines


def event_line(record: RecordView) -> str:
    """One event: number, time, kind, and the fields that it has."""
    return "\n".join(event_lines(record["seq"], record["kind"], record["wall"], record))
