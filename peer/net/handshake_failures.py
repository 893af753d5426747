"""Counts failed handshakes by their cause, and logs those that only a person can correct."""

import logging
from collections import Counter

from peer.bounded_dict import BoundedDict
from peer.errors import HandshakeFailed, PeerError, UnsupportedKey
from peer.limits import MAX_LOGGED_PEERS
from peer.net.association import Association

_log = logging.getLogger(__name__)


class HandshakeFailures:
    """The failed handshakes of an endpoint. `counters` counts them by kind."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._logged: BoundedDict[str, None] = BoundedDict(MAX_LOGGED_PEERS)

    def note(self, association: Association) -> None:
        """Count a failed handshake; log an unsupported key, once per address."""
        failure = association.session.failure
        self._counters[_counter(failure)] += 1
        host = association.remote.host
        if isinstance(failure, UnsupportedKey) and host not in self._logged:
            self._logged[host] = None
            _log.warning(
                "refused a client at %s: %s. It needs a certificate with an EC key on "
                "prime256v1. Further refusals of this address are only counted.",
                host,
                failure,
            )


def _counter(failure: PeerError | None) -> str:
    if isinstance(failure, UnsupportedKey):
        return "handshakes-unsupported-key"
    # This is OpenSSL's reason; alerts and refused keys mention certificates, too.
    reason = "peer did not return a certificate"
    no_certificate = isinstance(failure, HandshakeFailed) and reason in str(failure)
    return "handshakes-without-certificate" if no_certificate else "handshakes-failed"
