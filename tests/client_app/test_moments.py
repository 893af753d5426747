"""Durations and moments: what people may type, and what they are shown."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_app.moments import duration, moment, shown
from peer.errors import UsageError


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90", 90), ("90s", 90), ("500ms", 0.5), (" 2M ", 120), ("2min", 120), ("1h30m", 5400)),
        *(("2d", 172_800), ("1.5h", 5400), ("1d1s", 86_401)),
    ],
)
def test_a_duration(text: str, seconds: float) -> None:
    assert duration(text) == seconds
    if text != "90":
        assert moment(f" {text}") == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-1s", "s", "1x", "1 h", "1h-", "soon", "nan", "inf", "1e3", "9" * 40]
)
def test_no_duration(text: str) -> None:
    with pytest.raises(UsageError):
        duration(text)


@pytest.mark.parametrize(
    ("text", "seconds", "end_of_day"),
    [
        ("2030-06-01", 1_906_495_200, 1_906_581_600),
        ("2030-06-01T12:00", 1_906_538_400, 1_906_538_400),
        ("2030-06-01T12:00Z", 1_906_545_600, 1_906_545_600),
        ("2030-06-01T12:00+09:00", 1_906_513_200, 1_906_513_200),
        ("1906538400", 1_906_538_400, 1_906_538_400),
        ("0", 0, 0),
        ("20300601", 1_906_495_200, 1_906_581_600),
        ("20300601T1200", 1_906_538_400, 1_906_538_400),
    ],
)
def test_a_moment(text: str, seconds: float, end_of_day: float) -> None:
    assert moment(text) == seconds
    assert moment(text, whole_day=True) == end_of_day


@pytest.mark.parametrize(
    "text",
    [
        *("", "tomorrow", "2030-13-01", "-3d", "2030-06-01T25:00", "nan"),
        *("90", "2030", "203006", "20301301", "999999999", "20300601120000", "253402300800"),
    ],
)
def test_no_moment(text: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        moment(text)


@given(st.text(max_size=30))
def test_nothing_but_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        duration(text)
    with contextlib.suppress(UsageError):
        moment(text, whole_day=True)


def test_what_a_person_sees() -> None:
    assert shown(1_906_538_400) == "2030-06-01 12:00 +0200"
    assert shown(1_700_000_000.9) == "2023-11-14 23:13 +0100"
    assert shown(2**60).endswith("(seconds since 1970)")
    assert shown(253_402_300_799).endswith(("+0100", "(seconds since 1970)"))
