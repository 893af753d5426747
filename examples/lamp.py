"""A lamp with a button: a module for a device.

The lamp is an LED of the Linux LED class, the button a key of a Linux input device. On a Raspberry
Pi, the overlays `gpio-led` and `gpio-key` provide both. Set two environment variables for the
daemon:

    LAMP_LED=/sys/class/leds/lamp
    LAMP_BUTTON=/dev/input/event0

Without `LAMP_LED` the state is kept in memory; without `LAMP_BUTTON` there is no button.

Guests may read the lamp, users may switch it. Clients that observe it are notified of every change,
also of those made with the button.
"""

import asyncio
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import ObservableResource

from device_app.resource_spec import Board, ResourceSpec

INPUT_EVENT = struct.Struct("@llHHi")  # struct input_event of <linux/input.h>
EV_KEY, PRESSED = 1, 1


class Lamp(ObservableResource):
    """GET returns `on` or `off`; PUT sets it."""

    def __init__(self, led: Path | None) -> None:
        super().__init__()
        self._led = led
        self._is_on = led is not None and (led / "brightness").read_text().strip() != "0"

    def switch(self, *, on: bool) -> None:
        """Switch the lamp, and notify the observers."""
        if self._led is not None:
            (self._led / "brightness").write_text("1" if on else "0")
        self._is_on = on
        self.updated_state()

    def toggle(self) -> None:
        """Switch the lamp on if it is off, and off if it is on."""
        self.switch(on=not self._is_on)

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        """Answer with the state."""
        return aiocoap.Message(payload=b"on" if self._is_on else b"off")

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        """Set the state; anything but `on` and `off` is a bad request."""
        if request.payload not in {b"on", b"off"}:
            return aiocoap.Message(code=Code.BAD_REQUEST, payload=b"send on or off")
        self.switch(on=request.payload == b"on")
        return aiocoap.Message(code=Code.CHANGED)


def watch_button(path: str, lamp: Lamp) -> None:
    """Toggle the lamp at each press of a key of this input device."""
    loop = asyncio.get_running_loop()
    device = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read() -> None:
        try:
            events = os.read(device, 64 * INPUT_EVENT.size)
        except OSError:  # the device was unplugged
            events = b""
        if not events:
            loop.remove_reader(device)
        for _seconds, _microseconds, kind, _key, value in INPUT_EVENT.iter_unpack(events):
            if kind == EV_KEY and value == PRESSED:
                lamp.toggle()

    loop.add_reader(device, read)


def resources(_board: Board) -> Iterator[ResourceSpec]:
    """Return what the device serves; called once when it starts."""
    led = os.environ.get("LAMP_LED")
    lamp = Lamp(Path(led) if led else None)
    if button := os.environ.get("LAMP_BUTTON"):
        watch_button(button, lamp)
    yield ResourceSpec(
        "/lamp",
        lamp,
        actions={"GET": "Lamp:Read", "PUT": "Lamp:Set"},
        least_role={"Lamp:Set": "user"},
        same_for_all=True,
    )
