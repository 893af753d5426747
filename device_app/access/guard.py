"""Who asks, and may they? The one place where a peer of the network meets a subject of iam.

The order is that of protocol §2.5: first who it is, then what it may, then what there is. An
unpaired key learns nothing but that it is unpaired, whatever path it asks for; a paired one is told
what right it lacks, and gets 4.04 and 4.05 only where it may do something at all.

What a decision goes by, beside who asks:

- the connection: local or not, address, interface, and the device's time while it is known;
- the target, which a rule reads from the path. A user who is not there counts as one of any role:
  who may not ask about every user learns of none whether they exist;
- what the resource says of itself. It cannot speak for the first two, and is not asked at all for
  a key that nobody has.

Where the target stands in the body (`late`), the request goes on if the action is conceivable for
some target, and its handler calls `require` once it has read the body.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import aiocoap
from aiocoap.error import RenderableError
from aiocoap.numbers.codes import Code

from device_app.access.access_control import AccessControl
from iam.attributes import is_own, merged
from iam.builtin import OWNER, UNPAIRED
from iam.errors import Denied, IamError, StoreWriteFailed, TooMany
from iam.model import Inactive, Subject
from iam.policy import Decision
from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.net.admission import SessionPriority
from peer.net.coaps import PeerIdentity, peer_of
from peer.net.problem import REASONS, ProblemError

_log = logging.getLogger("handfast.guard")
Path = tuple[str, ...]
Pattern = tuple[str | None, ...]
Attributes = Mapping[str, str]
#: What a path is about: whoever asks must be allowed for each of these.
Targets = Callable[[Path], Sequence[Attributes]]
#: What a resource says of itself, by the request: its path, its queries and who sent it.
OwnAttributes = Callable[[aiocoap.Message], Mapping[str, str]]


class StoreFailed(RenderableError):
    """5.00 with an empty body: the disk does not take the change, and nothing was changed."""

    def to_message(self) -> aiocoap.Message:
        """The answer; the reason stands in the log and in `status`."""
        return aiocoap.Message(code=Code.INTERNAL_SERVER_ERROR)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the errors of a change into the answers of protocol §7."""
    try:
        yield
    except StoreWriteFailed as error:
        raise StoreFailed from error
    except TooMany as error:
        raise ProblemError(
            error.reason, str(error), error.advice, max_age=ceil(error.seconds)
        ) from error
    except Malformed as error:
        raise malformed(str(error), error.advice) from error
    except IamError as error:
        if error.reason not in REASONS:
            raise
        raise ProblemError(error.reason, str(error), error.advice) from error


def malformed(title: str, advice: str) -> ProblemError:
    """4.00: what was sent does not parse or does not fit."""
    return ProblemError("malformed", title, advice)


def no_target(_path: Path) -> Sequence[Attributes]:
    """For paths that are about nobody."""
    return ({},)


@dataclass(frozen=True, slots=True)
class Rule:
    """What requests to one path ask for: method → action. `late`: methods whose target stands in
    the body, `targets` and `own`: see `Targets` and `OwnAttributes`. `as_unpaired`: the role
    `unpaired` decides, whoever asks."""

    actions: Mapping[str, str]
    late: frozenset[str] = frozenset()
    targets: Targets = no_target
    own: OwnAttributes | None = None
    as_unpaired: bool = False


