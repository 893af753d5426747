"""Rules of the pairing window (protocol §§4 and 5.3)."""

import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from peer.errors import Malformed, UsageError
from peer.pairing.ceremony import StartForm, State
from peer.pairing.compare import CompareDevice
from peer.pairing.errors import (
    Busy,
    Mismatch,
    NoSuchCeremony,
    NotOffered,
    NotOpen,
    Overlap,
    TooMany,
    UserRefused,
)
from peer.pairing.events import EventKind
from peer.pairing.methods import Method
from peer.pairing.sides import OfferedMethod, Terms, bytes_field
from peer.pairing.window import Window
from tests.kit.windows import ANNA, ASKED, BERT, PENDING, client_of, kinds, open_window, start

# Successful pairing.


def test_compare_registers_the_client() -> None:
    window = open_window()
    ceremony = start(window)
    client = client_of(ceremony)
    assert (ceremony.state, ceremony.role) == (ASKED, "guest")
    assert window.pending() == ceremony
    assert window.decide("c1", accept=True, now=5.0).state is PENDING
    assert window.complete("c1", client.confirm(), 9.0, session_id=1).state is PENDING
    done = window.registered("c1", user="anna", now=9.0)
    assert (done.state, done.user, done.role) == (State.REGISTERED, "anna", "guest")
    client.verify_untrusted({"confirm": done.device_tag})
    assert window.find("c1", session_id=1) == done
    assert window.take_ended() == [done]
    assert kinds(window) == ["window-opened", "ceremony-started", "registered", "window-closed"]


@pytest.mark.parametrize("late", [0.0, 500.0])
def test_the_events_of_a_success_are_known_before_it(late: float) -> None:
    """Also if the window closes during the commit: then its end is no part of the success."""
    window = open_window()
    ceremony = start(window)
    with pytest.raises(Busy):
        window.success_events("c1")
    window.decide("c1", accept=True, now=0.0)
    window.complete("c1", client_of(ceremony).confirm(), 0.0, session_id=1)
    window.expire(late)
    window.take_events()
    known = window.success_events("c1")
    assert window.take_events() == [], "nothing has happened yet"
    window.registered("c1", user="anna", now=late)
    assert window.take_events() == known
    assert [one.kind.value for one in known] == ["registered", "window-closed"][: 1 if late else 2]
    with pytest.raises(NoSuchCeremony):
        window.success_events("c1")


def test_the_plain_form_requires_only_the_device_user() -> None:
    window = open_window()
    start(window, form=StartForm.PLAIN)
    with pytest.raises(Busy):
        window.registered("c1", user="anna", now=1.0)
    assert window.decide("c1", accept=True, now=2.0).state is PENDING
    done = window.registered("c1", user="anna", now=2.0)
    assert done.state is State.REGISTERED
    assert done.device_tag == b""


def test_the_plain_form_accepts_no_tag() -> None:
    window = open_window()
    start(window, form=StartForm.PLAIN)
    with pytest.raises(Busy):
        window.complete("c1", {"confirm": b"\0" * 32}, 1.0, session_id=1)


def test_events_are_serializable_and_contain_no_secrets() -> None:
    window = open_window()
    ceremony = start(window)
    tag = bytes_field(client_of(ceremony).confirm(), "confirm")
    window.decide("c1", accept=True, now=0.0)
    window.complete("c1", {"confirm": tag}, 0.0, session_id=1)
    done = window.registered("c1", user="anna", now=0.0)
    text = json.dumps([dict(event.fields) for event in window.take_events()])
    assert ANNA.hex in text
    for secret in (tag, done.device_tag, b"\x11" * 32):
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in repr(window.__dict__)
    assert window.take_events() == []


# A client is registered only with the consent of both sides.


def test_a_tag_before_the_device_user_accepts_is_not_checked() -> None:
    window = open_window()
    ceremony = start(window)
    with pytest.raises(Busy):
        window.complete("c1", client_of(ceremony).confirm(), 1.0, session_id=1)
    with pytest.raises(Busy):
        window.complete("c1", {"confirm": b"\0" * 32}, 1.0, session_id=1)
    assert window.find("c1", session_id=1).state is ASKED


def test_registration_before_the_client_tag_is_refused() -> None:
    window = open_window()
    start(window)
    for _ in range(2):
        with pytest.raises(Busy):
            window.registered("c1", user="anna", now=1.0)
        if window.find("c1", session_id=1).state is ASKED:
            window.decide("c1", accept=True, now=1.0)
    assert window.find("c1", session_id=1).state is PENDING
    assert window.is_open(1.0)


