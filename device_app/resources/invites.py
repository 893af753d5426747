"""/iam/invites: create, list and withdraw invites (protocol §6.1; regular port).

The token is in the answer to POST only; no one can ask for it again, not even an owner.
"""

from collections.abc import Iterable

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.access.guard import Guard
from device_app.access.invitations import Invitations, InviteRequest
from device_app.resources.payloads import CBOR, read_map, reply
from iam.model import Invite
from peer.limits import Limits

# For all methods but GET, the handler finds out the target.
INVITES = {"GET": "Iam:ListInvites", "POST": "Iam:CreateInvite"}
INVITE = {"DELETE": "Iam:RemoveInvite"}


class Invites(Resource):
    """/iam/invites and /iam/invites/{id}."""

    ct = CBOR
    rt = "handfast.invites"

    def __init__(self, guard: Guard, invitations: Invitations, *, limits: Limits) -> None:
        super().__init__()
        self._guard = guard
        self._invitations = invitations
        self._limits = limits

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Return the invites that can be redeemed, without their tokens."""
        return reply(request, self._invitations.listed())

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """Create an invite, and return it with its token."""
        body = read_map(request, limits=self._limits)
        with self._guard.changing(request, "Iam:CreateInvite"):
            invite = self._invitations.new_invite(InviteRequest.parse_untrusted(body))
            targets = _targets(self._invitations.names_of(invite), invite)
            subject = self._guard.require(request, "Iam:CreateInvite", *targets)
            made = self._invitations.add(subject, invite)
        return reply(request, made, code=Code.CREATED, location=("iam", "invites", invite.id))

    async def render_delete(self, request: aiocoap.Message) -> aiocoap.Message:
        """Withdraw an invite."""
        (invite_id,) = request.opt.uri_path
        with self._guard.changing(request, "Iam:RemoveInvite"):
            invite = self._invitations.find(invite_id)
            target = {"IAM:Username": invite.name, "IAM:RoleId": invite.role}
            subject = self._guard.require(request, "Iam:RemoveInvite", target)
            self._invitations.withdraw(subject, invite_id)
        return aiocoap.Message(code=Code.DELETED)


def _targets(names: Iterable[str], invite: Invite) -> list[dict[str, str]]:
    """Return the targets of creating an invite: the user of each use."""
    target = {"IAM:RoleId": invite.role}
    if invite.key:
        target["IAM:Fingerprint"] = invite.key
    return [{**target, "IAM:Username": name} for name in names]
