"""The errors of brokers, relays and ICE: why there is no remote connection."""

from enum import StrEnum
from typing import Final

from peer.errors import Unreachable


class ServerFailure(StrEnum):
    """Why a broker or a relay cannot be used."""

    UNREACHABLE = "unreachable"  # no address, no TCP connection, no answer, or the connection broke
    PIN_MISMATCH = "pin-mismatch"  # it proved a key other than the pinned one
    TLS_FAILED = "tls-failed"  # another error of TLS, such as an untrusted certificate
    REFUSED = "refused"  # it refuses the account, or what the account asks for
    NOT_HEARD = "not-heard"  # it does not deliver what the account publishes
    NO_CANDIDATE = "no-candidate"  # this machine or the other side has no usable address
    NO_PATH = "no-path"  # no pair of addresses works


_SERVER_ADVICE: Final = {
    ServerFailure.UNREACHABLE: "Check the network of this machine, the address and the port of "
    "{0}, and that no firewall blocks it.",
    ServerFailure.PIN_MISMATCH: "If the key of {0} was replaced, set the new pin at the device; a "
    "client fetches it at an address of the device. Otherwise do not continue: this may be a "
    "man-in-the-middle attack. No password was sent.",
    ServerFailure.TLS_FAILED: "Set the pin of {0}, or give it a certificate for its name that this "
    "system trusts.",
    ServerFailure.REFUSED: "Check the user name, the password and the access rights at {0}.",
    ServerFailure.NOT_HEARD: "Check the access rights at {0}: the account must read and write all "
    "topics below its prefix.",
    ServerFailure.NO_CANDIDATE: "Check that both sides have a network, and that a relay is set.",
    ServerFailure.NO_PATH: "Set a relay that both sides can reach.",
}


class BrokerError(Unreachable):
    """An MQTT broker cannot be used, or the connection to it was lost. `reason` says why."""

    def __init__(
        self,
        message: str,
        *,
        advice: str = "",
        reason: ServerFailure = ServerFailure.UNREACHABLE,
    ) -> None:
        super().__init__(message, advice=advice or _SERVER_ADVICE[reason].format("the broker"))
        self.reason = reason


class CarrierError(Unreachable):
    """ICE found no connection, or a relay cannot be used. `reason` says why."""

    def __init__(
        self,
        message: str,
        *,
        advice: str = "",
        reason: ServerFailure = ServerFailure.NO_PATH,
    ) -> None:
        super().__init__(message, advice=advice or _SERVER_ADVICE[reason].format("the relay"))
        self.reason = reason
