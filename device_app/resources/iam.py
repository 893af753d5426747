"""/iam: who am I, who else is known, and what are the rules (protocol §6; regular port, CBOR).

The guard has checked that the subject may do this to the target in the path; where the body names
another target, `require` decides again. Beyond all policies stands
`iam.changes`, which every change goes through. A change is answered after it is durable.
"""

from typing import Any

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.access.access_control import AccessControl
from device_app.access.authority import Authority
from device_app.access.bodies import UserPatch, UserRequest, UserView, new_key_untrusted, user_view
from device_app.access.clock import Clock
from device_app.access.error_answers import error_answers
from device_app.access.explaining import policy_view, role_view
from device_app.access.fields import fingerprint_untrusted, refuse_unknown
from device_app.access.guard import Guard
from device_app.resources.payloads import CBOR, read_map, reply
from iam.model import Subject, User
from peer.limits import Limits
from peer.net.problem import ProblemError
from peer.net.remote import peer_of

ME = {"GET": "Iam:GetMe"}
USERS = {"GET": "Iam:ListUsers", "POST": "Iam:AddUser"}
USER = {
    "GET": "Iam:GetUser",
    "PATCH": "Iam:SetUser",
    "iPATCH": "Iam:SetUser",
    "POST": "Iam:SetUser",
    "DELETE": "Iam:RemoveUser",
}
KEY = {"PUT": "Iam:AddKey", "DELETE": "Iam:RemoveKey"}
ROLES = {"GET": "Iam:ListRoles"}
POLICIES = {"GET": "Iam:ListPolicies"}


class Me(Resource):
    """GET /iam/me: what a client asks after a crash, to learn how its pairing ended."""

    ct = CBOR
    rt = "handfast.me"

    def __init__(self, guard: Guard, authority: Authority, clock: Clock) -> None:
        super().__init__()
        self._guard = guard
        self._authority = authority
        self._clock = clock

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """{user, role, fingerprint, key, path, actions, now, conditional?, until?, receipt?}."""
        subject, peer = self._guard.subject(request), peer_of(request)
        user = subject.user
        if user is None:
            # A key that policy lets in without a user: it has a role and nothing else.
            raise ProblemError("not-paired", "this device does not know your key", "Pair first.")
        fingerprint = peer.fingerprint.hex
        key = user.key(fingerprint)
        access, connection = self._authority.access, self._guard.connection(peer)
        view: dict[str, Any] = {
            "user": user.name,
            "role": subject.role,
            "fingerprint": fingerprint,
            "key": key.name,
            "path": "local" if peer.is_local else "remote",
            "actions": list(access.actions_of(subject, attributes=connection)),
            "now": int(self._clock.now()),
        }
        if conditional := access.conditional_of(subject, connection):
            view["conditional"] = list(conditional)
        if user.not_after is not None:
            view["until"] = int(user.not_after)
        if key.receipt:  # in case the last answer of the pairing was lost (protocol §5.8)
            view["receipt"] = key.receipt
        return reply(request, view)


class Users(Resource):
    """/iam/users, /iam/users/{name} and /iam/users/{name}/keys/{fingerprint}."""

    ct = CBOR
    rt = "handfast.users"

    def __init__(self, guard: Guard, control: AccessControl, *, limits: Limits) -> None:
        super().__init__()
        self._guard = guard
        self._store = control.store
        self._registry = control.registry
        self._clock = control.clock
        self._limits = limits

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Everybody (however many blocks that takes), or one user."""
        path = tuple(request.opt.uri_path)
        users = self._store.state.users
        if not path:
            return reply(request, [self._view(users[name]) for name in sorted(users)])
        with error_answers():
            return reply(request, self._view(self._store.state.user(path[0])))

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """A new user; on a user it changes some fields, for clients without PATCH."""
        if request.opt.uri_path:
            return await self.render_patch(request)
        body = read_map(request, limits=self._limits)
        with self._guard.changing(request, "Iam:AddUser"):
            user = UserRequest.parse_untrusted(body).user(self._clock.now())
            subject = self._guard.require(request, "Iam:AddUser", *_targets(user))
            user = self._registry.add_user(subject, user)
        location = ("iam", "users", user.name)
        return reply(request, self._view(user), code=Code.CREATED, location=location)

    async def render_patch(self, request: aiocoap.Message) -> aiocoap.Message:
        """Change the fields that are given."""
        body = read_map(request, limits=self._limits)
        name = request.opt.uri_path[0]
        with self._guard.changing(request, "Iam:SetUser"):
            patch = UserPatch.parse_untrusted(body)
            subject = self._require_change(request, self._store.state.user(name), patch)
            user = self._registry.set_user(subject, name, patch)
        return reply(request, self._view(user), code=Code.CHANGED)

    render_ipatch = render_patch

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        """One more key for the user; the body may give it a name."""
        name, _, text = request.opt.uri_path
        body = read_map(request, limits=self._limits) if request.payload else {}
        with self._guard.changing(request, "Iam:AddKey"):
            refuse_unknown(body, {"name"})
            key = new_key_untrusted(text, body.get("name", ""), self._clock.now())
            user = self._registry.add_key(self._guard.subject(request), name, key)
        return reply(request, self._view(user), code=Code.CHANGED)

    async def render_delete(self, request: aiocoap.Message) -> aiocoap.Message:
        """The user, or one key of the user. Their sessions end at once."""
        actor = self._guard.subject(request)
        name, *key = request.opt.uri_path
        with self._guard.changing(request, "Iam:RemoveKey" if key else "Iam:RemoveUser"):
            if key:
                fingerprint = fingerprint_untrusted(key[-1])
                self._registry.remove_key(actor, name, fingerprint)
            else:
                self._registry.remove_user(actor, name)
        return aiocoap.Message(code=Code.DELETED)

    def _require_change(self, request: aiocoap.Message, user: User, patch: UserPatch) -> Subject:
        """The guard has asked about the user as they are; this is about what they will be. Both
        have to be allowed: who looks after guests neither makes nor touches anybody else."""
        target = {
            "IAM:Username": patch.name or user.name,
            "IAM:RoleId": patch.role or user.role,
        }
        return self._guard.require(request, "Iam:SetUser", target)

    def _view(self, user: User) -> UserView:
        return user_view(user, self._store.seen)


def _targets(user: User) -> list[dict[str, str]]:
    """Whom a new user is about: once, or once for each of the keys that come along."""
    target = {"IAM:Username": user.name, "IAM:RoleId": user.role}
    keys = [{"IAM:Fingerprint": key.fingerprint} for key in user.keys]
    return [{**target, **key} for key in keys or [{}]]


class Roles(Resource):
    """GET /iam/roles: [{id, rank, policies}], lowest first."""

    ct = CBOR
    rt = "handfast.roles"

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Every role there is."""
        roles = sorted(self._authority.access.roles.values(), key=lambda role: role.rank)
        return reply(request, [role_view(role) for role in roles])


class Policies(Resource):
    """GET /iam/policies: [{id, statements: [{effect, actions, conditions?}]}]."""

    ct = CBOR
    rt = "handfast.policies"

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Every policy there is."""
        policies = self._authority.access.policies
        return reply(request, [policy_view(policies[name]) for name in sorted(policies)])
