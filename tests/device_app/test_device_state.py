"""The state of a device in one word: a pure function of facts and the time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from device_app.console.device_state import (
    Attempt,
    DeviceState,
    Ending,
    Facts,
    OpenWindow,
    WatchState,
    state_of,
)
from device_app.limits import PAIRED_SHOWN_SECONDS, REFUSED_SHOWN_SECONDS

NOW = 1000.0
WINDOW = OpenWindow(
    closes_at=NOW + 120, role="guest", methods=("code", "compare"), code="1234-5678"
)
ASKING = Attempt(
    id="5f0c",
    name="anna",
    role="user",
    method="sas",
    fingerprint="ab" * 32,
    ends_at=NOW + 60,
    is_asking=True,
    number="123456",
)
WORKING = replace(ASKING, is_asking=False)
OVERLAP = Ending(at=NOW, reason="overlap")
SUCCESS = Ending(at=NOW, name="anna", role="user", method="sas")
#: Each fact that decides, in the order in which the first one that applies wins.
BY_RANK: list[tuple[DeviceState, dict[str, Any], float | None]] = [
    (DeviceState.TROUBLE, {"problems": ("the disk is full",)}, None),
    (DeviceState.ASKING, {"attempt": ASKING}, NOW + 60),
    (DeviceState.WORKING, {"attempt": WORKING}, NOW + 60),
    (DeviceState.REFUSED, {"ending": OVERLAP}, NOW + REFUSED_SHOWN_SECONDS),
    (DeviceState.PAIRED, {"ending": SUCCESS}, NOW + PAIRED_SHOWN_SECONDS),
    (DeviceState.BLOCKED, {"blocked_until": NOW + 30}, NOW + 30),
    (DeviceState.OPEN, {"window": WINDOW}, NOW + 120),
    (DeviceState.IDLE, {}, None),
]


def state(now: float = NOW, **facts: Any) -> WatchState:
    return state_of(Facts(**facts), now)


def test_the_table_has_every_state_of_a_daemon() -> None:
    assert [found for found, _, _ in BY_RANK] == [*DeviceState][:-1]
    assert [*DeviceState][-1] is DeviceState.STOPPED, "which a daemon does not tell"


@pytest.mark.parametrize("rank", range(len(BY_RANK)), ids=[found for found, _, _ in BY_RANK])
def test_a_state_comes_before_those_below_it(rank: int) -> None:
    expected, facts, ends_at = BY_RANK[rank]
    assert state(**facts).state is expected
    assert state(**facts).ends_at == ends_at
    for _, lower, _ in BY_RANK[rank + 1 :]:
        found = state(**(lower | facts))
        assert found.state is expected
        if expected is not DeviceState.TROUBLE:
            assert (found.pairing, found.ends_at) == (expected, ends_at)


@pytest.mark.parametrize(
    ("facts", "until", "after"),
    [
        ({"ending": OVERLAP}, NOW + 60, DeviceState.IDLE),
        ({"ending": OVERLAP, "window": WINDOW}, NOW + 60, DeviceState.OPEN),
        ({"ending": OVERLAP, "blocked_until": NOW + 90}, NOW + 60, DeviceState.BLOCKED),
        ({"ending": SUCCESS}, NOW + 3, DeviceState.IDLE),
        ({"blocked_until": NOW + 30}, NOW + 30, DeviceState.IDLE),
        ({"blocked_until": NOW + 30, "window": WINDOW}, NOW + 30, DeviceState.OPEN),
        ({"window": WINDOW}, NOW + 120, DeviceState.IDLE),
    ],
)
def test_a_state_ends_when_its_time_is_up(
    facts: dict[str, Any], until: float, after: DeviceState
) -> None:
    before = state(**facts)
    last = state(math.nextafter(until, 0), **facts)
    assert last == before
    assert before.ends_at == until
    assert state(until, **facts).state is after


@pytest.mark.parametrize("reason", ["overlap", "mismatch", "refused"])
def test_a_refused_attempt_tells_the_reason_and_the_client(reason: str) -> None:
    found = state(ending=replace(SUCCESS, reason=reason), window=WINDOW)
    assert (found.state, found.reason, found.name) == (DeviceState.REFUSED, reason, "anna")
    assert found.code == WINDOW.code, "the window is still open, and shows the next code"
    assert found.id == ""


def test_the_number_is_part_of_the_state_only_while_the_user_is_asked() -> None:
    """`status` shows it then as well, and at no other time."""
    asking, working = state(attempt=ASKING), state(attempt=WORKING)
    assert (asking.number, asking.fingerprint, asking.id) == ("123456", "ab" * 32, "5f0c")
    assert (working.number, working.fingerprint, working.id) == ("", "", "5f0c")
    assert (working.name, working.role, working.method) == ("anna", "user", "sas")


def test_the_code_is_part_of_the_state_only_while_the_window_is_open() -> None:
    assert state(window=WINDOW).code == "1234-5678"
    closed = state(WINDOW.closes_at, window=WINDOW)
    assert (closed.code, closed.methods, closed.role) == ("", (), "")


def test_a_device_in_trouble_still_tells_what_is_needed_to_pair() -> None:
    found = state(problems=("the disk is full",), attempt=ASKING, window=WINDOW)
    assert (found.state, found.pairing) == (DeviceState.TROUBLE, DeviceState.ASKING)
    assert (found.number, found.code, found.ends_at) == ("123456", "1234-5678", NOW + 60)


def test_a_problem_that_only_counts_on_is_no_change() -> None:
    """That of the clock contains the time: there would be a line for each look at it."""
    first, later = (
        state(problems=(f"the time is {hour}, ahead of the system's",))
        for hour in ("10:00:05", "10:00:10")
    )
    assert first == later
    assert first.problems != later.problems
    assert first != state(problems=("the disk is full",))
    assert first != state(problems=(*first.problems, "the disk is full"))


def test_seconds_that_pass_are_no_change() -> None:
    assert state(NOW, window=WINDOW) == state(NOW + 100, window=WINDOW)
    extended = replace(WINDOW, closes_at=WINDOW.closes_at + 1)
    assert state(window=WINDOW) != state(window=extended)
