"""The status as metrics of Prometheus, text format 0.0.4 (`status --prometheus`).

Only the ID of the device identifies anything: no metric contains a name, a fingerprint of a user or
an address.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from device_app.access.event_kind import EventKind
from device_app.console.status import problems_of
from device_app.console.views import StatusAnswer
from device_app.remote.views import RemoteView

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Sample = tuple[Mapping[str, str], float]
"""The labels of a sample, and its value."""


@unique
class MetricType(StrEnum):
    """The types of metrics that are used here."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its samples."""

    name: str
    about: str
    samples: Iterable[Sample]
    type: MetricType = MetricType.GAUGE

    def lines(self) -> list[str]:
        """The metric in the text format; nothing if it has no sample."""
        samples = [f"{self.name}{_labels(labels)} {_number(n)}" for labels, n in self.samples]
        if not samples:
            return []
        about = f"# HELP {self.name} {self.about}"
        return [about, f"# TYPE {self.name} {self.type}", *samples]


def metrics_lines(status: StatusAnswer | None) -> list[str]:
    """The metrics of a running daemon; of None, that there is no daemon."""
    up = Metric("handfast_up", "Whether the daemon runs.", [({}, status is not None)])
    metrics = [up] if status is None else [up, *_metrics(status)]
    return [line for metric in metrics for line in metric.lines()]


def _metrics(status: StatusAnswer) -> list[Metric]:
    window = status["window"]
    about = {"version": status["version"], "id": status["id"]}
    sessions = Counter(session["on"] for session in status["sessions"])
    counted = [
        ({"port": port, "kind": kind}, count)
        for port, counters in status["counters"].items()
        for kind, count in counters.items()
    ]
    return [
        Metric("handfast_info", "The version and the ID of the device.", [(about, 1)]),
        _gauge("handfast_healthy", "Whether no problem is found.", not problems_of(status)),
        _gauge(
            "handfast_uptime_seconds",
            "The time since the daemon was started.",
            status["uptime_seconds"],
        ),
        _gauge("handfast_users", "The number of users.", status["user_count"]),
        Metric(
            "handfast_sessions",
            "The number of established sessions.",
            [({"port": port}, sessions[port]) for port in ("regular", "pairing")],
        ),
        _gauge("handfast_window_open", "Whether the pairing window is open.", window["open"]),
        _gauge(
            "handfast_failures",
            "The number of failed attempts to pair since the last success.",
            status["failures"],
        ),
        _gauge(
            "handfast_blocked_seconds",
            "How long no client can pair because of failed attempts.",
            window.get("blocked_seconds", 0),
        ),
        *_remote_metrics(status["remote"]),
        Metric(
            "handfast_counter_total",
            "Handshakes, and datagrams and requests that were refused or dropped.",
            counted,
            MetricType.COUNTER,
        ),
        Metric(
            "handfast_events_total",
            "The number of events written to the audit trail since the daemon was started.",
            _event_samples(status.get("events", {})),
            MetricType.COUNTER,
        ),
    ]


def _remote_metrics(remote: RemoteView) -> list[Metric]:
    if remote["state"] == "off":
        return []
    paths = Counter(path["path"] for path in remote["paths"] if path["live"])
    return [
        _gauge(
            "handfast_remote_attached",
            "Whether the device is attached to a broker of remote reach.",
            remote["state"] == "attached",
        ),
        Metric(
            "handfast_remote_paths",
            "The number of remote paths, by kind.",
            [({"path": path}, paths[path]) for path in ("direct", "relay")],
        ),
    ]


def _event_samples(events: Mapping[str, int]) -> list[Sample]:
    """The number of each kind, also of those that have not occurred: a rate needs a first value."""
    kinds = dict.fromkeys(EventKind, 0) | dict(events)
    return [({"kind": str(kind)}, count) for kind, count in sorted(kinds.items())]


def _gauge(name: str, about: str, value: float) -> Metric:
    return Metric(name, about, [({}, value)])


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
