"""POST /iam/redeem: an invite's token becomes a user (protocol §6.1; regular port, CBOR).

The one resource that a key without a user may change anything with. So a token that this device
did not sign is refused with the same words whatever is the matter with it, and only the holder of a
genuine one learns why it is worth nothing. Refusals are events, as many as a stranger is allowed.
"""

from typing import Any

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

ACTIONS = {"POST": "Iam:RedeemInvite"}
REASON = "invite"


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
        """{user, role, name, until?}: who the key is from now on."""
        body = read_map(request, limits=self._limits)
        if set(body) != {"token"} or not isinstance(body["token"], bytes):
            raise malformed("the body has to be a token alone", "Send {token: bytes}.")
        peer = peer_of(request)
        with error_answers():
            user = self._redeemed(body["token"], peer)
        view: dict[str, Any] = {"user": user.name, "role": user.role, "name": self._device}
        if user.not_after is not None:
            view["until"] = int(user.not_after)
        return reply(request, view, code=Code.CHANGED)

    def _redeemed(self, token: bytes, peer: PeerIdentity) -> User:
        try:
            return self._invitations.redeem_untrusted(token, peer)
        except Malformed as error:
            self._tell(peer, str(error))
            raise ProblemError(REASON, str(error), error.advice) from error
        except (InviteRefused, StoreError):
            raise  # the registry has logged the first; the second is the disk's fault
        except IamError as error:
            self._tell(peer, str(error))
            raise

    def _tell(self, peer: PeerIdentity, why: str) -> None:
        refusal = self._audit.event(
            EventKind.INVITE_REFUSED,
            fingerprint=peer.fingerprint.hex,
            address=str(peer.address),
            interface=peer.interface,
            result=why,
        )
        self._audit.append_refusal(refusal)
