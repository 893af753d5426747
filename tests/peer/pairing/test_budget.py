"""The attempt budget (protocol §4): after ten failures, a backoff of 30 s up to a day."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import Malformed
from peer.limits import Limits
from peer.pairing.budget import AttemptBudget


def after(failures: int, now: float = 0.0) -> AttemptBudget:
    budget = AttemptBudget()
    for _ in range(failures):
        budget = budget.debit(now)
    return budget


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [
        (0, 0),
        (9, 0),
        (10, 30),
        (11, 60),
        (12, 120),
        (20, 30_720),
        (21, 61_440),
        (22, 86_400),
        (500, 86_400),
    ],
)
def test_the_backoff_doubles_from_the_tenth_failure_to_a_day(failures: int, seconds: float) -> None:
    budget = after(failures, now=1000.0)
    assert budget.seconds_blocked(1000.0) == seconds
    assert budget.may_start(1000.0) == (seconds == 0)
    assert budget.may_start(1000.0 + seconds)
    if seconds:
        assert not budget.may_start(1000.0 + seconds - 0.001)


def test_a_success_resets_the_failures() -> None:
    budget = after(30).refund()
    assert budget == AttemptBudget()
    assert budget.may_start(0.0)


def test_the_backoff_uses_the_configured_limits() -> None:
    limits = Limits(backoff_after=1, backoff_base_seconds=2.0, backoff_max_seconds=5.0)
    budget = AttemptBudget(limits=limits)
    waits = []
    for _ in range(4):
        budget = budget.debit(0.0)
        waits.append(budget.seconds_blocked(0.0))
    assert waits == [2.0, 4.0, 5.0, 5.0]


def test_a_restart_restores_the_remaining_backoff() -> None:
    record = json.loads(json.dumps(after(12, now=500.0).record(530.0)))
    assert record == {"failures": 12, "remaining": 90.0}
    # After the restart the monotonic clock of the board is at 3 s.
    restored = AttemptBudget.restored(record, 3.0)
    assert restored.seconds_blocked(3.0) == 90.0
    assert restored.debit(100.0).seconds_blocked(100.0) == 240.0


@given(st.integers(0, 40), st.lists(st.floats(0, 1000), max_size=5))
def test_a_power_cut_never_shortens_a_backoff(failures: int, boots: list[float]) -> None:
    # As on the device, the record is written at the debit only.
    budget = after(failures, now=7.0)
    record = budget.record(7.0)
    for boot in boots:
        assert AttemptBudget.restored(record, boot).seconds_blocked(boot) == pytest.approx(
            budget.seconds_blocked(7.0), abs=1e-6
        )


def test_without_a_record_the_budget_is_unused() -> None:
    assert AttemptBudget.restored(None, 5.0) == AttemptBudget()


@pytest.mark.parametrize(
    "remaining", [None, "30", True, -1, -0.001, 1e9, math.inf, -math.inf, math.nan]
)
def test_an_invalid_remaining_time_gives_the_full_backoff(remaining: object) -> None:
    budget = AttemptBudget.restored({"failures": 11, "remaining": remaining}, 0.0)
    assert budget.seconds_blocked(0.0) == 60.0


@pytest.mark.parametrize("failures", [None, "3", 3.0, True, -1])
def test_a_record_without_a_count_is_damaged(failures: object) -> None:
    with pytest.raises(Malformed, match="damaged") as caught:
        AttemptBudget.restored({"failures": failures, "remaining": 0}, 0.0)
    assert caught.value.advice


def test_a_huge_number_of_failures_is_capped() -> None:
    budget = AttemptBudget.restored({"failures": 10**30, "remaining": 1}, 0.0)
    assert budget.debit(0.0).seconds_blocked(0.0) == 86_400
    assert budget.debit(0.0).failures == 1_000_000
