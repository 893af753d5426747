"""The guard of the pairing port: clients on the local network only, whatever their key."""

import aiocoap

from device_app.access.audit_log import AuditLog
from device_app.access.event_kind import EventKind
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity, peer_of


class LocalOnly:
    """Refuses requests of sessions that did not come over the local link alone."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def authorise(
        self, request: aiocoap.Message, _path: tuple[str, ...], _resource: object
    ) -> None:
        """Raise `ProblemError` (4.03 `not-local`) for a request that may have been routed.

        The verdict is about all datagrams of the session so far; the refusal is audited.
        """
        self.check(peer_of(request))

    def check(self, peer: PeerIdentity) -> None:
        """Check a peer whose request was admitted before."""
        if peer.is_local:
            return
        verdict = peer.verdict
        refusal = self._audit.event(
            EventKind.NOT_LOCAL,
            fingerprint=peer.fingerprint.hex,
            address=str(peer.address),
            interface=verdict.interface or peer.interface,
            hop_limit=verdict.hop_limit,
            result=verdict.rule,
            detail=verdict.detail,
        )
        self._audit.append_refusal(refusal)
        raise ProblemError(
            "not-local",
            "pairing is for direct neighbours only",
            "Join the device's own network, without a router or a tunnel in between. "
            "If both run on one machine, start the device with `--allow-loopback`. "
            "`handfast-device events` shows the rule that refused the client. "
            "A stock CoAP client needs a device with `--local compat`.",
        )
