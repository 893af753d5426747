"""POST /iam/redeem: an invite's token makes its holder a user (protocol §6.1; regular port).

This is the one resource with which a key that has no user can change anything. A token that this
device did not sign gets the same answer whatever is wrong with it; only the holder of a genuine
token learns why it is not valid any more. Refusals are audited within the budget of their source.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.access.audit_log import AuditLog
from device_app.access.error_answers import error_answers, malformed
from device_app.access.event_kind import EventKind
from device_app.access.invitations import Invitations
from device_app.resources.payloads import CBOR, read_map, reply
from iam.errors import IamError, InviteRefused, StoreError
from iam.model import User
from peer.errors import Malformed
from peer.limits import Limits
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity, peer_of

PATH = ("iam", "redeem")
ACTIONS = {"POST": "Iam:RedeemInvite"}
REASON = "invite"


@dataclass(frozen=True, slots=True)
class Redemption:
    """The body of the request."""

    token: bytes

    @classmethod
    def decode_untrusted(cls, body: Mapping[str, object]) -> "Redemption":
        """Decode the body. Raises `ProblemError` (4.00)."""
        token = body.get("token")
        if set(body) != {"token"} or not isinstance(token, bytes):
            raise malformed("the body is not a token alone", "Send {token: bytes}.")
        return cls(token)


class Redeem(Resource):
    """/iam/redeem."""

    ct = CBOR
    rt = "handfast.redeem"

    def __init__(
        self, invitations: Invitations, audit: AuditLog, *, device: str, limits: Limits
    ) -> None:
        super().__init__()
        self._invitations = invitations
        self._audit = audit
        self._device = device
        self._limits = limits

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """Redeem the token, and return the user that the key belongs to."""
        redemption = Redemption.decode_untrusted(read_map(request, limits=self._limits))
        with error_answers():
            user = self._redeem(redemption.token, peer_of(request))
        return reply(request, _redeemed(user, self._device), code=Code.CHANGED)

    def _redeem(self, token: bytes, peer: PeerIdentity) -> User:
        try:
            return self._invitations.redeem_untrusted(token, peer)
        except Malformed as error:
            self._audit_refusal(peer, str(error))
            raise ProblemError(REASON, str(error), error.advice) from error
        except (InviteRefused, StoreError):
            raise  # the registry has audited the first; the second is the disk's fault
        except IamError as error:
            self._audit_refusal(peer, str(error))
            raise

    def _audit_refusal(self, peer: PeerIdentity, reason: str) -> None:
        refusal = self._audit.event(
            EventKind.INVITE_REFUSED,
            fingerprint=peer.fingerprint.hex,
            address=str(peer.address),
            interface=peer.interface,
            result=reason,
        )
        self._audit.append_refusal(refusal)


def _redeemed(user: User, device: str) -> dict[str, object]:
    answer: dict[str, object] = {"user": user.name, "role": user.role, "name": device}
    if user.not_after is not None:
        answer["until"] = int(user.not_after)
    return answer
