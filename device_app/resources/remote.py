"""GET /remote: what a client key needs to reach this device from other networks (protocol §10.1).

Each key gets the secret of its own pair, and no other one. The answer is given over a session that
is not a remote path: after a rotation, a new secret is not available by means of the old one.
"""

from collections.abc import Callable

from aiocoap.numbers.codes import Code

from device_app.limits import RETRY_REMOTE_SECONDS
from device_app.resources.payloads import CBOR
from device_app.resources.plain_resource import PlainResource
from peer.fingerprint import Fingerprint
from peer.net.plain import Answer
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity
from peer.net.session_route import SessionRoute

PATH = ("remote",)
ACTIONS = {"GET": "Remote:GetSettings"}
#: The encoded settings of a key, or None if remote reach does not work now.
SettingsOf = Callable[[Fingerprint], bytes | None]


class Remote(PlainResource):
    """/remote."""

    ct = CBOR
    rt = "handfast.remote"

    def __init__(self, settings_of: SettingsOf) -> None:
        super().__init__()
        self._settings_of = settings_of

    def answer(self, _query: tuple[str, ...], sender: PeerIdentity, /) -> Answer:
        """Return the settings of the sender's key. Raises `ProblemError`."""
        if sender.path in {SessionRoute.DIRECT, SessionRoute.RELAY}:
            raise ProblemError(
                "denied",
                "remote settings are not given over a remote path",
                "Connect on the device's own network, or by one of its addresses.",
            )
        settings = self._settings_of(sender.fingerprint)
        if settings is None:
            raise ProblemError(
                "unavailable",
                "the device cannot be reached from other networks now",
                "`handfast-device remote`, at the device, shows the reason.",
                code=Code.SERVICE_UNAVAILABLE,
                max_age=RETRY_REMOTE_SECONDS,
            )
        return Answer(settings, CBOR)
