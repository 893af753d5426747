"""GET /hello: a greeting, the first request of a new client and the shortest resource."""

import aiocoap
from aiocoap.resource import Resource

from device_app.access.guard import Guard
from device_app.resources.payloads import TEXT, reply_text

PATH = ("hello",)
ACTIONS = {"GET": "Hello:Get"}


class Hello(Resource):
    """Greets the user by name and role, and names the device."""

    ct = TEXT
    rt = "handfast.hello"

    def __init__(self, guard: Guard, *, device: str, device_id: str) -> None:
        super().__init__()
        self._guard = guard
        self._device = f"{device} ({device_id})"

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Return the greeting as text."""
        subject = self._guard.subject(request)
        name = subject.user.name if subject.user else "stranger"
        return reply_text(request, f"Hello {name}, you are {subject.role} of {self._device}.")