def test_the_device_tag_is_not_available_before_the_commit() -> None:
    window = open_window()
    ceremony = start(window)
    window.decide("c1", accept=True, now=0.0)
    assert window.complete("c1", client_of(ceremony).confirm(), 0.0, session_id=1).device_tag == b""
    assert window.find("c1", session_id=1).device_tag == b""


def test_a_wrong_tag_ends_the_ceremony() -> None:
    window = open_window()
    ceremony = start(window)
    window.decide("c1", accept=True, now=0.0)
    with pytest.raises(Mismatch) as caught:
        window.complete("c1", {"confirm": b"\0" * 32}, 1.0, session_id=1)
    assert caught.value.reason == "wrong-code"
    assert window.find("c1", session_id=1).state is State.REFUSED
    with pytest.raises(UserRefused):
        window.complete("c1", client_of(ceremony).confirm(), 1.0, session_id=1)
    assert kinds(window) == ["window-opened", "ceremony-started", "mismatch"]
    assert window.failures == 1


def test_a_tag_of_another_session_is_refused() -> None:
    window = open_window()
    ceremony = start(window)
    window.decide("c1", accept=True, now=0.0)
    with pytest.raises(Mismatch):
        window.complete("c1", client_of(ceremony, b"\x99" * 32).confirm(), 1.0, session_id=1)


def test_another_session_cannot_access_a_ceremony() -> None:
    window = open_window()
    ceremony = start(window)
    window.decide("c1", accept=True, now=0.0)
    tag = bytes_field(client_of(ceremony).confirm(), "confirm")
    calls: list[Callable[[], object]] = [
        lambda: window.complete("c1", {"confirm": tag}, 1.0, session_id=2),
        lambda: window.find("c1", session_id=2),
        lambda: window.find("unknown", session_id=1),
        lambda: window.abort("c1", 1.0, session_id=2),
    ]
    for call in calls:
        with pytest.raises(NoSuchCeremony) as caught:
            call()
        assert str(caught.value) == "no such pairing ceremony on this connection"
    assert window.complete("c1", {"confirm": tag}, 1.0, session_id=1).state is PENDING


def test_a_tag_of_an_earlier_ceremony_requires_a_new_acceptance() -> None:
    # The binding is the same: session, keys, window, method and role are equal. The tag must still
    # not be accepted before the device's user accepts the new ceremony.
    window = open_window()
    tag = bytes_field(client_of(start(window)).confirm(), "confirm")
    window.decide("c1", accept=True, now=0.0)
    start(window, 1.0, ceremony_id="c2")
    with pytest.raises(Busy):
        window.complete("c2", {"confirm": tag}, 2.0, session_id=1)


@pytest.mark.parametrize("tag", [None, "0" * 32, 7, [], {}])
def test_a_tag_that_is_not_bytes_is_malformed_and_may_be_sent_again(tag: object) -> None:
    window = open_window()
    ceremony = start(window)
    window.decide("c1", accept=True, now=0.0)
    with pytest.raises(Malformed):
        window.complete("c1", {"confirm": tag}, 1.0, session_id=1)
    window.complete("c1", client_of(ceremony).confirm(), 1.0, session_id=1)


# Each refusal, timeout or crash is one failure, and the next ceremony can start.


def test_a_refusal_by_the_device_user_ends_the_ceremony() -> None:
    window = open_window()
    start(window)
    ended = window.decide("c1", accept=False, now=1.0)
    assert (ended.state, ended.reason) == (State.REFUSED, "refused")
    with pytest.raises(UserRefused):
        window.decide("c1", accept=True, now=1.0)
    assert kinds(window)[-1] == "refused"


def test_the_device_user_can_refuse_until_the_client_has_confirmed() -> None:
    window = open_window()
    start(window)
    window.decide("c1", accept=True, now=1.0)
    with pytest.raises(Busy):
        window.decide("c1", accept=True, now=2.0)
    assert window.decide("c1", accept=False, now=3.0).state is State.REFUSED


