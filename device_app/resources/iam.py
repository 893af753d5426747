"""/iam: the sender's own user, all users, roles and policies (protocol §6; regular port).

The guard has decided about the target in the path; where the body names another target, `require`
decides again. Whatever policies allow, `iam.changes` checks every change against the rules that no
policy can lift. A change is answered after it is durable.
"""

from dataclasses import dataclass
from typing import Final

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.access.access_control import AccessControl
from device_app.access.authority import Authority
from device_app.access.bodies import UserPatch, UserRequest, UserView, new_key_untrusted, user_view
from device_app.access.clock import Clock
from device_app.access.error_answers import error_answers, malformed
from device_app.access.explaining import policy_view, role_view
from device_app.access.fields import fingerprint_untrusted, refuse_unknown
from device_app.access.guard import Guard
from device_app.access.user_pages import UserPages
from device_app.limits import (
    QUOTED_QUERY_CHARACTERS,
    USERS_PAGE_DEFAULT,
    USERS_PAGE_MAX,
    USERS_UNPAGED_MAX,
)
from device_app.resources.payloads import CBOR, read_map, reply, whole_number_untrusted
from device_app.resources.plain_resource import PlainResource, in_cbor
from iam.model import Subject, User
from peer.limits import Limits
from peer.net.plain import Answer
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity

_PAGE_ADVICE: Final = (
    f"Give count=N, from 1 to {USERS_PAGE_MAX}, and after=NAME for all pages but the first."
)

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


class Me(PlainResource):
    """/iam/me: a client that lost the last answer of its pairing learns here how it ended."""

    ct = CBOR
    rt = "handfast.me"

    def __init__(self, guard: Guard, authority: Authority, clock: Clock) -> None:
        super().__init__()
        self._guard = guard
        self._authority = authority
        self._clock = clock

    def answer(self, _query: tuple[str, ...], sender: PeerIdentity, /) -> Answer:
        """Return the user, key, role and allowed actions of the sender."""
        subject = self._guard.subject_of(sender)
        user = subject.user
        if user is None:
            # Policies can let a key without a user do this; there is nothing to return for it.
            raise ProblemError("not-paired", "this device does not know your key", "Pair first.")
        fingerprint = sender.fingerprint.hex
        key = user.key(fingerprint)
        access, connection = self._authority.access, self._guard.connection(sender)
        answer: dict[str, object] = {
            "user": user.name,
            "role": subject.role,
            "fingerprint": fingerprint,
            "key": key.name,
            "path": "local" if sender.is_local else "remote",
            "actions": list(access.actions_of(subject, attributes=connection)),
            "now": int(self._clock.now()),
        }
        if conditional := access.conditional_of(subject, connection):
            answer["conditional"] = list(conditional)
        if user.not_after is not None:
            answer["until"] = int(user.not_after)
        if key.receipt:  # in case the last answer of the pairing was lost (protocol §5.8)
            answer["receipt"] = key.receipt
        return in_cbor(answer)


@dataclass(frozen=True, slots=True)
class UsersQuery:
    """A page of users: at most `count`, whose names come after `after`."""

    after: str = ""
    count: int = USERS_PAGE_DEFAULT

    @classmethod
    def decode_untrusted(cls, request: aiocoap.Message) -> "UsersQuery | None":
        """Decode the queries; None if there are none. Raises `ProblemError` (4.00)."""
        found: dict[str, str] = {}
        for query in request.opt.uri_query:
            key, equals, value = str(query).partition("=")
            if key not in {"after", "count"} or not equals or key in found:
                raise malformed(
                    f"the query {key[:QUOTED_QUERY_CHARACTERS]!r} is not known here", _PAGE_ADVICE
                )
            found[key] = value
        if not found:
            return None
        text = found.get("count", str(USERS_PAGE_DEFAULT))
        if not (count := whole_number_untrusted(text, most=USERS_PAGE_MAX)):
            raise malformed("count is not a number in its range", _PAGE_ADVICE)
        return cls(found.get("after", ""), count)


