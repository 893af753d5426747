"""GET /board: the living example. What this board measures of itself, with Observe.

    /board               CBOR {load: [1, 5, 15 min], temperature: °C or null, uptime: s,
                         memory_available: bytes or null}
    /board/load          text, the load of the last minute
    /board/temperature   text, degrees Celsius (absent on a board without a sensor)

Readings come from `/proc` and `/sys`; a timer runs only while somebody observes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiocoap
from aiocoap.resource import ObservableResource

from device_app.resources.payloads import CBOR, TEXT, reply, reply_text

ACTIONS = {"GET": "Board:Read"}
UPDATE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Readings:
    """One look at the board. Seconds, degrees Celsius, bytes; None where it cannot tell."""

    load: tuple[float, float, float]
    temperature: float | None
    uptime: float
    memory_available: int | None

    @classmethod
    def taken(cls, root: Path = Path("/")) -> "Readings":
        """Read the kernel's files below `root`."""
        load = [float(word) for word in _text(root / "proc/loadavg", "0 0 0").split()[:3]]
        return cls(
            load=(load[0], load[1], load[2]),
            temperature=_temperature(root / "sys/class/thermal"),
            uptime=float(_text(root / "proc/uptime", "0").split()[0]),
            memory_available=_memory(_text(root / "proc/meminfo", "")),
        )

    def as_map(self) -> dict[str, object]:
        """The body of `/board`."""
        return {
            "load": list(self.load),
            "temperature": self.temperature,
            "uptime": self.uptime,
            "memory_available": self.memory_available,
        }


def _text(path: Path, default: str) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace") or default
    except OSError:
        return default


def _temperature(zones: Path) -> float | None:
    """The warmest zone of the board."""
    found = []
    for zone in sorted(zones.glob("thermal_zone*/temp")):
        try:
            found.append(int(zone.read_text(encoding="ascii")) / 1000)
        except (OSError, ValueError):
            continue  # a sensor that is asleep
    return max(found, default=None)


def _memory(meminfo: str) -> int | None:
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable" and rest.split():
            return int(rest.split()[0]) * 1024
    return None


class Observed(ObservableResource):
    """Changes by itself: tells its observers every `seconds`, as long as there are any."""

    def __init__(self, *, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_ticking(self) -> bool:
        """Whether a timer runs."""
        return self._timer is not None

    def update_observation_count(self, newcount: int) -> None:
        """Called by aiocoap: the first observer starts the timer, the last one stops it."""
        if newcount and self._timer is None:
            self._arm()
        elif not newcount and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._tick)

    def _tick(self) -> None:
        self._arm()
        self.updated_state()


class BoardReadings(Observed):
    """All readings as one CBOR map."""

    ct = CBOR
    rt = "handfast.board"

    def __init__(
        self, *, seconds: float = UPDATE_SECONDS, take: Callable[[], Readings] = Readings.taken
    ) -> None:
        super().__init__(seconds=seconds)
        self._take = take

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """The readings of this moment."""
        return reply(request, self._take().as_map())


class OneReading(Observed):
    """One reading as text, for clients without CBOR."""

    ct = TEXT

    def __init__(
        self,
        show: Callable[[Readings], str],
        *,
        rt: str,
        seconds: float = UPDATE_SECONDS,
        take: Callable[[], Readings] = Readings.taken,
    ) -> None:
        super().__init__(seconds=seconds)
        self.rt = rt
        self._show = show
        self._take = take

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """The reading of this moment."""
        return reply_text(request, self._show(self._take()))


def board_resources(*, seconds: float = UPDATE_SECONDS) -> dict[tuple[str, ...], Observed]:
    """What this board can offer."""
    found: dict[tuple[str, ...], Observed] = {
        ("board",): BoardReadings(seconds=seconds),
        ("board", "load"): OneReading(
            lambda now: f"{now.load[0]:.2f}", rt="handfast.load", seconds=seconds
        ),
    }
    if Readings.taken().temperature is not None:
        found["board", "temperature"] = OneReading(
            lambda now: "" if now.temperature is None else f"{now.temperature:.1f}",
            rt="handfast.temperature",
            seconds=seconds,
        )
    return found
