"""Who asks, and may they? The one place where a peer of the network meets a subject of iam.

The order is protocol §6 and behaviour 31: first who it is, then what it may, then what there is. An
unpaired key learns nothing but that it is unpaired, whatever path it asks for; a paired one is told
what right it lacks, and gets 4.04 and 4.05 only where it may do something at all.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiocoap
from aiocoap.error import RenderableError
from aiocoap.numbers.codes import Code

from device_app.whitelist import Whitelist
from iam.builtin import OWNER
from iam.errors import IamError, StoreWriteFailed
from iam.model import Lapse, Subject
from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.net.coaps import PeerIdentity, peer_of
from peer.net.endpoint import Standing
from peer.net.problem import ProblemError

_log = logging.getLogger("handfast.guard")
Path = tuple[str, ...]
Pattern = tuple[str | None, ...]

_CODES: Mapping[str, Code] = {
    "malformed": Code.BAD_REQUEST,
    "denied": Code.FORBIDDEN,
    "not-found": Code.NOT_FOUND,
    "taken": Code.CONFLICT,
    "last-owner": Code.CONFLICT,
    "limit": Code.CONFLICT,
}


@dataclass(frozen=True, slots=True)
class Asker:
    """Who sends a request: the key and its path, and what iam makes of it now."""

    peer: PeerIdentity
    subject: Subject


class StoreFailed(RenderableError):  # type: ignore[misc]  # aiocoap has no types
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
    except Malformed as error:
        raise malformed(str(error), error.advice) from error
    except IamError as error:
        code = _CODES.get(error.reason)
        if code is None:
            raise
        raise ProblemError(code, error.reason, str(error), error.advice) from error


def malformed(title: str, advice: str) -> ProblemError:
    """4.00: what was sent does not parse or does not fit."""
    return ProblemError(Code.BAD_REQUEST, "malformed", title, advice)


class Guard:
    """Knows which action each method of each path asks for, and asks iam about it."""

    def __init__(self, whitelist: Whitelist) -> None:
        self._whitelist = whitelist
        self._rules: dict[Pattern, Mapping[str, str]] = {}

    def rule(self, pattern: Pattern, actions: Mapping[str, str]) -> None:
        """Method → action for a path; None in the pattern stands for any one segment."""
        self._rules[pattern] = dict(actions)

    def asker(self, request: aiocoap.Message) -> Asker:
        """Who sends this request."""
        peer = peer_of(request)
        return Asker(peer, self._whitelist.subject(peer.fingerprint.hex))

    def authorise(self, request: aiocoap.Message, path: Path, resource: Any) -> None:
        """Raise `ProblemError` unless the request may go on. The hook of `GuardedSite`."""
        subject = self.asker(request).subject
        actions = self._actions(path) if resource is not None else None
        if actions is None:
            if subject.user is None:
                raise self._refusal(subject, "")
            raise ProblemError(
                Code.NOT_FOUND,
                "not-found",
                "there is no such resource",
                "`/.well-known/core` lists what you may read.",
            )
        action = actions.get(str(request.code))
        if action is None:
            # Known to whoever may do something here; to others it is one more thing they lack.
            allowed = (one for one in actions.values() if self._may(subject, one))
            if next(allowed, None) is None:
                raise self._refusal(subject, next(iter(actions.values()), ""))
            raise ProblemError(
                Code.METHOD_NOT_ALLOWED,
                "method-not-allowed",
                f"this resource has no {request.code}",
                f"It has: {', '.join(sorted(actions))}.",
            )
        if not self._may(subject, action):
            raise self._refusal(subject, action)

    def may_get(self, subject: Subject, path: Path) -> bool:
        """Whether this subject may GET a path: what `/.well-known/core` tells it of."""
        action = (self._actions(path) or {}).get("GET")
        return action is not None and self._may(subject, action)

    def standing(self, fingerprint: Fingerprint) -> Standing:
        """What a key is worth when sessions are evicted; expiry counts."""
        subject = self._whitelist.subject(fingerprint.hex)
        if subject.user is None:
            return Standing.UNPAIRED
        return Standing.OWNER if subject.role == OWNER else Standing.PAIRED

    def _may(self, subject: Subject, action: str) -> bool:
        return self._whitelist.decide(subject, action).allowed

    def _actions(self, path: Path) -> Mapping[str, str] | None:
        if (exact := self._rules.get(path)) is not None:
            return exact
        for pattern, actions in self._rules.items():
            if len(pattern) == len(path) and all(
                wanted in (None, got) for wanted, got in zip(pattern, path, strict=True)
            ):
                return actions
        return None

    def _refusal(self, subject: Subject, action: str) -> ProblemError:
        decision = self._whitelist.decide(subject, action)
        _log.debug("refused %s: %s", subject.fingerprint, decision.reason)
        if subject.user is not None:
            return ProblemError(
                Code.FORBIDDEN, "denied", "you may not do this here", decision.missing
            )
        if subject.lapse is Lapse.NONE:
            return ProblemError(
                Code.FORBIDDEN,
                "not-paired",
                "this device does not know your key",
                "Pair first: open the window at the device (`handfast-device open`), "
                "then run `handfast pair`.",
            )
        title = "your access has ended" if subject.lapse is Lapse.EXPIRED else "not yet"
        return ProblemError(Code.FORBIDDEN, "not-paired", title, decision.missing)
