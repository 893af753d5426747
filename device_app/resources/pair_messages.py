"""Bodies of the pairing port: what a client sends, and what the device answers (protocol §5)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import aiocoap
from aiocoap.numbers.codes import Code

from device_app.access.error_answers import error_answers, malformed
from device_app.limits import QUOTED_QUERY_CHARACTERS, RETRY_PAIRING_SECONDS
from device_app.resources.payloads import text_field
from iam.model import User
from peer.identity import Fingerprint
from peer.net.problem import REASONS, ProblemError
from peer.pairing.ceremony import Ceremony, Fields, State
from peer.pairing.errors import CeremonyError, LockedOut, Misuse
from peer.pairing.names import default_name

VERSION = 1
Answer = dict[str, object]
"""A CBOR map."""


@dataclass(frozen=True, slots=True)
class PairStart:
    """`pair-start`. An empty role asks for the window's role; `fields` are those of the method."""

    method: str
    name: str
    role: str
    fields: Fields

    @classmethod
    def decode_untrusted(cls, body: Mapping[str, object]) -> "PairStart":
        """Decode the body of POST /pair. Raises `ProblemError` (4.00)."""
        return cls(
            text_field(body, "method"),
            text_field(body, "name"),
            text_field(body, "role", default=""),
            body,
        )


def plain_name_untrusted(request: aiocoap.Message, fingerprint: Fingerprint) -> str:
    """Return the name in the query of a plain POST, or a default. Raises `ProblemError` (4.00)."""
    queries = request.opt.uri_query
    if not queries:
        return default_name(fingerprint)
    key, equals, value = str(queries[-1]).partition("=")
    if len(queries) > 1 or key != "name" or not equals:
        raise malformed(
            f"the query {key[:QUOTED_QUERY_CHARACTERS]!r} is not known here",
            "Send name=NAME, or no query.",
        )
    return value


def offer(
    device: Fingerprint, *, name: str, methods: Sequence[str], seconds: float, port: int
) -> Answer:
    """Return `offer`; `port` is the regular port, for a client on a network without mDNS."""
    return {
        "version": VERSION,
        "id": device.device_id,
        "name": name,
        "methods": list(methods),
        "seconds": round(seconds),
        "fingerprint": device.hex,
        "port": port,
    }


def started(ceremony: Ceremony) -> Answer:
    """Return `pair-started`, with the fields of the method."""
    return {
        "id": ceremony.id,
        "window": ceremony.window_id,
        "state": ceremony.state.value,
        "role": ceremony.role,
        **ceremony.answer,
    }


def known(user: User) -> Answer:
    """Return `pair-known`: the user is registered already."""
    return {"state": State.REGISTERED.value, "user": user.name, "role": user.role}


def state(ceremony: Ceremony) -> Answer:
    """Return `pair-state`."""
    answer: Answer = {"state": ceremony.state.value}
    if ceremony.state is State.REGISTERED:
        answer |= {"user": ceremony.user, "role": ceremony.role}
    return answer


def exchanged(ceremony: Ceremony) -> Answer:
    """Return the answer to the second message of a method."""
    return {**state(ceremony), **ceremony.answer}


def confirmed(ceremony: Ceremony) -> Answer:
    """Return `pair-confirmed`, with the device's tag."""
    return {**state(ceremony), "confirm": ceremony.device_tag}


def plain_refusal(ended: Ceremony) -> ProblemError:
    """Return the answer to a plain POST whose ceremony ended without a user."""
    if ended.state is not State.REFUSED:
        return ProblemError(
            "window-closed",
            "the device's user did not answer in time",
            "Open the window at the device and try again.",
        )
    why = (
        "two different clients tried to pair, so both were refused"
        if ended.reason == "overlap"
        else "the device's user refused"
    )
    return ProblemError("refused", why, "Ask the user at the device, then try again.")


@contextmanager
def pairing_errors(*, busy: Code = Code.CONFLICT) -> Iterator[None]:
    """Turn the errors of the pairing service into the answers of protocol §7.

    `busy` is the code for "not now": for a start 5.03, since the same request may succeed later.
    """
    try:
        with error_answers():
            yield
    except Misuse:
        raise  # a fault of the device: 5.00, and the log has the reason
    except LockedOut as error:
        wait = max(1, round(error.retry_after))
        raise ProblemError(error.reason, str(error), error.advice, max_age=wait) from error
    except CeremonyError as error:
        reason = error.reason if error.reason in REASONS else "refused"
        code = busy if reason == "busy" else None
        is_temporary = code is Code.SERVICE_UNAVAILABLE or reason == "too-many"
        max_age = RETRY_PAIRING_SECONDS if is_temporary else None
        raise ProblemError(reason, str(error), error.advice, code=code, max_age=max_age) from error
