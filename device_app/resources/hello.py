"""GET /hello: a greeting, the first request of a new client and the shortest resource."""

from device_app.access.guard import Guard
from device_app.resources.payloads import TEXT
from device_app.resources.plain_resource import PlainResource, in_text
from peer.net.plain import Answer
from peer.net.remote import PeerIdentity

PATH = ("hello",)
ACTIONS = {"GET": "Hello:Get"}


class Hello(PlainResource):
    """Greets the user by name and role, and names the device."""

    ct = TEXT
    rt = "handfast.hello"

    def __init__(self, guard: Guard, *, device: str, device_id: str) -> None:
        super().__init__()
        self._guard = guard
        self._device = f"{device} ({device_id})"

    def answer(self, _query: tuple[str, ...], sender: PeerIdentity, /) -> Answer:
        """Return the greeting as text."""
        subject = self._guard.subject_of(sender)
        name = subject.user.name if subject.user else "stranger"
        return in_text(f"Hello {name}, you are {subject.role} of {self._device}.")
