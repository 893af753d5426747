"""Option types that both command lines share: durations and times."""

import re
from datetime import timedelta
from typing import Final

import click

from peer.errors import UsageError
from peer.terminal.durations import LONGEST_SECONDS, parse_duration, parse_time

_ZERO: Final = re.compile(r"0+(\.0+)? ?(ms|s)?")


class Duration(click.ParamType[float]):
    """The type of an option that is a duration in seconds, `longest` at most.

    Durations are more than 0, unless `least` is 0.
    """

    name = "duration"

    def __init__(self, longest: float = LONGEST_SECONDS, *, least: float | None = None) -> None:
        self._longest = longest
        self._least = least

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds, or fail with a usage error."""
        if self._least == 0 and _ZERO.fullmatch(str(value).strip()):
            return 0.0
        try:
            seconds = parse_duration(str(value))
        except UsageError as error:
            self.fail(f"{error}. {error.advice}", param, ctx)
        if seconds > self._longest:
            self.fail(f"{value!r} is more than {self._longest:.0f} s", param, ctx)
        return seconds


class Time(click.ParamType[float | timedelta]):
    """The type of an option that is a time; `whole_day` as in `parse_time`."""

    name = "time"

    def __init__(self, *, whole_day: bool = False) -> None:
        self._whole_day = whole_day

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | timedelta:
        """Return what `parse_time` returns, or fail with a usage error."""
        try:
            return parse_time(str(value), whole_day=self._whole_day)
        except UsageError as error:
            self.fail(f"{error}. {error.advice}", param, ctx)
