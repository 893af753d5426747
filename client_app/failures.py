"""The failure that says most among several addresses, and what to do about it.

The causes are ordered by how much they say about the device: that a host refuses says more than
that none answers, and that says more than an address which this machine cannot use. What an
announcement has just shown counts as well: a device that is announced is on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from client_app.limits import REPORTED_FAILURES
from peer.errors import (
    Cause,
    Denied,
    HandshakeFailed,
    PeerError,
    PinMismatch,
    TimedOut,
    Unreachable,
)
from peer.net.address import Address


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of an attempt, or of a source of addresses.

    `is_hint`: the address was announced, and not stated. `is_answer`: a device with the right key
    answered with this error.
    """

    error: PeerError
    is_hint: bool = False
    is_answer: bool = False
    address: Address | None = None


_CAUSES: Final = (
    Cause.REFUSED,
    Cause.FORBIDDEN,
    None,  # TimedOut
    Cause.UNKNOWN,
    Cause.NO_NETWORK,
    Cause.NO_NAME,
    Cause.NO_SCOPE,
)
"""The causes of failures that are no answer of the device, the one that says most first."""


def most_significant(failures: Sequence[Failure], *, is_announced: bool = False) -> PeerError:
    """Choose or combine the errors of a search that found no session.

    An answer of the right device comes first, then a wrong key at a stated address, then a failed
    handshake, then the others by their cause. A wrong key at an announced address is mentioned, but
    is not a `PinMismatch`. `is_announced` tells that the device has just been heard by mDNS.
    """
    for failure in failures:
        if failure.is_answer:
            return failure.error
    strangers = sum(one.is_hint and isinstance(one.error, PinMismatch) for one in failures)
    ordered = [
        one
        for one in sorted(failures, key=lambda one: (_rank(one.error), one.is_hint))
        if not (one.is_hint and isinstance(one.error, PinMismatch))
    ]
    errors = [one.error for one in ordered]
    for kind in (PinMismatch, HandshakeFailed):
        for error in errors:
            if isinstance(error, kind):
                return error
    advice = _advice_if_announced(ordered[0]) if is_announced and ordered else ""
    if strangers:
        errors.insert(0, _other_key_announced(strangers))
        advice = ""
    if not errors:
        return Unreachable(
            "the device was not found on this network, and there is no other address to try",
            advice="Check that the device is on and on this network, or add an address with "
            "`handfast address`.",
        )
    return _combined(errors, advice)


def of_all_routes(addresses: Sequence[PeerError], path: PeerError | None) -> PeerError:
    """Combine the errors of the addresses with that of the path, which was tried last.

    Another key is an alarm, wherever it answered. Otherwise the path decides the kind of error and
    the advice, since it needs no address; what was tried before stays in the text.
    """
    if path is None:
        return addresses[0] if addresses else Unreachable("there is no route to the device")
    for error in (path, *addresses):
        if isinstance(error, PinMismatch):
            return error
    texts = dict.fromkeys(str(one) for one in (*addresses, path))
    text, advice = "; ".join(texts), path.advice
    if isinstance(path, Denied):
        return Denied(text, advice=advice)
    if isinstance(path, TimedOut):
        return TimedOut(text, advice=advice)
    cause = path.cause if isinstance(path, Unreachable) else Cause.UNKNOWN
    return Unreachable(text, advice=advice, cause=cause)


def with_device(error: Unreachable | TimedOut, alias: str) -> PeerError:
    """Return the error of a search for a paired device, with its alias."""
    text, more = f"cannot reach {alias}: {error}", f"Run `handfast doctor {alias}`."
    advice = f"{error.advice} {more}".strip()
    if isinstance(error, TimedOut):
        return TimedOut(text, advice=advice)
    return type(error)(text, advice=advice, cause=error.cause)


def no_settings(alias: str, routes: str) -> Unreachable:
    """Return the error for routes that need settings which this client does not have."""
    return Unreachable(
        f"{alias} cannot be reached by {routes}: this client has no settings for that",
        advice="Connect to it once at one of its addresses, for example on its network; the device "
        f"then hands them out. To see why it does not, run `handfast remote {alias} --refresh`.",
    )


def without_unusable(failures: Iterable[Failure]) -> list[Failure]:
    """Leave out a link-local address without an interface if it was tried with one."""
    failures = list(failures)
    scoped = {one.address.host for one in failures if one.address and one.address.scope}
    return [
        one
        for one in failures
        if not (one.address and one.address.needs_scope and one.address.host in scoped)
    ]


def other_key_here(address: Address) -> Unreachable:
    """The error for a wrong key at an address of this machine, which is no alarm."""
    return Unreachable(
        f"{address} is an address of this machine, where a device with another key answers",
        advice="The device has the same address on a network of its own. Add another address of "
        "it with `handfast address`.",
    )


def _rank(error: PeerError) -> int:
    if isinstance(error, TimedOut):
        return _CAUSES.index(None)
    return _CAUSES.index(error.cause if isinstance(error, Unreachable) else Cause.UNKNOWN)


def _combined(errors: Sequence[PeerError], advice: str) -> PeerError:
    """Return an error of the kind of the first, with the texts of all."""
    first = errors[0]
    texts = list(dict.fromkeys(str(error) for error in errors))
    left_out = len(texts) - REPORTED_FAILURES
    more = [f"and {left_out} more"] if left_out > 0 else []
    text = "; ".join([*texts[:REPORTED_FAILURES], *more])
    advice = advice or next((error.advice for error in errors if error.advice), "")
    if isinstance(first, TimedOut):
        return TimedOut(text, advice=advice)
    refused = any(isinstance(one, Unreachable) and one.refused for one in errors)
    cause = first.cause if isinstance(first, Unreachable) else Cause.UNKNOWN
    return Unreachable(text, advice=advice, refused=refused, cause=cause)


def blocked_advice(port: int | None) -> str:
    """Return what to do if a device is announced, but its port is silent."""
    which = f"UDP port {port}" if port else "its UDP port"
    return (
        f"The device is announced on this network, so it is on, but {which} is blocked. Allow it "
        "in the firewalls of the device and of this machine."
    )


def _advice_if_announced(failure: Failure) -> str:
    """Return what to do if the device is announced on this network: it is on, and has a network."""
    error = failure.error
    port = failure.address.port if failure.address else None
    if isinstance(error, TimedOut):
        return blocked_advice(port)
    if isinstance(error, Unreachable) and error.refused:
        return (
            "The device is announced on this network, so it is on, but its daemon is stopped, or "
            "uses another port. Run `handfast-device status` on the device."
        )
    return ""  # what rejects the packets is known already


def _other_key_announced(addresses: int) -> Unreachable:
    return Unreachable(
        f"a device with another key answered at {addresses} announced "
        f"{'address' if addresses == 1 else 'addresses'}",
        advice="Any host on this network can announce a device, so this may be a wrong "
        "announcement. No request was sent to it. If you know the device's address, add it with "
        "`handfast address`.",
    )


def stated(failures: Iterable[Failure], addresses: set[Address]) -> list[Failure]:
    """Count failures at stated addresses as stated, even if another host announces them as well."""
    return [replace(one, is_hint=one.is_hint and one.address not in addresses) for one in failures]
