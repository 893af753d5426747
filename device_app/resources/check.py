"""GET /iam/check: would this action be allowed? A dry run (protocol §6; regular port).

An action whose decision depends on attributes of the request itself is not allowed here: no answer
says yes to what a request could still be refused.
"""

from dataclasses import dataclass

from device_app.access.authority import Authority
from device_app.access.error_answers import error_answers, malformed
from device_app.access.guard import Guard
from device_app.limits import QUOTED_QUERY_CHARACTERS
from device_app.resources.payloads import CBOR
from device_app.resources.plain_resource import PlainResource, in_cbor
from iam.access import dependency_message
from iam.policy import ACTION
from peer.net.plain import Answer
from peer.net.remote import PeerIdentity

PATH = ("iam", "check")
ACTIONS = {"GET": "Iam:Check"}
_KEYS = ("action", "user")
_ADVICE = "Give action=MODULE:VERB."


@dataclass(frozen=True, slots=True)
class CheckQuery:
    """The queries of the request; without a user it is about the sender."""

    action: str
    user: str | None

    @classmethod
    def decode_untrusted(cls, queries: tuple[str, ...]) -> "CheckQuery":
        """Decode the queries. Raises `ProblemError` (4.00)."""
        found: dict[str, str] = {}
        for query in queries:
            key, equals, value = query.partition("=")
            if key not in _KEYS or not equals or key in found:
                raise malformed(
                    f"the query {key[:QUOTED_QUERY_CHARACTERS]!r} is not known here", _ADVICE
                )
            found[key] = value
        action = found.get("action", "")
        if not ACTION.fullmatch(action):
            raise malformed("action is missing or is not an action", _ADVICE)
        return cls(action, found.get("user"))


class Check(PlainResource):
    """/iam/check."""

    ct = CBOR
    rt = "handfast.check"

    def __init__(self, guard: Guard, authority: Authority) -> None:
        super().__init__()
        self._guard = guard
        self._authority = authority

    def answer(self, query: tuple[str, ...], sender: PeerIdentity, /) -> Answer:
        """Return the decision for the sender, or for another user as if they asked from here.

        Asking about another user needs Iam:GetUser on that user.
        """
        asked = CheckQuery.decode_untrusted(query)
        if asked.user is None:
            return in_cbor(self._own_decision(sender, asked.action))
        targets = self._guard.user_targets(("iam", "users", asked.user))
        self._guard.require_of(sender, "Iam:GetUser", *targets)
        return in_cbor(self._decision_for(asked.user, sender, asked.action))

    def _own_decision(self, sender: PeerIdentity, action: str) -> dict[str, object]:
        subject = self._guard.subject_of(sender)
        connection = self._guard.connection(sender)
        decision = self._authority.decide(subject, action, connection)
        depends = self._authority.access.depends_on(subject, action, connection)
        is_allowed = decision.allowed and not depends
        answer: dict[str, object] = {"action": action, "allowed": is_allowed}
        if not is_allowed:
            answer["missing"] = dependency_message(depends) if depends else decision.missing
        return answer | _depends(depends)

    def _decision_for(self, user: str, sender: PeerIdentity, action: str) -> dict[str, object]:
        with error_answers():
            explanation = self._authority.explain(user, action, self._guard.connection(sender))
        decision = explanation.decision
        answer = {"action": action, "allowed": decision.allowed, "reason": decision.reason}
        return answer | _depends(explanation.depends_on)


def _depends(names: tuple[str, ...]) -> dict[str, object]:
    return {"depends": list(names)} if names else {}
