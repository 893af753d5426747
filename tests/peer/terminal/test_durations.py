"""Durations and times: accepted spellings, and displayed forms."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import UsageError
from peer.terminal.durations import (
    format_duration,
    format_time,
    format_time_from,
    format_time_utc,
    parse_duration,
    parse_time,
    past_times,
    resolve_time,
)


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
def test_valid_durations_are_parsed(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    if text != "90":
        assert parse_time(f" {text}") == timedelta(seconds=seconds)
        assert resolve_time(parse_time(text), 1000) == 1000 + seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "0s", "-1s", "-3", "s", "1x", "1 hx", "1h-", "1m x", "soon", "nan", "inf"),
        *("1e3", "٢d", "9" * 40, "9" * 40 + "s"),
    ],
)
def test_invalid_durations_are_rejected(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds", "end_of_day"),
    [
        ("2030-06-01", 1_906_495_200, 1_906_581_600),
        ("2030-06-01T12:00", 1_906_538_400, 1_906_538_400),
        ("2030-06-01 12:00", 1_906_538_400, 1_906_538_400),
        ("2030-06-01T12:00Z", 1_906_545_600, 1_906_545_600),
        ("2030-06-01T12:00+09:00", 1_906_513_200, 1_906_513_200),
        ("1906538400", 1_906_538_400, 1_906_538_400),
        ("1906538400.5", 1_906_538_400.5, 1_906_538_400.5),
        ("0", 0, 0),
        ("20300601", 1_906_495_200, 1_906_581_600),
        ("20300601T1200", 1_906_538_400, 1_906_538_400),
        ("1970-01-02T01:00+01:00", 86_400, 86_400),
        ("2026-10-25", 1_792_879_200, 1_792_969_200),  # 25 hours, since summer time ends
    ],
)
def test_valid_times_are_parsed(text: str, seconds: float, end_of_day: float) -> None:
    assert parse_time(text) == resolve_time(parse_time(text), 1000) == seconds
    assert parse_time(text, whole_day=True) == end_of_day


@pytest.mark.parametrize(
    "text",
    [
        *("", "tomorrow", "2030-13-01", "2026-02-30", "-3d", "-5", "2030-06-01T25:00", "nan"),
        *("90", "12.5", "2030", "203006", "20301301", "999999999", "20300601120000", "1e9"),
        *("253402300800", "10000-01-01", "2x", "٢d"),
    ],
)
def test_invalid_times_are_rejected(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        parse_time(text)


def test_the_last_day_with_a_date_ends_with_the_last_second() -> None:
    """People write it for "never"; the next day has no date."""
    assert parse_time("9999-12-31", whole_day=True) == 253_402_300_799
    assert parse_time("9999-12-31") == 253_402_210_800  # an hour east of Greenwich
    assert parse_time("9999-12-31T23:59") == 253_402_297_140


def test_a_time_after_the_last_one_is_refused_with_the_limit() -> None:
    with pytest.raises(UsageError, match="the latest time is 9999-12-31T23:59:59Z"):
        parse_time("9999-12-31T23:59:59-02:00")


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_raises_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        parse_duration(text)
    with contextlib.suppress(UsageError):
        parse_time(text, whole_day=True)


def test_durations_are_rounded_to_two_units() -> None:
    assert [format_duration(s) for s in (0.2, 5, 65, 120, 4000, 86_399, 90_000)] == [
        *("0 s", "5 s", "1 min 5 s", "2 min", "1 h 7 min", "1 d", "1 d 1 h"),
    ]
    assert format_duration(parse_duration("2d4h")) == "2 d 4 h"


def test_times_are_shown_in_the_local_time_zone() -> None:
    assert format_time(1_906_538_400) == "2030-06-01 12:00 +0200"
    assert format_time(1_700_000_000.9) == "2023-11-14 23:13 +0100"
    assert format_time(126_000, with_seconds=True) == "1970-01-02 12:00:00 +0100"
    assert format_time_utc(126_000) == "1970-01-02T11:00:00Z"
    assert format_time_from(100, 40).endswith("+0100 (in 1 min)")
    assert format_time_from(40, 100).endswith("+0100 (1 min ago)")


@pytest.mark.parametrize("seconds", [2.0**60, 1e18, -1e18, float("nan")])
def test_times_outside_the_calendar_are_shown_as_numbers(seconds: float) -> None:
    assert format_time(seconds) == format_time_utc(seconds) == f"{seconds:.0f} s since 1970"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1 h 30 min", 5400),
        ("2 days", 172_800),
        ("1 week", 604_800),
        ("３ h", 10_800),
        ("5 m", 300),
    ],
)
def test_a_duration_may_have_spaces_and_whole_words(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(1, 10_000_000))
def test_a_displayed_duration_is_read_back(seconds: int) -> None:
    shown = format_duration(seconds)
    assert format_duration(parse_duration(shown)) == shown


@pytest.mark.parametrize("text", ["20301224", " 20301224 ", "20301399", "２０３０１２２４"])
def test_eight_digits_are_a_date_or_an_error_and_never_seconds(text: str) -> None:
    with pytest.raises(UsageError, match="eight digits are read as a date"):
        parse_duration(text)
    assert parse_duration("20301224s") == 20_301_224
    with contextlib.suppress(UsageError):
        assert parse_time(text) == parse_time("2030-12-24")


@pytest.mark.parametrize(
    "text",
    [
        "2030\u201112\u201124",  # no-break hyphens
        "2030\u201312\u201324",  # en dashes
        "\u200e2030\u221212\u221224\u200e",  # minus signs, between the marks of a file manager
        "\ufeff2030-12-24\u00a0",
        "2030\u00ad-12-24",
    ],
)
def test_a_pasted_date_is_read(text: str) -> None:
    assert parse_time(text) == parse_time("2030-12-24")
    assert parse_time(f"{text}\u202f18:00") == parse_time("2030-12-24 18:00")


def test_a_pasted_duration_is_read() -> None:
    assert parse_duration("1\u00a0h 30\u202fmin\u200b") == 5400
    with pytest.raises(UsageError, match="in the past"):
        parse_time("\u22125m")


@pytest.mark.parametrize("text", ["203012241800", "1798131600000", "10000000000"])
def test_a_number_with_more_digits_than_seconds_have_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        parse_time(text)


@pytest.mark.parametrize(
    ("zone", "text", "nearest"),
    [
        ("Europe/Berlin", "2030-03-31T02:00", "2030-03-31T01:59 and 2030-03-31T03:00"),
        ("Europe/Berlin", "2030-03-31 02:59:59.5", "2030-03-31T01:59 and 2030-03-31T03:00"),
        ("Australia/Lord_Howe", "2030-10-06T02:10", "2030-10-06T01:59 and 2030-10-06T02:30"),
        ("Africa/Cairo", "2026-04-24T00:30", "2026-04-23T23:59 and 2026-04-24T01:00"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "20300331T0230", "2030-03-31T01:59 and 2030-03-31T03:00"),
    ],
)
def test_a_time_of_day_that_does_not_exist_is_refused(
    monkeypatch: pytest.MonkeyPatch, zone: str, text: str, nearest: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    with pytest.raises(UsageError, match="does not exist") as caught:
        parse_time(text)
    assert caught.value.advice == f"The nearest times are {nearest}."
    for one in nearest.split(" and "):
        assert isinstance(parse_time(one), float)


def test_a_time_of_day_that_happens_twice_needs_its_offset() -> None:
    with pytest.raises(UsageError, match="happens twice") as caught:
        parse_time("2030-10-27T02:30")
    for offset, seconds in (("+02:00", 1_919_291_400), ("+01:00", 1_919_295_000)):
        assert f"2030-10-27T02:30:00{offset}" in caught.value.advice
        assert parse_time(f"2030-10-27T02:30{offset}") == seconds


@pytest.mark.parametrize(
    ("zone", "text", "start", "end"),
    [
        ("Africa/Cairo", "2026-04-24", "2026-04-24 01:00 +0300", "2026-04-25 00:00 +0300"),
        ("America/Havana", "2026-11-01", "2026-11-01 00:00 -0400", "2026-11-02 00:00 -0500"),
    ],
)
def test_a_date_is_the_whole_day_even_if_midnight_is_skipped_or_repeated(
    monkeypatch: pytest.MonkeyPatch, zone: str, text: str, start: str, end: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    begun, ended = parse_time(text), parse_time(text, whole_day=True)
    assert isinstance(begun, float)
    assert isinstance(ended, float)
    assert (format_time(begun), format_time(ended)) == (start, end)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2030-12-24T24:00", "the hour 24 is 00:00 of the next day"),
        ("2030-12-31T23:59:60", "seconds go from 00 to 59"),
        ("2030-12-31T23:60", "minutes from 00 to 59"),
        ("30-12-24", "is not a time"),
        ("24.12.2030", "is not a time"),
        ("12/24/2030", "is not a time"),
    ],
)
def test_a_time_that_no_clock_shows_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_time(text)


def test_times_in_the_past_are_reported_together() -> None:
    assert past_times(1000, begin=None, end=0) == ""
    assert past_times(1000, begin=timedelta(1), end=1001.0) == ""
    both = past_times(2_000_000_000, begin=1_906_538_400, end=1_906_538_400.0)
    assert both.startswith("Access would begin in the past: 2030-06-01 12:00 +0200 (")
    assert "ago). Access would end in the past: 2030-06-01" in both


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("24/12/2026", "starts with the year"),
        ("24.12.2026 18:00", "starts with the year"),
        ("12-24-2026", "starts with the year"),
        ("2026/12/24", "written with -"),
        ("2026-12", "a part is missing"),
        ("2026-02-30", "no such day"),
        ("20260230", "eight digits are read as a date, and the calendar has no such day"),
        ("203012241800", "a T separates date and time"),
        ("20301224180000", "a T separates date and time"),
        ("2026-W52", "a week is not a day"),
        ("24 Dec 2026", "written as a number"),
        ("December 24", "written as a number"),
        ("18:00", "needs its date"),
        ("6pm", "needs its date"),
        ("6 p.m.", "needs its date"),
        ("tomorrow", "give the date"),
        ("next week", "give the date"),
        ("Monday", "give the date"),
        ("now", "give the date"),
        ("never", "0 does that"),
        ("-5m", "in the past"),
        ("5 minutes ago", "in the past"),
        ("0h", "more than 0"),
        ("1,5h", "a fraction has a point"),
        ("1 month", "differ in length"),
        ("2y", "differ in length"),
        ("in 2h", "unit alone"),
        ("+2h", "unit alone"),
        ("PT30M", "unit alone"),
        ("1h30", "last number has no unit"),
    ],
)
def test_an_error_says_how_a_time_that_people_type_is_written(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)):
        parse_time(text)


@pytest.mark.parametrize("text", ["2026-12-24", "2026-12-24T18:00", "20261224T180000", "2026-12"])
def test_a_date_is_not_a_duration(text: str) -> None:
    with pytest.raises(UsageError, match="it is a date"):
        parse_duration(text)
