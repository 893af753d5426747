"""GET /board: load, temperature, uptime and memory of the board, with Observe (an example).

    /board               CBOR {load: [1, 5, 15 min], temperature: °C, uptime: s,
                         memory_available: bytes}; null for each that is not available
    /board/load          text, the load of the last minute
    /board/temperature   text, degrees Celsius

The kernel's files below `/proc` and `/sys` have the values. A board may lack a sensor, and a
sandbox or a container may hide the files; then the path of that reading does not exist. A timer
runs only while a client observes.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiocoap.resource import ObservableResource

from device_app.limits import BOARD_UPDATE_SECONDS
from device_app.resources.payloads import CBOR, TEXT
from device_app.resources.plain_resource import PlainResource, in_cbor, in_text
from peer.net.plain import Answer
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity

PATH = ("board",)
ACTIONS = {"GET": "Board:Read"}


@dataclass(frozen=True, slots=True)
class Readings:
    """The values of one moment, in seconds, degrees Celsius and bytes; None if not available."""

    load: tuple[float, float, float] | None
    temperature: float | None
    uptime: float | None
    memory_available: int | None

    @classmethod
    def read(cls, root: Path = Path("/")) -> "Readings":
        """Read the kernel's files below `root`."""
        load = _numbers(root / "proc/loadavg", 3)
        uptime = _numbers(root / "proc/uptime", 1)
        return cls(
            load=(load[0], load[1], load[2]) if load else None,
            temperature=_temperature(root / "sys/class/thermal"),
            uptime=uptime[0] if uptime else None,
            memory_available=_memory(_text(root / "proc/meminfo")),
        )

    def as_map(self) -> dict[str, object]:
        """Return the body of `/board`."""
        return {
            "load": None if self.load is None else list(self.load),
            "temperature": self.temperature,
            "uptime": self.uptime,
            "memory_available": self.memory_available,
        }


def _text(path: Path) -> str:
    """Return the content of a file, or nothing if the kernel does not show it."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _numbers(path: Path, count: int) -> list[float]:
    """Return the first numbers in a file, or none if it does not begin with as many."""
    try:
        found = [float(word) for word in _text(path).split()[:count]]
    except ValueError:
        return []
    return found if len(found) == count else []


def _temperature(zones: Path) -> float | None:
    """Return the temperature of the warmest zone."""
    found = []
    for zone in sorted(zones.glob("thermal_zone*/temp")):
        try:
            found.append(int(zone.read_text(encoding="ascii")) / 1000)
        except (OSError, ValueError):
            continue  # a sensor that is switched off
    return max(found, default=None)


def _memory(meminfo: str) -> int | None:
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        size = rest.split()[0] if rest.split() else ""
        if name == "MemAvailable" and size.isdecimal():
            return int(size) * 1024
    return None


class PeriodicResource(PlainResource, ObservableResource):
    """Notifies its observers every `seconds`, while there are any."""

    def __init__(self, *, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_ticking(self) -> bool:
        """Whether the timer runs."""
        return self._timer is not None

    def update_observation_count(self, newcount: int) -> None:
        """Start the timer for the first observer, stop it after the last (called by aiocoap)."""
        if newcount and self._timer is None:
            self._arm()
        elif not newcount and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def until_next(self, answer: Answer) -> Answer:
        """State when an observer gets the next notification (Max-Age, RFC 7641 §4.3.1)."""
        return answer._replace(max_age=max(1, math.ceil(self._seconds)))

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._tick)

    def _tick(self) -> None:
        self._arm()
        self.updated_state()


class BoardReadings(PeriodicResource):
    """/board: all readings as one CBOR map."""

    ct = CBOR
    rt = "handfast.board"

    def __init__(
        self, *, seconds: float = BOARD_UPDATE_SECONDS, read: Callable[[], Readings] = Readings.read
    ) -> None:
        super().__init__(seconds=seconds)
        self._read = read

    def answer(self, _query: tuple[str, ...], _sender: PeerIdentity, /) -> Answer:
        """Return the readings of this moment."""
        return self.until_next(in_cbor(self._read().as_map()))


class OneReading(PeriodicResource):
    """One reading as text, for clients without CBOR; `show` returns None if there is none now."""

    ct = TEXT

    def __init__(
        self,
        show: Callable[[Readings], str | None],
        *,
        rt: str,
        seconds: float = BOARD_UPDATE_SECONDS,
        read: Callable[[], Readings] = Readings.read,
    ) -> None:
        super().__init__(seconds=seconds)
        self.rt = rt
        self._show = show
        self._read = read

    def answer(self, _query: tuple[str, ...], _sender: PeerIdentity, /) -> Answer:
        """Return the reading of this moment. Raises `ProblemError` (4.04) if there is none."""
        text = self._show(self._read())
        if text is None:
            raise ProblemError(
                "not-found",
                "the board does not have this reading now",
                "Get /board, which has null for it.",
            )
        return self.until_next(in_text(text))


def _load(now: Readings) -> str | None:
    return None if now.load is None else f"{now.load[0]:.2f}"


def _degrees(now: Readings) -> str | None:
    return None if now.temperature is None else f"{now.temperature:.1f}"


_ONE: Final = {"load": _load, "temperature": _degrees}


def board_resources(
    *, seconds: float = BOARD_UPDATE_SECONDS, read: Callable[[], Readings] = Readings.read
) -> dict[tuple[str, ...], PeriodicResource]:
    """Return the resources of this board, by path; one reading has a path if it is available."""
    found: dict[tuple[str, ...], PeriodicResource] = {
        PATH: BoardReadings(seconds=seconds, read=read)
    }
    now = read()
    for name, show in _ONE.items():
        if show(now) is not None:
            found[*PATH, name] = OneReading(show, rt=f"handfast.{name}", seconds=seconds, read=read)
    return found
