"""Deadlines of the pairing window, and the cost of attempts."""

import contextlib

import pytest

from peer.errors import UsageError
from peer.limits import DEFAULT_LIMITS, Limits
from peer.pairing.budget import AttemptBudget
from peer.pairing.ceremony import Ceremony, OverlapRule, State
from peer.pairing.errors import (
    CeremonyError,
    LockedOut,
    NoSuchCeremony,
    NotOpen,
)
from peer.pairing.events import EventKind
from peer.pairing.window import Window
from peer.pairing.window_timer import Phase
from tests.kit.windows import ANNA, ASKED, BERT, client_of, kinds, open_window, start


def pair(window: Window, now: float = 0.0) -> Ceremony:
    ceremony = start(window, now)
    window.decide("c1", accept=True, now=now)
    window.complete("c1", client_of(ceremony).confirm(), now, session_id=1)
    return window.registered("c1", user="anna", now=now)


# Attempts.


def test_each_start_is_debited_and_a_success_resets_the_budget() -> None:
    window = open_window(budget=AttemptBudget(failures=8))
    start(window)
    assert window.budget.failures == 9
    window.decide("c1", accept=False, now=0.0)
    assert window.budget.failures == 9
    other = open_window(budget=window.budget)
    pair(other)
    assert other.budget.failures == 0


def test_a_backoff_applies_across_windows() -> None:
    window = open_window(budget=AttemptBudget(failures=9))
    start(window)  # the tenth failure
    window.decide("c1", accept=False, now=1.0)
    again = open_window(2.0, budget=window.budget)
    with pytest.raises(LockedOut) as caught:
        start(again, 2.0)
    assert caught.value.reason == "locked-out"
    assert caught.value.retry_after == 28.0
    assert again.budget == window.budget  # a refused start is not debited
    assert start(again, 30.0).state is ASKED


def test_the_tenth_attempt_can_succeed_despite_its_own_backoff() -> None:
    assert pair(open_window(budget=AttemptBudget(failures=9))).state is State.REGISTERED


# Time.


def test_a_user_has_120_seconds_and_a_program_60() -> None:
    window = open_window(seconds=900)
    start(window)
    assert window.next_deadline(0.0) == 120.0
    window.decide("c1", accept=True, now=10.0)
    assert window.next_deadline(10.0) == 120.0  # the client's user was asked at 0 s too
    other = open_window(seconds=900)
    start(other)
    other.decide("c1", accept=True, now=110.0)
    assert other.next_deadline(110.0) == 170.0
    assert other.expire(169.9) == []
    assert [c.state for c in other.expire(170.0)] == [State.EXPIRED]
    assert other.expire(170.0) == []


def test_late_steps_are_refused_without_a_timer() -> None:
    window = open_window(seconds=900)
    ceremony = start(window)
    with pytest.raises(NoSuchCeremony):
        window.decide("c1", accept=True, now=120.0)
    start(window, 130.0, ceremony_id="c2")
    window.decide("c2", accept=True, now=131.0)
    with pytest.raises(NoSuchCeremony):
        window.complete("c2", client_of(ceremony).confirm(), 250.0, session_id=1)


def test_the_window_closes_on_time_and_ends_its_ceremony() -> None:
    window = open_window()
    start(window, 100.0)
    assert window.next_deadline(100.0) == 120.0
    assert window.seconds_left(119.0) == 1.0
    ended = window.expire(120.0)
    assert [(c.state, c.reason) for c in ended] == [(State.EXPIRED, "window-closed")]
    assert not window.is_open(120.0)
    assert window.next_deadline(120.0) == 130.0
    window.notified("c1")
    assert window.phase is Phase.CLOSED
    assert window.next_deadline(120.0) is None


def test_the_port_of_an_unused_window_closes_with_it() -> None:
    window = open_window()
    assert window.next_deadline(0.0) == 120.0
    assert window.needs_port(119.9)
    assert not window.needs_port(120.0)
    assert kinds(window) == ["window-opened", "window-closed"]


def test_the_port_stays_open_until_the_result_is_read_or_for_10_seconds() -> None:
    window = open_window()
    pair(window, 5.0)
    assert not window.is_open(5.0)
    with pytest.raises(NotOpen):
        start(window, 5.0, ceremony_id="c2", fingerprint=BERT)
    assert window.needs_port(14.9)
    assert not window.needs_port(15.0)
    other = open_window()
    pair(other)
    other.notified("c1")
    assert not other.needs_port(0.0)


def test_the_port_does_not_stay_open_for_an_ended_session() -> None:
    window = open_window(limits=Limits(window_failures=1))
    start(window)
    window.session_ended(1, 1.0)
    assert not window.needs_port(1.0)


def test_extending_a_window_does_not_add_up() -> None:
    window = open_window()
    window.extend(60.0, 120.0)
    assert window.seconds_left(60.0) == 120.0
    window.extend(60.0, 30.0)
    assert window.seconds_left(60.0) == 120.0
    window.extend(60.0, 1e9)
    assert window.seconds_left(60.0) == 900.0
    with pytest.raises(NotOpen):
        window.extend(960.0, 120.0)


def test_the_open_time_of_a_window_is_capped() -> None:
    assert open_window(seconds=1e9).seconds_left(0.0) == DEFAULT_LIMITS.window_max_seconds


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("-inf")])
def test_a_window_requires_a_positive_time(seconds: float) -> None:
    with pytest.raises(UsageError) as caught:
        open_window(seconds=seconds)
    assert "900" in caught.value.advice


def test_closing_at_the_console_ends_the_ceremony() -> None:
    window = open_window()
    start(window)
    window.close(1.0)
    ended = window.find("c1", session_id=1)
    assert (ended.state, ended.reason) == (State.REFUSED, "closed")
    window.close(2.0)
    closings = [e for e in window.take_events() if e.kind is EventKind.WINDOW_CLOSED]
    assert [e.fields["reason"] for e in closings] == ["console"]


def test_the_reports_of_a_closed_window_are_bounded() -> None:
    window = open_window(overlap=OverlapRule.FIRST_WINS)
    for number in range(200):
        with contextlib.suppress(CeremonyError):
            start(window, 0.0, ceremony_id=f"c{number}", fingerprint=ANNA if number % 2 else BERT)
    window.close(1.0)
    assert len(window.take_events()) < 10
    assert len(window.take_ended()) <= DEFAULT_LIMITS.window_failures


def test_the_event_of_a_window_names_its_time_whatever_the_clock_shows() -> None:
    """4000.1 + 120 - 4000.1 is 120.00000000000045."""
    [event] = open_window(4000.1).take_events()
    assert event.fields["seconds"] == 120.0