def test_only_the_device_can_revoke_a_commit() -> None:
    window = open_window()
    pair_until_commit = start(window)
    window.decide("c1", accept=True, now=0.0)
    window.complete("c1", client_of(pair_until_commit).confirm(), 0.0, session_id=1)
    with pytest.raises(Busy):
        window.abort("c1", 0.0, session_id=1)
    with pytest.raises(Busy):
        window.decide("c1", accept=False, now=0.0)
    with pytest.raises(Busy):
        start(window, 0.0, ceremony_id="c2")
    with pytest.raises(Busy):
        start(window, 0.0, ceremony_id="c2", fingerprint=BERT)
    window.session_ended(1, 0.0)
    window.close(0.0)
    assert window.expire(10_000.0) == []
    assert window.next_deadline(10_000.0) is None
    assert window.needs_port(10_000.0)
    assert window.registered("c1", user="anna", now=10_000.0).state is State.REGISTERED
    assert window.next_deadline(10_000.0) == 10_010.0


def test_a_commit_has_no_deadline() -> None:
    window = open_window()
    ceremony = start(window)
    window.decide("c1", accept=True, now=0.0)
    window.complete("c1", client_of(ceremony).confirm(), 1.0, session_id=1)
    # the window's deadline, which does not end the commit
    assert window.next_deadline(1.0) == 120.0
    assert window.expire(500.0) == []
    assert not window.is_open(500.0)
    done = window.registered("c1", user="anna", now=500.0)
    assert done.state is State.REGISTERED
    assert window.needs_port(509.0)


def test_the_keys_of_an_ended_ceremony_are_freed() -> None:
    sides: list[weakref.ref[CompareDevice]] = []

    def create(terms: Terms) -> CompareDevice:
        side = CompareDevice(terms)
        sides.append(weakref.ref(side))
        return side

    window = open_window(methods=[OfferedMethod(Method.COMPARE, create)])
    start(window)
    [side] = sides
    window.abort("c1", 1.0, session_id=1)
    gc.collect()
    assert side() is None


def test_a_failing_store_ends_the_ceremony() -> None:
    window = open_window()
    ceremony = start(window)
    window.decide("c1", accept=True, now=0.0)
    window.complete("c1", client_of(ceremony).confirm(), 0.0, session_id=1)
    ended = window.abort("c1", 0.0, reason="store")
    assert (ended.state, ended.reason, ended.device_tag) == (State.REVOKED, "store", b"")
    with pytest.raises(NoSuchCeremony):
        window.registered("c1", user="anna", now=0.0)
    assert window.budget.failures == 1


ENDINGS: dict[str, tuple[Callable[[Window], object], State, str]] = {
    "refused": (lambda w: w.decide("c1", accept=False, now=1.0), State.REFUSED, "refused"),
    "aborted": (lambda w: w.abort("c1", 1.0, session_id=1), State.REVOKED, "client"),
    "crashed": (lambda w: w.session_ended(1, 1.0), State.REVOKED, "session-ended"),
    "late": (lambda w: w.expire(200.0), State.EXPIRED, "too-late"),
}


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("how", ENDINGS)
def test_after_any_end_the_next_ceremony_can_start(how: str, accepted: bool) -> None:
    act, state, reason = ENDINGS[how]
    window = open_window(seconds=900)
    start(window)
    if accepted:
        window.decide("c1", accept=True, now=0.5)
    act(window)
    ended = window.find("c1", session_id=1)
    assert (ended.state, ended.reason) == (state, reason)
    assert window.pending() is None
    assert window.failures == 1
    assert window.budget.failures == 1
    assert window.next_deadline(200.0) == 900.0  # only the window's deadline, none of the ceremony
    again = start(window, 200.0, ceremony_id="c2")
    assert again.state is ASKED


def test_the_end_of_another_session_changes_nothing() -> None:
    window = open_window()
    ceremony = start(window)
    window.session_ended(2, 1.0)
    assert window.pending() == ceremony


def test_a_new_start_by_the_same_key_ends_the_old_ceremony() -> None:
    window = open_window()
    start(window)
    second = start(window, 5.0, ceremony_id="c2", session_id=2)
    assert window.pending() == second
    assert [(c.id, c.state, c.reason) for c in window.take_ended()] == [
        ("c1", State.EXPIRED, "restarted")
    ]
    with pytest.raises(NoSuchCeremony):
        window.decide("c1", accept=True, now=5.0)