class Guard:
    """Knows which action each method of each path asks for, and asks iam about it."""

    def __init__(self, control: AccessControl) -> None:
        self._store = control.store
        self._clock = control.clock
        self._authority = control.authority
        self._audit = control.audit
        self._rules: dict[Pattern, Rule] = {}
        self._told: set[Path] = set()

    def rule(
        self,
        pattern: Pattern,
        actions: Mapping[str, str],
        *,
        late: Sequence[str] = (),
        targets: Targets = no_target,
        own: OwnAttributes | None = None,
        as_unpaired: bool = False,
    ) -> None:
        """What a path asks for; None in the pattern stands for any one segment."""
        self._rules[pattern] = Rule(dict(actions), frozenset(late), targets, own, as_unpaired)

    @property
    def rules(self) -> Mapping[Pattern, Mapping[str, str]]:
        """Path → method → action: all that can be asked for."""
        return {pattern: rule.actions for pattern, rule in self._rules.items()}

    def subject(self, request: aiocoap.Message) -> Subject:
        """The subject that sends this request."""
        return self._authority.subject(peer_of(request).fingerprint.hex)

    def connection(self, peer: PeerIdentity) -> dict[str, str]:
        """The attributes of a connection, and the time."""
        found = {
            "Connection:IsLocal": "true" if peer.is_local else "false",
            "Connection:Address": peer.address.host,
            **self._clock.attributes(),
        }
        if peer.interface:
            found["Connection:Interface"] = peer.interface
        return found

    # -- the two questions ----------------------------------------------------------------------

    def authorise(self, request: aiocoap.Message, path: Path, resource: Any) -> None:
        """Raise `ProblemError` unless the request may go on. The hook of `GuardedSite`; for each
        notification of an observation as well."""
        subject = self.subject(request)
        if subject.user is not None:
            self._store.note_seen(subject.fingerprint, self._clock.now())
        rule = self._rule(path) if resource is not None else None
        if rule is None:
            if subject.user is None:
                raise self._refusal(subject, request, "")
            raise ProblemError(
                "not-found",
                "there is no such resource",
                "`/.well-known/core` lists what you may read.",
            )
        method = str(request.code)
        if method not in rule.actions:
            self._refuse_method(subject, request, path, rule)
        decision = self._decision(subject, request, path, rule, method)
        if not decision.allowed:
            raise self._refusal(subject, request, rule.actions[method], decision)
        if _log.isEnabledFor(logging.DEBUG):
            name = self._audit.actor_name(subject) or "unpaired"
            _log.debug("allowed %s: %s", name, decision.reason)

    def body_bytes(self, request: aiocoap.Message, limits: Limits) -> int:
        """How long the body of a request may be: a key without a user has nothing to send but an
        invite's token."""
        unpaired = self.subject(request).user is None
        return limits.unpaired_body_bytes if unpaired else limits.request_body_bytes

    def require(self, request: aiocoap.Message, action: str, *targets: Attributes) -> Subject:
        """The decision about each target that the body named. Raises `ProblemError`."""
        subject = self.subject(request)
        connection = self.connection(peer_of(request))
        for target in targets or ({},):
            decision = self._authority.decide(subject, action, {**connection, **target})
            if not decision.allowed:
                raise self._refusal(subject, request, action, decision)
        return subject

    @contextmanager
    def changing(self, request: aiocoap.Message, action: str) -> Iterator[None]:
        """`refusals`, and a change that was above its actor, or one too many, is noted as every
        refusal is."""
        with refusals():
            try:
                yield
            except (Denied, TooMany) as error:
                self._note(self.subject(request), request, action, str(error))
                raise

    def may_get(self, request: aiocoap.Message, path: Path) -> bool:
        """Whether the sender of this request may GET a path: what `/.well-known/core` tells."""
        if (rule := self._rule(path)) is None or "GET" not in rule.actions:
            return False
        wanted = request.copy(uri_path=path)
        try:
            return self._decision(self.subject(request), wanted, path, rule, "GET").allowed
        except Exception:  # of the resource's own attributes; a request to it gets 5.00
            _log.exception("/%s cannot say what it is", "/".join(path))
            return False

    def user_targets(self, path: Path) -> Sequence[Attributes]:
        """The targets of /iam/users/{name} and what is below it."""
        name = path[2]
        target = {"IAM:Username": name}
        if len(path) > 4:
            target |= _key_named(path[4])
        user = self._store.state.users.get(name)
        if user is not None:
            return ({**target, "IAM:RoleId": user.role},)
        roles = self._authority.access.roles
        return (target, *({**target, "IAM:RoleId": role} for role in roles))

    def session_priority(self, fingerprint: Fingerprint) -> SessionPriority:
        """The priority of a key's sessions: high for owners, low for a key without access now."""
        subject = self._authority.subject(fingerprint.hex)
        if subject.user is None:
            return SessionPriority.LOW
        return SessionPriority.HIGH if subject.role == OWNER else SessionPriority.NORMAL

    # -- inside ---------------------------------------------------------------------------------

    def _rule(self, path: Path) -> Rule | None:
        if (exact := self._rules.get(path)) is not None:
            return exact
        for pattern, rule in self._rules.items():
            if len(pattern) == len(path) and all(
                wanted in (None, got) for wanted, got in zip(pattern, path, strict=True)
            ):
                return rule
        return None

    def _decision(
        self, subject: Subject, request: aiocoap.Message, path: Path, rule: Rule, method: str
    ) -> Decision:
        """The first refusal among the targets, or the last permission."""
        late = method in rule.late
        ask = self._authority.conceivable if late else self._authority.decide
        own = self._own(subject, request, path, rule)
        connection = self.connection(peer_of(request))
        decided = subject
        if rule.as_unpaired and subject.user is not None:
            decided = Subject(subject.fingerprint, None, UNPAIRED)
        decision = Decision(False, "there is no target")
        for target in rule.targets(path):
            attributes = merged({**connection, **target}, own)
            decision = ask(decided, rule.actions[method], attributes)
            if not decision.allowed:
                break
        if decided is not subject and not decision.allowed:
            nobody = f"Nobody has the right {rule.actions[method]} on this device."
            return replace(decision, missing=nobody)
        return decision

    def _own(
        self, subject: Subject, request: aiocoap.Message, path: Path, rule: Rule
    ) -> Mapping[str, str]:
        if rule.own is None or subject.user is None:
            return {}
        own = rule.own(request.copy(uri_path=path))  # a trailing slash makes no other resource
        if path not in self._told and (ours := sorted(name for name in own if is_own(name))):
            self._told.add(path)
            _log.warning("/%s says %s, which is not its to say", "/".join(path), ", ".join(ours))
        return own

    def _refuse_method(
        self, subject: Subject, request: aiocoap.Message, path: Path, rule: Rule
    ) -> None:
        """4.05 for whoever may do something here; to others it is one more thing they lack."""
        if not any(
            self._decision(subject, request, path, rule, method).allowed for method in rule.actions
        ):
            raise self._refusal(subject, request, next(iter(rule.actions.values()), ""))
        raise ProblemError(
            "method-not-allowed",
            f"this resource has no {request.code}",
            f"It has: {', '.join(sorted(rule.actions))}.",
        )

    def _refusal(
        self,
        subject: Subject,
        request: aiocoap.Message,
        action: str,
        decision: Decision | None = None,
    ) -> ProblemError:
        if decision is None:
            decision = self._authority.decide(subject, action)
        self._note(subject, request, action, decision.reason)
        if subject.user is not None:
            return ProblemError("denied", "you may not do this here", decision.missing)
        if subject.inactive is Inactive.NONE:
            return ProblemError(
                "not-paired",
                "this device does not know your key",
                "Pair first: open the window at the device (`handfast-device open`), "
                "then run `handfast pair`.",
            )
        title = "your access has ended" if subject.inactive is Inactive.EXPIRED else "not yet"
        return ProblemError("not-paired", title, decision.missing)

    def _note(self, subject: Subject, request: aiocoap.Message, action: str, reason: str) -> None:
        peer = peer_of(request)
        if subject.user is None:
            _log.debug("refused %s: %s", subject.fingerprint, reason)
        else:
            _log.info("refused %s: %s", subject.user.name, reason)
        self._audit.append_denial(
            subject, action, reason, address=str(peer.address), interface=peer.interface
        )


def _key_named(text: str) -> dict[str, str]:
    """The key that a path names; what is no fingerprint is the handler's to refuse."""
    try:
        return {"IAM:Fingerprint": Fingerprint.parse(text).hex}
    except Malformed:
        return {}
