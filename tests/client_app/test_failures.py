"""The order in which failed addresses are reported, and the advice about the first."""

from __future__ import annotations

import errno
import itertools

import pytest

from client_app.failures import Failure, most_significant, with_device, without_unusable
from peer.errors import Cause, HandshakeFailed, PeerError, PinMismatch, TimedOut, Unreachable
from peer.net.address import Address, resolve
from peer.net.socket_reports import unreachable

A = Address("192.0.2.1", 5684)
#: The failure that says most comes first.
ORDER: list[PeerError] = [
    HandshakeFailed("handshake"),
    Unreachable("refused", refused=True),
    Unreachable("rejected", cause=Cause.FORBIDDEN),
    TimedOut("silent"),
    Unreachable("other"),
    Unreachable("no route", cause=Cause.NO_NETWORK),
    Unreachable("no name", cause=Cause.NO_NAME),
    Unreachable("no scope", cause=Cause.NO_SCOPE),
]


@pytest.mark.parametrize(("more", "less"), [*itertools.combinations(ORDER, 2)], ids=str)
@pytest.mark.parametrize("is_first", [True, False])
def test_what_says_more_comes_first(more: PeerError, less: PeerError, *, is_first: bool) -> None:
    """The order of the attempts, and what was announced, do not decide."""
    both = [Failure(more, is_hint=is_first), Failure(less, is_hint=not is_first)]
    error = most_significant(both if is_first else both[::-1])
    assert type(error) is type(more)
    assert str(error).startswith(str(more))


@pytest.mark.parametrize("other", ORDER, ids=str)
def test_an_alarm_and_an_answer_come_before_all_others(other: PeerError) -> None:
    mismatch = PinMismatch("11" * 32, "22" * 32)
    assert most_significant([Failure(other), Failure(mismatch)]) is mismatch
    answer = PeerError("answered")
    found = most_significant([Failure(other), Failure(mismatch), Failure(answer, is_answer=True)])
    assert found is answer


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ORDER[1], "its daemon is stopped"),
        (ORDER[3], "UDP port 5684 is blocked"),
    ],
    ids=str,
)
def test_an_announcement_shows_that_the_device_is_on(error: PeerError, words: str) -> None:
    advice = most_significant([Failure(error, address=A)], is_announced=True).advice
    assert "is on" in advice
    assert words in advice
    assert "is on" not in most_significant([Failure(error)]).advice


def test_an_announcement_says_nothing_about_other_causes() -> None:
    for error in (ORDER[2], *ORDER[4:]):
        assert "is on" not in most_significant([Failure(error)], is_announced=True).advice


def test_a_link_local_address_is_left_out_if_it_was_tried_with_its_interface() -> None:
    bare, scoped = Address("fe80::1", 5684), Address("fe80::1", 5684, 2)
    other = Address("fe80::9", 5684)
    failures = [Failure(ORDER[7], address=one) for one in (bare, scoped, other, A)]
    assert [one.address for one in without_unusable(failures)] == [scoped, other, A]


@pytest.mark.parametrize("error", [*ORDER[1:], TimedOut("late", advice="Wait.")], ids=str)
def test_the_alias_and_the_next_step_are_added(error: PeerError) -> None:
    assert isinstance(error, (Unreachable, TimedOut))
    named = with_device(error, "kitchen")
    assert str(named) == f"cannot reach kitchen: {error}"
    assert named.advice == f"{error.advice} Run `handfast doctor kitchen`.".strip()
    assert named.exit_code == error.exit_code
    assert getattr(named, "cause", None) == getattr(error, "cause", None)


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ECONNREFUSED, Cause.REFUSED),
        (errno.EHOSTUNREACH, Cause.FORBIDDEN),
        (errno.EACCES, Cause.FORBIDDEN),
        (errno.EPERM, Cause.FORBIDDEN),
        (errno.ENETUNREACH, Cause.NO_NETWORK),
        (errno.EMSGSIZE, Cause.UNKNOWN),
    ],
)
def test_each_report_of_the_kernel_has_words_and_advice(number: int, cause: Cause) -> None:
    error = unreachable(A, OSError(number, "as the kernel says"))
    assert error.cause is cause
    assert str(A) in str(error)
    assert error.advice
    assert error.refused == (cause is Cause.REFUSED)


async def test_an_interface_that_is_gone_is_not_a_wrong_spelling() -> None:
    with pytest.raises(Unreachable, match="no network interface wlan7") as caught:
        await resolve("fe80::1%wlan7", 5684)
    assert caught.value.cause is Cause.NO_SCOPE
    with pytest.raises(Unreachable) as other:
        await resolve("kitchen.invalid", 5684)
    assert other.value.cause is Cause.NO_NAME
