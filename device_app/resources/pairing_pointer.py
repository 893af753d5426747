"""/pair on the regular port: where pairing is, or that the window is closed (protocol §4).

Only a client on the local link is told. The regular port may be reachable from anywhere, and an
attacker elsewhere must not learn when the window is open.
"""

import aiocoap
from aiocoap import interfaces

from device_app.pairing.service import PairingService
from device_app.resources.local_only import LocalOnly
from device_app.resources.pair import PATH
from peer.net.problem import ProblemError
from peer.net.remote import peer_of
from peer.net.site import Authorise, Path


class PairingPointer:
    """Answers requests for /pair, by any key, and passes all others on to `authorise`.

    It tells a neighbour no more than an attempt to open a session on the pairing port does.
    """

    def __init__(self, service: PairingService, local: LocalOnly, authorise: Authorise) -> None:
        self._service = service
        self._local = local
        self._authorise = authorise

    def authorise(
        self, request: aiocoap.Message, path: Path, resource: interfaces.Resource | None
    ) -> None:
        """Implement the hook of `GuardedSite`. Raises `ProblemError`."""
        if path[: len(PATH)] == PATH and resource is None:
            self._local.check(peer_of(request))
            raise self._pointer()
        self._authorise(request, path, resource)

    def _pointer(self) -> ProblemError:
        if self._service.is_open and (port := self._service.port.number):
            return ProblemError(
                "pairing-port",
                f"this is the regular port; pairing is on UDP port {port}",
                f"Pair with the same address and port {port}.",
                port=port,
            )
        return ProblemError(
            "window-closed",
            "the pairing window is closed",
            "Run `handfast-device open` on the device, then start again.",
        )
