"""Authorizes every request: the one place where a network peer becomes a subject of iam.

The order is that of docs/protocol.md, section 2.5: first the subject, then its rights, then the
resource. A key without a user gets the same refusal on every path. A user is told which right is
missing, and gets 4.04 and 4.05 only where some right exists.

A decision considers, beside the subject:

- the connection: local or not, address, interface, path, and the device's time while it is known;
- the target that the path names. A user who does not exist counts as one of any role, so that a
  subject without rights about all users does not learn which users exist;
- the attributes of an application's resource. They cannot override the others, and are not asked
  for if the key has no user.

Over a remote path, each request also needs the right `Remote:Connect`, by the path of that moment:
the device could not know whether it would be direct or relayed when it let the client connect.

If the target is in the body (`PathRule.late`), the request passes if the action is possible for
some target, and its handler calls `require` after reading the body.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, assert_never

import aiocoap

from device_app.access.access_control import AccessControl
from device_app.access.authority import CONNECT
from device_app.access.error_answers import error_answers
from device_app.access.path_rules import Attributes, Path, PathRule, PathRules, no_target
from device_app.access.targets import user_targets
from iam.attributes import PATH, is_own, merged
from iam.builtin import OWNER, UNPAIRED
from iam.errors import Denied, TooMany
from iam.model import Inactive, Subject
from iam.policy import Decision
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.net.admission import SessionPriority
from peer.net.aiocoap_seam.copies import copied
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity, peer_of
from peer.net.request_options import method_name
from peer.net.session_route import SessionRoute

_log = logging.getLogger("handfast.guard")
_REMOTE: Final = frozenset({SessionRoute.DIRECT, SessionRoute.RELAY})
_PAIR_ADVICE: Final = (
    "Pair first: open the window at the device (`handfast-device open`), then run `handfast pair`."
)


class Guard:
    """Decides about requests by the rules of their paths, `rules`."""

    def __init__(self, control: AccessControl) -> None:
        self.rules = PathRules()
        self._store = control.store
        self._clock = control.clock
        self._authority = control.authority
        self._audit = control.audit
        self._warned: set[Path] = set()

    def subject(self, request: aiocoap.Message) -> Subject:
        """The subject that sends this request."""
        return self.subject_of(peer_of(request))

    def subject_of(self, peer: PeerIdentity) -> Subject:
        """The subject at the other side of a session."""
        return self._authority.subject(peer.key)

    def connection(self, peer: PeerIdentity) -> dict[str, str]:
        """The attributes of a connection, with the time."""
        found = {
            "Connection:IsLocal": "true" if peer.is_local else "false",
            "Connection:Address": peer.address.host,
            PATH: peer.path.value,
            **self._clock.attributes(),
        }
        if peer.interface:
            found["Connection:Interface"] = peer.interface
        return found

    # -- decisions ------------------------------------------------------------------------------

    def authorise(self, request: aiocoap.Message, path: Path, resource: object | None) -> None:
        """Let a request pass, or raise `ProblemError`.

        The hook of `GuardedSite`, also called for each notification of an observation.
        """
        peer, method = peer_of(request), str(request.code)
        if resource is not None and self.admit(peer, path, method):
            return
        now = self._clock.now()
        subject = self._authority.subject(peer.key, now)
        if subject.user is not None:
            self._store.note_seen(subject.fingerprint, now)
        rule = self.rules.find(path) if resource is not None else None
        refusal = self._path_refusal(subject, peer)
        if refusal is not None:
            raise refusal
        if rule is None:
            if subject.user is None:
                raise self._refusal(subject, peer, "")
            raise ProblemError(
                "not-found",
                "there is no such resource",
                "`handfast ls`, or a GET of `/.well-known/core`, lists what you may read.",
            )
        if method not in rule.actions:
            raise self._method_refusal(subject, request, path, rule)
        own = self._own_attributes(subject, request, path, rule)
        decision = self._decision(subject, peer, path, rule, method, own)
        if not decision.allowed:
            raise self._refusal(subject, peer, rule.actions[method], decision)
        self._log_allowed(subject, decision)

    def admit(self, peer: PeerIdentity, path: Path, method: str) -> bool:
        """Whether a request is allowed with certainty, without looking at its message.

        If it is, this has noted that the key is in use, as `authorise` does. If not, the request
        may still be allowed: `authorise` decides, and makes all refusals and events.
        """
        rule = self.rules.find(path)
        if rule is None or method not in rule.certain:
            return False
        now = self._clock.now()
        subject = self._authority.subject(peer.key, now)
        if subject.user is None or peer.path in _REMOTE:
            return False
        decision = None
        if rule.targets is no_target:
            decision = self._authority.access.settled(subject, rule.actions[method])
        if decision is None:
            decision = self._decision(subject, peer, path, rule, method, {})
        if not decision.allowed:
            return False
        self._store.note_seen(subject.fingerprint, now)
        self._log_allowed(subject, decision)
        return True

    def _path_refusal(self, subject: Subject, peer: PeerIdentity) -> ProblemError | None:
        """Return the refusal of a request over a remote path on which this key may not be."""
        if peer.path not in _REMOTE:
            return None
        decision = self._authority.decide(subject, CONNECT, self.connection(peer))
        return None if decision.allowed else self._refusal(subject, peer, CONNECT, decision)

    def _log_allowed(self, subject: Subject, decision: Decision) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            name = self._audit.actor_name(subject) or "unpaired"
            _log.debug("allowed %s: %s", name, decision.reason)

    def body_bytes(self, request: aiocoap.Message, limits: Limits) -> int:
        """The maximum length of a request's body; a key without a user sends an invite at most."""
        unpaired = self.subject(request).user is None
        return limits.unpaired_body_bytes if unpaired else limits.request_body_bytes

    def require(self, request: aiocoap.Message, action: str, *targets: Attributes) -> Subject:
        """Decide about each target that the body names, and return the subject.

        Raises:
            ProblemError: the action is denied for one of them.
        """
        return self.require_of(peer_of(request), action, *targets)

    def require_of(self, peer: PeerIdentity, action: str, *targets: Attributes) -> Subject:
        """The same by the sender of a request, or of a stream. A refusal is an event."""
        subject, connection = self.subject_of(peer), self.connection(peer)
        if (refusal := self._path_refusal(subject, peer)) is not None:
            raise refusal
        for target in targets or ({},):
            decision = self._authority.decide(subject, action, {**connection, **target})
            if not decision.allowed:
                raise self._refusal(subject, peer, action, decision)
        return subject

    def may(self, peer: PeerIdentity, action: str, target: Attributes) -> bool:
        """Whether the sender may perform an action on a target. A refusal is no event."""
        attributes = {**self.connection(peer), **target}
        return self._authority.decide(self.subject_of(peer), action, attributes).allowed

    @contextmanager
    def changing(self, request: aiocoap.Message, action: str) -> Iterator[None]:
        """`error_answers`, with an event if the rules of `iam` or the budget refuse the change."""
        with error_answers():
            try:
                yield
            except (Denied, TooMany) as error:
                self._record_denial(self.subject(request), peer_of(request), action, str(error))
                raise

    def may_get(self, request: aiocoap.Message, path: Path) -> bool:
        """Whether the sender of this request may GET a path, for `/.well-known/core`."""
        if (rule := self.rules.find(path)) is None or "GET" not in rule.actions:
            return False
        peer = peer_of(request)
        subject = self.subject_of(peer)
        try:
            own = self._own_attributes(subject, request, path, rule)
            return self._decision(subject, peer, path, rule, "GET", own).allowed
        except Exception:  # raised by the resource's own code; a request to it gets 5.00
            _log.exception("the attributes of /%s cannot be read", "/".join(path))
            return False

    def user_targets(self, path: Path) -> Sequence[Attributes]:
        """The targets of /iam/users/{name} and the paths below it."""
        return user_targets(self._store.state, self._authority.access.roles, path)

    def session_priority(self, fingerprint: Fingerprint) -> SessionPriority:
        """The priority of a key's sessions: high for owners, low for a key without access now."""
        subject = self._authority.subject(fingerprint.hex)
        if subject.user is None:
            return SessionPriority.LOW
        return SessionPriority.HIGH if subject.role == OWNER else SessionPriority.NORMAL

    def _decision(
        self,
        subject: Subject,
        peer: PeerIdentity,
        path: Path,
        rule: PathRule,
        method: str,
        own: Attributes,
    ) -> Decision:
        """The first denial among the targets, or the last permission.

        Attributes are built only if a condition can read them.
        """
        action = rule.actions[method]
        decided = subject
        if rule.as_unpaired and subject.user is not None:
            decided = Subject(subject.fingerprint, None, UNPAIRED)
        targets = rule.targets(path)
        decision = self._authority.access.settled(decided, action) if targets else None
        if decision is None:
            decision = self._decision_about(decided, peer, targets, rule, method, own)
        if decided is not subject and not decision.allowed:
            return replace(decision, missing=f"No user has the right {action} on this device.")
        return decision

    def _decision_about(
        self,
        subject: Subject,
        peer: PeerIdentity,
        targets: Sequence[Attributes],
        rule: PathRule,
        method: str,
        own: Attributes,
    ) -> Decision:
        decide = self._authority.conceivable if method in rule.late else self._authority.decide
        connection = self.connection(peer)
        decision = Decision(False, "there is no target")
        for target in targets:
            attributes = merged({**connection, **target}, own)
            decision = decide(subject, rule.actions[method], attributes)
            if not decision.allowed:
                break
        return decision

    def _own_attributes(
        self, subject: Subject, request: aiocoap.Message, path: Path, rule: PathRule
    ) -> Attributes:
        if rule.own is None or subject.user is None:
            return {}
        own = rule.own(copied(request, uri_path=path))  # without a trailing slash
        if path not in self._warned and (reserved := sorted(filter(is_own, own))):
            self._warned.add(path)
            _log.warning(
                "/%s sets %s, which only handfast can set", "/".join(path), ", ".join(reserved)
            )
        return own

    # -- refusals -------------------------------------------------------------------------------

    def _method_refusal(
        self, subject: Subject, request: aiocoap.Message, path: Path, rule: PathRule
    ) -> ProblemError:
        """4.05 if the subject may use another method here, or else 4.03."""
        own, peer = self._own_attributes(subject, request, path, rule), peer_of(request)
        if not any(
            self._decision(subject, peer, path, rule, method, own).allowed
            for method in rule.actions
        ):
            return self._refusal(subject, peer, next(iter(rule.actions.values()), ""))
        return ProblemError(
            "method-not-allowed",
            f"this resource has no {method_name(request)}",
            f"It has: {', '.join(sorted(rule.actions))}.",
        )

    def _refusal(
        self,
        subject: Subject,
        peer: PeerIdentity,
        action: str,
        decision: Decision | None = None,
    ) -> ProblemError:
        if decision is None:
            decision = self._authority.decide(subject, action)
        self._record_denial(subject, peer, action, decision.reason)
        if subject.user is not None:
            return ProblemError("denied", "you may not do this here", decision.missing)
        match subject.inactive:
            case Inactive.NONE:
                title, advice = "this device does not know your key", _PAIR_ADVICE
            case Inactive.EXPIRED:
                title, advice = "your access has ended", decision.missing
            case Inactive.NOT_YET:
                title, advice = "your access has not begun", decision.missing
            case _:
                assert_never(subject.inactive)
        return ProblemError("not-paired", title, advice)

    def _record_denial(
        self, subject: Subject, peer: PeerIdentity, action: str, reason: str
    ) -> None:
        if subject.user is None:
            _log.debug("refused %s: %s", subject.fingerprint, reason)
        else:
            _log.info("refused %s: %s", subject.user.name, reason)
        self._audit.append_denial(
            subject, action, reason, address=str(peer.address), interface=peer.interface
        )