class Users(Resource):
    """/iam/users, /iam/users/{name} and /iam/users/{name}/keys/{fingerprint}."""

    ct = CBOR
    rt = "handfast.users"

    def __init__(self, guard: Guard, control: AccessControl, *, limits: Limits) -> None:
        super().__init__()
        self._guard = guard
        self._store = control.store
        self._pages = UserPages(control.store)
        self._registry = control.registry
        self._clock = control.clock
        self._limits = limits

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Return users by name, a page or all, in as many blocks as that takes; or one user."""
        path = tuple(request.opt.uri_path)
        if not path:
            return reply(request, [self._view(user) for user in self._listed(request)])
        with error_answers():
            return reply(request, self._view(self._store.state.user(path[0])))

    def _listed(self, request: aiocoap.Message) -> list[User]:
        if (query := UsersQuery.decode_untrusted(request)) is not None:
            return self._pages.page(query.after, query.count)
        if (count := len(self._store.state.users)) > USERS_UNPAGED_MAX:
            raise malformed(f"{count} users are too many for one answer", _PAGE_ADVICE)
        return self._pages.page("", USERS_UNPAGED_MAX)

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """Add a user; POST on a user changes fields, for clients without PATCH."""
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
        """Change the fields of a user that the body has."""
        body = read_map(request, limits=self._limits)
        name = request.opt.uri_path[0]
        with self._guard.changing(request, "Iam:SetUser"):
            patch = UserPatch.parse_untrusted(body)
            subject = self._require_change(request, self._store.state.user(name), patch)
            user = self._registry.set_user(subject, name, patch)
        return reply(request, self._view(user), code=Code.CHANGED)

    render_ipatch = render_patch

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        """Add a key to a user; the body may give it a name."""
        name, _, text = request.opt.uri_path
        body = read_map(request, limits=self._limits) if request.payload else {}
        with self._guard.changing(request, "Iam:AddKey"):
            refuse_unknown(body, {"name"})
            key = new_key_untrusted(text, body.get("name", ""), self._clock.now())
            user = self._registry.add_key(self._guard.subject(request), name, key)
        return reply(request, self._view(user), code=Code.CHANGED)

    async def render_delete(self, request: aiocoap.Message) -> aiocoap.Message:
        """Remove a user, or one key of a user. Their sessions end at once."""
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
        """Decide about the user as changed; the guard has decided about the user as stored.

        Both have to be allowed: a subject who manages guests alone can neither promote a guest nor
        change another user.
        """
        target = {
            "IAM:Username": patch.name or user.name,
            "IAM:RoleId": patch.role or user.role,
        }
        return self._guard.require(request, "Iam:SetUser", target)

    def _view(self, user: User) -> UserView:
        return user_view(user, self._store.seen)


def _targets(user: User) -> list[dict[str, str]]:
    """Return the targets of adding a user: one, or one for each key."""
    target = {"IAM:Username": user.name, "IAM:RoleId": user.role}
    keys = [{"IAM:Fingerprint": key.fingerprint} for key in user.keys]
    return [{**target, **key} for key in keys or [{}]]


class Roles(PlainResource):
    """/iam/roles."""

    ct = CBOR
    rt = "handfast.roles"

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority

    def answer(self, _query: tuple[str, ...], _sender: PeerIdentity, /) -> Answer:
        """Return all roles, the lowest rank first."""
        roles = sorted(self._authority.access.roles.values(), key=lambda role: role.rank)
        return in_cbor([role_view(role) for role in roles])


class Policies(PlainResource):
    """/iam/policies."""

    ct = CBOR
    rt = "handfast.policies"

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority

    def answer(self, _query: tuple[str, ...], _sender: PeerIdentity, /) -> Answer:
        """Return all policies, by name."""
        policies = self._authority.access.policies
        return in_cbor([policy_view(policies[name]) for name in sorted(policies)])
