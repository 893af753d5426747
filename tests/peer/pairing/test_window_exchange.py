"""Methods with an exchange of messages, in a pairing window."""

from typing import Any

import pytest

from peer.errors import Malformed
from peer.limits import DEFAULT_LIMITS
from peer.pairing.binding import Channel, Confirmation
from peer.pairing.button import ButtonClient
from peer.pairing.button import offer as offer_button
from peer.pairing.ceremony import Ceremony, Fields, State
from peer.pairing.compare import offer as offer_compare
from peer.pairing.errors import (
    Busy,
    Mismatch,
    NoSuchCeremony,
    NotOffered,
)
from peer.pairing.events import EventKind
from peer.pairing.methods import Method
from peer.pairing.sides import DeviceSide, OfferedMethod, Terms, bytes_field
from peer.pairing.window import Window
from peer.pairing.window_timer import Phase
from tests.kit.windows import ANNA, ASKED, DEVICE, PENDING, WINDOW_ID, client_of, open_window, start

# Methods with other steps than `compare`.


class Echo(DeviceSide):
    """The device's side of a method with an exchange; every value must be b"right"."""

    method = Method.SAS

    def begin_untrusted(self, message: Fields) -> Fields:
        return {"begun": self._right(message, "first")}

    def exchange_untrusted(self, message: Fields) -> Fields:
        return {"exchanged": self._right(message, "second")}

    @property
    def number(self) -> str:
        return "123456"

    def check_untrusted(self, message: Fields) -> None:
        self._right(message, "third")

    def device_tag(self) -> bytes:
        return b"tag"

    def _derive_tags_untrusted(self, _message: Fields) -> Confirmation:
        raise AssertionError("this method derives no tags")

    @staticmethod
    def _right(message: Fields, name: str) -> bytes:
        value = bytes_field(message, name)
        if value != b"right":
            raise Mismatch("this is not right", advice="Start again.")
        return value


ECHO = OfferedMethod(Method.SAS, Echo)
FIRST, SECOND, THIRD = ({name: b"right"} for name in ("first", "second", "third"))


def begun(window: Window, now: float = 0.0, **options: Any) -> Ceremony:
    return start(window, now, **{"method": "sas", "message": FIRST} | options)


def test_the_exchange_precedes_the_question_to_the_user() -> None:
    window = open_window(methods=[ECHO])
    ceremony = begun(window)
    assert (ceremony.state, ceremony.answer) == (PENDING, {"begun": b"right"})
    assert ceremony.number == ""
    with pytest.raises(Busy):
        window.decide("c1", accept=True, now=1.0)
    with pytest.raises(Busy):
        window.complete("c1", THIRD, 1.0, session_id=1)
    ceremony = window.exchange("c1", SECOND, 2.0, session_id=1)
    assert (ceremony.state, ceremony.answer) == (ASKED, {"exchanged": b"right"})
    assert ceremony.number == "123456"
    with pytest.raises(Busy):
        window.exchange("c1", SECOND, 2.0, session_id=1)
    with pytest.raises(Busy):
        window.complete("c1", THIRD, 2.0, session_id=1)
    window.decide("c1", accept=True, now=3.0)
    window.complete("c1", THIRD, 4.0, session_id=1)
    assert window.registered("c1", user="anna", now=4.0).device_tag == b"tag"


def test_the_exchange_has_a_step_deadline_and_the_user_a_longer_one() -> None:
    window = open_window(methods=[ECHO], seconds=900)
    begun(window)
    assert window.next_deadline(0.0) == DEFAULT_LIMITS.step_seconds
    window.exchange("c1", SECOND, 50.0, session_id=1)
    assert window.next_deadline(50.0) == 50.0 + DEFAULT_LIMITS.person_seconds
    window.decide("c1", accept=False, now=51.0)
    begun(window, 60.0, ceremony_id="c2")
    [late] = window.expire(60.0 + DEFAULT_LIMITS.step_seconds)[-1:]
    assert (late.id, late.state, late.reason) == ("c2", State.EXPIRED, "too-late")


def test_another_session_cannot_continue_an_exchange() -> None:
    window = open_window(methods=[ECHO])
    begun(window)
    with pytest.raises(NoSuchCeremony):
        window.exchange("c1", SECOND, 1.0, session_id=2)
    assert window.exchange("c1", SECOND, 1.0, session_id=1).state is ASKED


@pytest.mark.parametrize("value", [None, "right", 1])
def test_a_missing_or_mistyped_field_changes_nothing(value: object) -> None:
    window = open_window(methods=[ECHO])
    with pytest.raises(Malformed):
        begun(window, message={"first": value})
    assert (window.budget.failures, window.failures, window.pending()) == (0, 0, None)
    begun(window)
    with pytest.raises(Malformed):
        window.exchange("c1", {"second": value}, 1.0, session_id=1)
    window.exchange("c1", SECOND, 1.0, session_id=1)
    window.decide("c1", accept=True, now=1.0)
    with pytest.raises(Malformed):
        window.complete("c1", {"third": value}, 1.0, session_id=1)
    assert window.complete("c1", THIRD, 1.0, session_id=1).state is PENDING


def test_a_wrong_first_message_counts_as_attempt_and_failure() -> None:
    window = open_window(methods=[ECHO])
    with pytest.raises(Mismatch):
        begun(window, message={"first": b"wrong"})
    assert (window.budget.failures, window.failures) == (1, 1)
    assert window.find("c1", session_id=1).state is State.REFUSED
    kinds = [event.kind for event in window.take_events()]
    assert kinds[-2:] == [EventKind.CEREMONY_STARTED, EventKind.MISMATCH]


def test_a_wrong_exchange_ends_the_ceremony_and_three_close_the_window() -> None:
    window = open_window(methods=[ECHO])
    for number in range(3):
        begun(window, ceremony_id=f"c{number}")
        with pytest.raises(Mismatch):
            window.exchange(f"c{number}", {"second": b"wrong"}, 1.0, session_id=1)
        assert window.find(f"c{number}", session_id=1).state is State.REFUSED
    assert window.phase is Phase.LINGERING


def test_a_method_without_a_question_waits_only_for_the_client() -> None:
    window = open_window(methods=[offer_button()], role="admin", unverified_role="guest")
    ceremony = start(window, method="button")
    assert (ceremony.state, ceremony.role) == (PENDING, "guest")
    channel = Channel(b"\x11" * 32, ANNA, DEVICE, WINDOW_ID)
    client = ButtonClient()
    client.begin()
    client.started_untrusted(Terms(channel, "guest", "anna", "c1"), {})
    window.complete("c1", client.confirm(), 1.0, session_id=1)
    tag = window.registered("c1", user="anna", now=1.0).device_tag
    client.verify_untrusted({"confirm": tag})


def test_a_method_that_verifies_no_key_grants_only_the_unverified_role() -> None:
    window = open_window(
        methods=[offer_compare(), offer_button()],
        role="admin",
        roles=["guest", "user"],
        unverified_role="guest",
    )
    for role in ("admin", "user"):
        with pytest.raises(NotOffered):
            start(window, method="button", role_asked=role)
    assert start(window, method="button", role_asked="guest").role == "guest"


def test_a_tag_of_another_method_is_rejected_by_the_window() -> None:
    window = open_window(methods=[offer_compare(), offer_button()])
    ceremony = start(window, method="button")
    with pytest.raises(Mismatch):
        window.complete("c1", client_of(ceremony).confirm(), 1.0, session_id=1)
