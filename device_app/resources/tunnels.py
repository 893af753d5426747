"""/tunnels: the TCP services that the sender may reach, and tunnels to them (protocol §11.1)."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.access.error_answers import malformed
from device_app.access.guard import Guard
from device_app.limits import TUNNEL_NAME_CHARACTERS_MAX
from device_app.resources.payloads import CBOR, read_map, reply
from device_app.resources.tunnel_service import NoSuchService, ServiceDown, TooManyTunnels, Tunnels
from iam.attributes import TUNNEL_SERVICE
from peer.identity import Identity
from peer.limits import Limits
from peer.net.problem import ProblemError
from peer.net.remote import CoapsRemote, PeerIdentity, peer_of
from peer.net.site import GuardedSite

PATH = ("tunnels",)
CONNECT = "Tunnel:Connect"
ACTIONS = {"GET": "Tunnel:List", "POST": CONNECT}
LATE = ("POST",)  # the service is in the body


@dataclass(frozen=True, slots=True)
class TunnelRequest:
    """The body of a POST: the name of a service."""

    service: str

    @classmethod
    def decode_untrusted(cls, body: Mapping[str, object]) -> "TunnelRequest":
        """Decode the body. Raises `ProblemError` (4.00)."""
        service = body.get("service")
        is_text = isinstance(service, str) and 0 < len(service) <= TUNNEL_NAME_CHARACTERS_MAX
        if set(body) != {"service"} or not isinstance(service, str) or not is_text:
            raise malformed("the body is not the name of a service", "Send {service: text}.")
        return cls(service)


class TunnelResource(Resource):
    """/tunnels."""

    ct = CBOR
    rt = "handfast.tunnels"

    def __init__(self, guard: Guard, tunnels: Tunnels, *, limits: Limits) -> None:
        super().__init__()
        self._guard = guard
        self._tunnels = tunnels
        self._limits = limits

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Return the names of the services that the sender may connect to, sorted."""
        peer = peer_of(request)
        allowed = [
            name
            for name in sorted(self._tunnels.services)
            if self._guard.may(peer, CONNECT, {TUNNEL_SERVICE: name})
        ]
        return reply(request, {"services": allowed})

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """Open a tunnel to a service, or return the one that the session has."""
        asked = TunnelRequest.decode_untrusted(read_map(request, limits=self._limits))
        self._guard.require(request, CONNECT, {TUNNEL_SERVICE: asked.service})
        remote: CoapsRemote = request.remote
        try:
            tunnel = await self._tunnels.open(remote, asked.service)
        except NoSuchService:
            raise ProblemError(
                "not-found",
                f"the device has no service {asked.service!r}",
                "`handfast services` lists those that you may use.",
            ) from None
        except TooManyTunnels:
            raise ProblemError(
                "too-many",
                "this session has too many tunnels",
                "Use fewer services at once, or another session.",
            ) from None
        except ServiceDown as error:
            raise ProblemError(
                "service-down",
                f"the service {asked.service!r} does not answer on the device: {error}",
                "Start it on the device, or correct its address in [tunnel.services].",
            ) from error
        body = {"id": tunnel.id, "service": tunnel.service}
        return reply(request, body, code=Code.CREATED)


def add_tunnels(
    site: GuardedSite,
    guard: Guard,
    identity: Identity,
    services: Mapping[str, str],
    *,
    limits: Limits,
    counters: Counter[str],
) -> Tunnels:
    """Serve `/tunnels` on the regular port, and return the tunnels, which have to be closed."""

    def is_allowed(peer: PeerIdentity, service: str) -> bool:
        try:
            guard.require_of(peer, CONNECT, {TUNNEL_SERVICE: service})
        except ProblemError:
            return False
        return True

    tunnels = Tunnels(
        identity, services, is_allowed=is_allowed, random_bytes=os.urandom, counters=counters
    )
    site.add(PATH, TunnelResource(guard, tunnels, limits=limits))
    guard.rules.add(PATH, ACTIONS, late=LATE)
    return tunnels
