"""/iam: who am I, who else is known, and what are the rules (protocol §6; regular port, CBOR).

The guard has checked that the asker may do this kind of thing; what it may do to *whom* is checked
by `iam.changes`, which every change goes through. A change is answered after it is durable.
"""

from typing import Any

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app import wishes
from device_app.guard import Guard, refusals
from device_app.resources.wire import CBOR, read_map, reply
from device_app.whitelist import Whitelist
from iam.model import Subject
from iam.policy import Policy
from peer.limits import Limits
from peer.net.problem import ProblemError

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


class Me(Resource):  # type: ignore[misc]  # aiocoap has no types
    """GET /iam/me: what a client asks after a crash, to learn how its pairing ended."""

    ct = CBOR
    rt = "handfast.me"

    def __init__(self, guard: Guard, whitelist: Whitelist) -> None:
        super().__init__()
        self._guard = guard
        self._whitelist = whitelist

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """{user, role, fingerprint, key, path, actions, until?}."""
        asker = self._guard.asker(request)
        user = asker.subject.user
        if user is None:
            # A key that policy lets in without a user: it has a role and nothing else.
            raise ProblemError(
                Code.FORBIDDEN, "not-paired", "this device does not know your key", "Pair first."
            )
        fingerprint = asker.peer.fingerprint.hex
        view: dict[str, Any] = {
            "user": user.name,
            "role": asker.subject.role,
            "fingerprint": fingerprint,
            "key": user.key(fingerprint).name,
            "path": "local" if asker.peer.is_local else "remote",
            "actions": list(self._whitelist.access.actions_of(asker.subject)),
        }
        if user.not_after is not None:
            view["until"] = int(user.not_after)
        return reply(request, view)


class Users(Resource):  # type: ignore[misc]
    """/iam/users, /iam/users/{name} and /iam/users/{name}/keys/{fingerprint}."""

    ct = CBOR
    rt = "handfast.users"

    def __init__(self, guard: Guard, whitelist: Whitelist, *, limits: Limits) -> None:
        super().__init__()
        self._guard = guard
        self._whitelist = whitelist
        self._limits = limits

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Everybody (however many blocks that takes), or one user."""
        path = tuple(request.opt.uri_path)
        users = self._whitelist.state.users
        if not path:
            return reply(request, [wishes.user_view(users[name]) for name in sorted(users)])
        with refusals():
            return reply(request, wishes.user_view(self._whitelist.state.user(path[0])))

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """A new user; on a user it changes some fields, for clients without PATCH."""
        if request.opt.uri_path:
            return await self.render_patch(request)
        body = read_map(request, limits=self._limits)
        with refusals():
            wished = wishes.user_wished_untrusted(body, self._whitelist.now)
            user = self._whitelist.add_user(self._actor(request), wished)
        answer = reply(request, wishes.user_view(user), code=Code.CREATED)
        answer.opt.location_path = ("iam", "users", user.name)
        return answer

    async def render_patch(self, request: aiocoap.Message) -> aiocoap.Message:
        """Change the fields that are given."""
        body = read_map(request, limits=self._limits)
        with refusals():
            wished = wishes.changes_wished_untrusted(body)
            user = self._whitelist.set_user(self._actor(request), request.opt.uri_path[0], wished)
        return reply(request, wishes.user_view(user), code=Code.CHANGED)

    render_ipatch = render_patch

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        """One more key for the user; the body may give it a name."""
        name, _, text = request.opt.uri_path
        body = read_map(request, limits=self._limits) if request.payload else {}
        with refusals():
            key = wishes.key_wished_untrusted(text, body.get("name", ""), self._whitelist.now)
            user = self._whitelist.add_key(self._actor(request), name, key)
        return reply(request, wishes.user_view(user), code=Code.CHANGED)

    async def render_delete(self, request: aiocoap.Message) -> aiocoap.Message:
        """The user, or one key of the user. Their sessions end at once."""
        actor = self._actor(request)
        with refusals():
            name, *key = request.opt.uri_path
            if key:
                fingerprint = wishes.fingerprint_untrusted(key[-1])
                self._whitelist.remove_key(actor, name, fingerprint)
            else:
                self._whitelist.remove_user(actor, name)
        return aiocoap.Message(code=Code.DELETED)

    def _actor(self, request: aiocoap.Message) -> Subject:
        return self._guard.asker(request).subject


class Roles(Resource):  # type: ignore[misc]
    """GET /iam/roles: [{id, rank, policies}], lowest first."""

    ct = CBOR
    rt = "handfast.roles"

    def __init__(self, whitelist: Whitelist) -> None:
        super().__init__()
        self._whitelist = whitelist

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Every role there is."""
        roles = sorted(self._whitelist.access.roles.values(), key=lambda role: role.rank)
        return reply(
            request,
            [{"id": r.id, "rank": r.rank, "policies": list(r.policies)} for r in roles],
        )


class Policies(Resource):  # type: ignore[misc]
    """GET /iam/policies: [{id, statements: [{effect, actions}]}]."""

    ct = CBOR
    rt = "handfast.policies"

    def __init__(self, whitelist: Whitelist) -> None:
        super().__init__()
        self._whitelist = whitelist

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Every policy there is."""
        policies = self._whitelist.access.policies
        return reply(request, [_policy_view(policies[name]) for name in sorted(policies)])


def _policy_view(policy: Policy) -> dict[str, object]:
    statements = [
        {"effect": one.effect.value, "actions": list(one.actions)} for one in policy.statements
    ]
    return {"id": policy.id, "statements": statements}
