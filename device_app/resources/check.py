"""GET /iam/check: may I, may they? A dry run of a decision (protocol §6; regular port, CBOR)."""

from typing import Any

import aiocoap
from aiocoap.resource import Resource

from device_app.access.authority import Authority
from device_app.access.error_answers import error_answers, malformed
from device_app.access.guard import Guard
from device_app.resources.payloads import CBOR, reply
from iam.access import dependency_message
from iam.policy import ACTION
from peer.net.remote import peer_of

ACTIONS = {"GET": "Iam:Check"}
_KNOWN = ("action", "user")


class Check(Resource):
    """Nothing is done, whatever the answer."""

    ct = CBOR
    rt = "handfast.check"

    def __init__(self, guard: Guard, authority: Authority) -> None:
        super().__init__()
        self._guard = guard
        self._authority = authority

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """{action, allowed, missing?, depends?} about oneself; with `user=`, which asks for
        Iam:GetUser on that user, {action, allowed, reason, depends?}: as if they asked from here
        and now. What depends on the request itself is not allowed: nobody is told yes before."""
        queries = _read(request)
        action = queries["action"]
        subject = self._guard.subject(request)
        connection = self._guard.connection(peer_of(request))
        if "user" not in queries:
            decision = self._authority.decide(subject, action, connection)
            depends = self._authority.access.depends_on(subject, action, connection)
            view: dict[str, Any] = {"action": action, "allowed": decision.allowed and not depends}
            if not view["allowed"]:
                view["missing"] = dependency_message(depends) if depends else decision.missing
            return reply(request, view | _depends(depends))
        name = queries["user"]
        targets = self._guard.user_targets(("iam", "users", name))
        self._guard.require(request, "Iam:GetUser", *targets)
        with error_answers():
            found = self._authority.explain(name, action, connection)
        decision = found.decision
        view = {"action": action, "allowed": decision.allowed, "reason": decision.reason}
        return reply(request, view | _depends(found.depends_on))


def _depends(names: tuple[str, ...]) -> dict[str, Any]:
    return {"depends": list(names)} if names else {}


def _read(request: aiocoap.Message) -> dict[str, str]:
    found: dict[str, str] = {}
    for query in request.opt.uri_query:
        key, equals, value = str(query).partition("=")
        if key not in _KNOWN or not equals or key in found:
            raise malformed(
                f"the query {key[:20]!r} means nothing here", "Give action=MODULE:VERB."
            )
        found[key] = value
    if not ACTION.fullmatch(found.get("action", "")):
        raise malformed("action is missing or is not one", "Give action=MODULE:VERB.")
    return found