def test_three_failures_close_the_window() -> None:
    window = open_window(seconds=900)
    for number in range(3):
        assert window.is_open(float(number))
        start(window, float(number), ceremony_id=f"c{number}")
        window.decide(f"c{number}", accept=False, now=float(number))
    assert not window.is_open(3.0)
    assert window.needs_port(3.0)  # the last client has not yet read its result
    with pytest.raises(NotOpen) as caught:
        start(window, 3.0, ceremony_id="c4")
    assert caught.value.reason == "window-closed"
    events = window.take_events()
    assert events[-1].kind is EventKind.WINDOW_CLOSED
    assert events[-1].fields["reason"] == "failures"


def test_repeated_starts_close_the_window_too() -> None:
    window = open_window()
    for number in range(3):
        start(window, 0.0, ceremony_id=f"c{number}")
    with pytest.raises(TooMany):
        start(window, 0.0, ceremony_id="c3")
    assert window.pending() is None
    assert window.budget.failures == 3


# Two keys in one window.


def test_two_keys_are_both_refused() -> None:
    window = open_window()
    ceremony = start(window)
    with pytest.raises(Overlap) as caught:
        start(window, 1.0, fingerprint=BERT, session_id=2, ceremony_id="c2")
    assert caught.value.reason == "overlap"
    first = window.find("c1", session_id=1)
    assert (first.state, first.reason) == (State.REFUSED, "overlap")
    with pytest.raises(UserRefused):
        window.decide("c1", accept=True, now=1.0)
    with pytest.raises(UserRefused):
        window.complete("c1", client_of(ceremony).confirm(), 1.0, session_id=1)
    with pytest.raises(NotOpen):
        start(window, 1.0, ceremony_id="c3")
    overlap = next(e for e in window.take_events() if e.kind is EventKind.OVERLAP)
    assert (overlap.fields["fingerprint"], overlap.fields["other"]) == (ANNA.hex, BERT.hex)
    assert window.needs_port(5.0)  # both clients have yet to read their refusals
    window.notified("c1")
    assert window.needs_port(5.0)
    assert not window.needs_port(11.0)


def test_two_keys_are_refused_also_when_the_first_has_ended() -> None:
    window = open_window()
    start(window)
    window.abort("c1", 1.0, session_id=1)
    with pytest.raises(Overlap):
        start(window, 2.0, fingerprint=BERT, ceremony_id="c2")


def test_two_keys_are_refused_also_after_the_device_user_accepted() -> None:
    window = open_window()
    start(window)
    window.decide("c1", accept=True, now=0.0)
    with pytest.raises(Overlap):
        start(window, 1.0, fingerprint=BERT, ceremony_id="c2")
    assert window.find("c1", session_id=1).state is State.REFUSED


def test_first_wins_keeps_the_first_ceremony_until_it_ends() -> None:
    window = open_window(overlap="first-wins")
    ceremony = start(window)
    with pytest.raises(Busy):
        start(window, 1.0, fingerprint=BERT, session_id=2, ceremony_id="c2")
    assert window.pending() == ceremony
    window.decide("c1", accept=False, now=2.0)
    assert start(window, 3.0, fingerprint=BERT, session_id=2, ceremony_id="c2").state is ASKED


def test_an_invalid_start_is_not_counted() -> None:
    window = open_window()
    requests: list[dict[str, Any]] = [
        {"name": "_((;;.::)"},
        {"method": "button"},
        {"role_asked": "owner"},
    ]
    for options in requests:
        with pytest.raises((Malformed, NotOffered)):
            start(window, fingerprint=BERT, **options)
    assert window.budget.failures == 0
    assert start(window).state is ASKED


# Requested roles, methods and names.


def test_a_role_that_the_window_does_not_allow_is_refused() -> None:
    window = open_window(role="user", roles=["guest"])
    for role in ("owner", "admin", "nonsense"):
        with pytest.raises(NotOffered) as caught:
            start(window, role_asked=role)
        assert caught.value.reason == "denied"
        assert "user" in caught.value.advice
    assert start(window, role_asked="guest").role == "guest"


def test_the_role_of_the_window_is_the_default() -> None:
    assert start(open_window(role="owner")).role == "owner"
    assert start(open_window(role="owner"), role_asked="owner").role == "owner"


def test_a_window_without_methods_or_with_an_unknown_rule_is_rejected() -> None:
    with pytest.raises(UsageError, match="method"):
        open_window(methods=[])
    with pytest.raises(ValueError, match="maybe"):
        open_window(overlap="maybe")


def test_the_name_is_normalised() -> None:
    assert start(open_window(), name="Zoe\u0308").name == "Zoë"
