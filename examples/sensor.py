"""A temperature sensor: a module for a device.

It reads a file in thousandths of a degree Celsius, by default the processor's temperature. To read
a sensor of the kernel's hwmon class, set another file for the daemon:

    SENSOR_FILE=/sys/class/hwmon/hwmon0/temp1_input
    SENSOR_SECONDS=5

The file is read every `SENSOR_SECONDS` seconds, but only while a client observes the resource, and
the observers are notified only if the value has changed.
"""

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import aiocoap
import cbor2
from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.resource import ObservableResource

from device_app.resource_spec import Board, ResourceSpec

log = logging.getLogger("handfast.sensor")


class Temperature(ObservableResource):
    """GET returns `{"celsius": 41.3}` in CBOR."""

    def __init__(self, file: Path, seconds: float) -> None:
        super().__init__()
        self._file = file
        self._seconds = seconds
        self._measuring: asyncio.Task[None] | None = None

    def measure(self) -> float:
        """Return the temperature in degrees Celsius, rounded to tenths."""
        return round(int(self._file.read_text()) / 1000, 1)

    def update_observation_count(self, newcount: int) -> None:
        """Start measuring for the first observer, and stop after the last one."""
        if newcount and self._measuring is None:
            # The first value is taken before the observer gets it, so that no change is missed.
            last = self._try_to_measure()
            self._measuring = asyncio.create_task(self._measure_forever(last))
        elif not newcount and self._measuring is not None:
            self._measuring.cancel()
            self._measuring = None

    def _try_to_measure(self) -> float | None:
        try:
            return self.measure()
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read: %s", self._file, error)
            return None

    async def _measure_forever(self, last: float | None) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            now = self._try_to_measure()
            if now is not None and now != last:
                last = now
                self.updated_state()

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        """Answer with the present value."""
        return aiocoap.Message(
            payload=cbor2.dumps({"celsius": self.measure()}), content_format=ContentFormat.CBOR
        )


def resources(_board: Board) -> Iterator[ResourceSpec]:
    """Return what the device serves; called once when it starts."""
    file = Path(os.environ.get("SENSOR_FILE", "/sys/class/thermal/thermal_zone0/temp"))
    sensor = Temperature(file, float(os.environ.get("SENSOR_SECONDS", "5")))
    yield ResourceSpec("/temperature", sensor, actions={"GET": "Sensor:Read"})
